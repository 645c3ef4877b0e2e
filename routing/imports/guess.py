"""A first mapping for a file, by the names of its columns and by its first rows. A person corrects it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from routing.imports import sheets
from routing.imports.errors import Unreadable
from routing.imports.mapping import Mapping, column_names
from routing.imports.sheets import Form, Row

LOOKED_AT = 60  # rows
SHOWN = 12
PREAMBLE = 40  # rows in which the header may stand

# The first pattern that a column's name matches (lower case, letters and digits only, words by one space).
NAMES: dict[str, tuple[str, ...]] = {
    "mccmnc": ("mcc ?mnc", "mwx", "network ?code", "plmn", "mcc mnc code", "imsi prefix"),
    "mcc": ("mcc", "mobile country code"),
    "mnc": ("mnc", "mnc list", "mncs", "mobile network code"),
    "country": (
        "iso2?", "iso country", "iso country code", "iso code", "country iso", "iso2 code", "alpha 2",
        "countrycode", "country", "country name", "destination country", "страна", "країна",
    ),
    "dial_code": (
        "country code", "dial ?code", "calling code", "prefix", "dial prefix", "phone code", "code",
        "префикс", "префікс",
    ),
    "area_code": ("area ?code", "national prefix", "destination code"),
    "price_delivered": ("price ?delivered", "price on delivery", "delivered price", "dlr price", "price delivery"),
    "price": (
        "current price", "domesticprice", "price ?submit", "price on submit", "submit price", "new (price|rate)",
        "(price|rate|cost)( .*)?", "(.* )?(price|rate|cost)( per (sms|msg|message|segment))?", "цена.*", "ціна.*",
    ),
    "fee": ("carrier ?fee", "surcharge", "fee"),
    "currency_column": ("currency", "currency code", "price unit", "ccy", "cur", "валюта"),
    "valid_from": ("effective( date| from)?", "valid ?from", "start( date)?", "from", "date from", "дата"),
    "valid_to": ("cease( date)?", "valid ?(to|till|until)", "end( date)?", "until", "expires?", "date to"),
}  # fmt: skip
# What is no price of a segment, whatever else its name says.
NOT_A_PRICE = re.compile("old|previous|inbound|percent|base|success|change|shortcode|short code|\bms$|pct|type|kind")
# A column with several directions or classes in it, and the rows that are meant.
CHOOSERS = (
    ("description", "outbound sms"),
    ("class", "transactional"),
    ("type", "mobile"),
    ("direction", "outbound"),
)
CURRENCIES = [
    "EUR",
    "USD",
    "GBP",
    "UAH",
    "PLN",
    "CHF",
    "RUB",
    "KZT",
    "TRY",
    "AED",
    "INR",
    "NGN",
    "CNY",
    "JPY",
    "CAD",
    "AUD",
    "SEK",
    "NOK",
    "DKK",
    "CZK",
    "RON",
    "HUF",
]
CURRENCY = re.compile(rf"\b({'|'.join(CURRENCIES)})\b")
SIGNS = {"€": "EUR", "$": "USD", "£": "GBP", "₴": "UAH"}
MINOR = re.compile(r"\b(cents?|pence|minor|копе\w*|коп)\b", re.I)
DATE = re.compile(r"\b(\d{1,2}\.\d{1,2}\.\d{4}|\d{4}-\d{2}-\d{2})\b")


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a file as a person sees it, and the mapping that it seems to want."""

    columns: list[str]
    rows: list[list[str]]
    mapping: Mapping
    date: str = ""  # one that stands above the header: perhaps when the list begins


def look(content: bytes, form: Form | None = None) -> Head:
    """`form` is what a person says of the file; without it that is guessed too. Raises Unreadable."""
    detected = form or sheets.detect(content)
    rows = list(islice(sheets.read(content, detected), LOOKED_AT))
    if not rows:
        raise Unreadable("There are no rows in the file.")
    place = header_of(rows) if form is None else _chosen(rows, form.header)
    header, after = rows[place], rows[place + 1 :]
    if not after:
        raise Unreadable("There is a header, and no row after it.")
    data = [row for row in after if not (row.fault or row.skipped)]
    columns = column_names(header.cells)
    detected = replace(detected, header=header.line)
    above = " ".join(cell for row in rows[:place] for cell in row.cells)
    date = DATE.search(above)
    mapping = guess(columns, data, detected, above)
    return Head(columns, [row.cells for row in data[:SHOWN]], mapping, date[0] if date else "")


def _chosen(rows: Sequence[Row], line: int) -> int:
    for place, row in enumerate(rows):
        if row.line >= line:
            return place
    raise Unreadable(f"There is no line {line} among the first {len(rows)} rows.")


def header_of(rows: Sequence[Row]) -> int:
    """The row with most names that are known."""
    scores = [len(set(_fields(column_names(row.cells)).values())) for row in rows[:PREAMBLE]]
    return scores.index(max(scores))


def guess(columns: list[str], data: Sequence[Row], form: Form, above: str = "") -> Mapping:
    found: dict[str, Any] = {field: column for column, field in reversed(_fields(columns).items())}
    sample = {column: _values(data, place) for place, column in enumerate(columns)}
    _tell_country_code(found, sample)
    if "area_code" in found and "dial_code" not in found:
        del found["area_code"]
    if "mnc" in found and "mcc" not in found:
        del found["mnc"]
    price_names = [found[name] for name in ("price", "price_delivered") if name in found]
    prices = [value for name in price_names for value in sample[name]]
    told = " ".join([*price_names, above])
    only_column, only_words = _chooser(columns, sample)
    # Names without codes (Twilio, Plivo): several operators share the one place that can be told, their country.
    nameless = not ({"mcc", "mccmnc", "dial_code"} & set(found))
    senders = "number_type" in columns
    return replace(
        Mapping(),
        **found,
        only_column=only_column,
        only_words=only_words,
        kind=form.kind,
        encoding=form.encoding,
        delimiter=form.delimiter,
        header=form.header,
        decimal="," if sum("," in p and "." not in p for p in prices) > sum("." in p for p in prices) else ".",
        divisor=100 if MINOR.search(told) else 1,
        currency=_currency(told, prices),
        charged="submit",
        repeats="dearest" if nameless or senders else "refuse",
    )


def _values(data: Sequence[Row], place: int) -> list[str]:
    return [row.cells[place] for row in data if place < len(row.cells) and row.cells[place]]


def _fields(columns: Sequence[str]) -> dict[str, str]:
    """Column -> field. Each field is given to the column that matches its earliest pattern."""
    words = {column: " ".join(re.findall(r"[^\W_]+", column.casefold())) for column in columns}
    found: dict[str, str] = {}
    for field, patterns in NAMES.items():
        for pattern in patterns:
            fitting = [
                column
                for column in columns
                if column not in found
                and re.fullmatch(pattern, words[column])
                and not (field == "price" and NOT_A_PRICE.search(words[column]))
            ]
            if fitting:
                found[fitting[0]] = field
                break
    return found


def _tell_country_code(found: dict[str, str], sample: dict[str, list[str]]) -> None:
    """ "Country code" may be UA or 380: its values tell."""
    for field, other in (("dial_code", "country"), ("country", "dial_code")):
        column = found.get(field, "")
        digits = sum(value.lstrip("+").isdigit() for value in sample.get(column, ()))
        wrong = digits == 0 if field == "dial_code" else digits * 2 > len(sample.get(column, ()))
        if column and sample[column] and wrong:
            del found[field]
            found.setdefault(other, column)


def _chooser(columns: list[str], sample: dict[str, list[str]]) -> tuple[str, str]:
    for column in columns:
        for name, words in CHOOSERS:
            if column.casefold() == name and any(words in value.casefold() for value in sample[column]):
                return column, words
    return "", ""


def _currency(told: str, prices: Sequence[str]) -> str:
    if match := CURRENCY.search(told.upper().replace("_", " ")):
        return match[1]
    text = told + "".join(prices)
    return next((code for sign, code in SIGNS.items() if sign in text), "")
