"""What the columns of a file mean, and how its values are written. Saved by name, guessed by guess.py."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from routing.imports.errors import Unreadable
from routing.imports.sheets import DELIMITERS, ENCODINGS, Form

#: Field, what it means to people, and what it is for.
COLUMNS = {
    "country": ("Country", "ISO code or name"),
    "mcc": ("MCC", "Mobile country code"),
    "mnc": ("MNC", "Mobile network code, a list of them, or * for the whole MCC"),
    "mccmnc": ("MCC+MNC joined", "25501; an MCC alone is the whole MCC"),
    "dial_code": ("Country calling code or prefix", "380, or a whole prefix like 38067"),
    "area_code": ("Area code", "What follows the country calling code"),
    "price": ("Price", "Of one segment, as it is charged (see below)"),
    "price_delivered": ("Price on delivery", "Where a list has two prices"),
    "fee": ("Fee", "Added to the price, like a carrier's fee"),
    "currency_column": ("Currency", "ISO 4217; else the one below counts for all"),
    "valid_from": ("Valid from", "Of each row"),
    "valid_to": ("Valid until", "Of each row, the first moment when it does not count any more"),
    "only_column": ("Rows are chosen by", "A column that tells rows to take from others"),
}
DIVISORS = {1: "whole units (0.059 EUR)", 100: "hundredths (5.9 cents)", 1000: "thousandths (59 mills)"}
DECIMALS = {".": "a point (0.059)", ",": "a comma (0,059)"}
DATES = {"dmy": "day first (31/12/2026)", "mdy": "month first (12/31/2026)"}
REPEATS = {
    "refuse": "an error, unless they say the same",
    "dearest": "the dearest counts",
    "cheapest": "the cheapest counts",
    "last": "the last counts",
}
CHARGED = {"submit": "on submit", "delivery": "on delivery"}
CURRENCY = re.compile("[A-Z]{3}")
LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Mapping:
    """Columns by their names in the file; empty: there is none. Then how values are written."""

    country: str = ""
    mcc: str = ""
    mnc: str = ""
    mccmnc: str = ""
    dial_code: str = ""
    area_code: str = ""
    price: str = ""
    price_delivered: str = ""
    fee: str = ""
    currency_column: str = ""
    valid_from: str = ""
    valid_to: str = ""
    only_column: str = ""
    only_words: str = ""  # comma-separated: a row is taken whose column has one of them
    kind: str = "csv"
    encoding: str = "utf-8"
    delimiter: str = ","
    header: int = 1
    decimal: str = "."
    divisor: int = 1
    currency: str = ""
    charged: str = "submit"
    dates: str = "dmy"
    repeats: str = "refuse"
    pad_mnc: bool = False  # a spreadsheet has eaten leading zeros: 1 is 01

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def form(self) -> Form:
        return Form(self.kind, self.encoding, self.delimiter, self.header)

    @property
    def used(self) -> list[str]:
        """The columns of the file that it needs."""
        return [name for name in (getattr(self, field) for field in COLUMNS) if name]


def problems(mapping: Mapping, columns: Iterable[str]) -> list[str]:
    """Why nothing can be read by it; empty where it can."""
    found = []
    there = set(columns)
    if missing := [name for name in mapping.used if name not in there]:
        found.append(f"The file has no column {', '.join(missing)}.")
    if not (mapping.country or mapping.mcc or mapping.mccmnc or mapping.dial_code):
        found.append("Choose a column that tells the place: country, MCC, MCC+MNC or calling code.")
    if mapping.mnc and not mapping.mcc:
        found.append("An MNC needs the column of its MCC.")
    if mapping.area_code and not mapping.dial_code:
        found.append("An area code needs the column of its country calling code.")
    if not (mapping.price or mapping.price_delivered):
        found.append("Choose the column of the price.")
    if mapping.price_delivered and mapping.charged == "delivery":
        found.append("There are two prices: the first one is charged on submit then.")
    if not mapping.currency_column and not CURRENCY.fullmatch(mapping.currency):
        found.append("Give the currency, or the column that has it.")
    if bool(mapping.only_column) != bool(mapping.only_words):
        found.append("To choose rows, give both a column and the words that it must contain.")
    for name, value, allowed in (
        ("encoding", mapping.encoding, ENCODINGS),
        ("delimiter", mapping.delimiter, DELIMITERS),
        ("decimal", mapping.decimal, DECIMALS),
        ("divisor", mapping.divisor, DIVISORS),
        ("dates", mapping.dates, DATES),
        ("repeats", mapping.repeats, REPEATS),
        ("charged", mapping.charged, CHARGED),
    ):
        if value not in allowed:
            found.append(f"{name} is {value!r}.")
    return found


def column_names(cells: list[str]) -> list[str]:
    """Of a header, each once: an empty one is called by its place, the second of a name has a number."""
    found: list[str] = []
    for number, cell in enumerate(cells, start=1):
        name = " ".join(cell.split())[:LONGEST_NAME] or f"column {number}"
        again = 2
        while name in found:
            name = f"{' '.join(cell.split())[:LONGEST_NAME]} ({again})"
            again += 1
        found.append(name)
    return found


def check(mapping: Mapping, columns: Iterable[str]) -> None:
    """Raises Unreadable."""
    if found := problems(mapping, columns):
        raise Unreadable(" ".join(found))
