"""One row of a file to the prices that it means, or the reason why it means none. Pure.

Every place has one form, whatever a list calls it: a network (MCC and MNC), a dial prefix, an MCC, a country.
"""

import re
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from routing.countries import COUNTRY_OF_MCC, country, country_of_prefix
from routing.import_models import LeftOut
from routing.imports.mapping import COLUMNS, CURRENCY, Mapping
from routing.imports.sheets import Row
from routing.prices import LONGEST_PREFIX

Kind = LeftOut.Kind
PLACES = Decimal("0.000001")  # as the table of prices has them
LARGEST = Decimal(1_000_000)  # below it: six digits before the point
WHOLE = {"", "*", "0", "all", "any", "other", "others", "rest", "default"}  # words for every MNC
NO_PRICE = {"", "-", "--", "n/a", "na", "none", "null", "blocked", "closed", "tbd", "no", "x", "#n/a"}
FORMULA = ("=", "+", "-", "@")
LONGEST_VALUE = 200
NUMBER = {".": re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+"), ",": re.compile(r"[0-9]+(,[0-9]*)?|,[0-9]+")}
_SIGNS = str.maketrans("", "", "€$£₴ \u00a0\u202f")
_FOREVER = ("", "-", "never", "n/a", "none", "null")


@dataclass(frozen=True, slots=True)
class Staged:
    """A price as it goes to the table of the import. Times are ISO 8601; `place` is what it is found by."""

    line: int
    place: str
    country: str
    mcc: str
    mnc: str
    prefix: str
    price: Decimal
    price_delivered: Decimal
    currency: str
    valid_from: datetime | None
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class Left:
    """A row that gives no price. `value` is what stands in `column`."""

    line: int
    kind: Kind
    column: str
    value: str
    reason: str


class _Bad(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


class Reader:
    """Reads the rows of one file by its mapping."""

    def __init__(self, mapping: Mapping, columns: Sequence[str]) -> None:
        places = {name: place for place, name in enumerate(columns)}
        self._mapping = mapping
        self._width = len(columns)
        self._at = {field: places[name] for field, name in _chosen(mapping).items()}
        self._words = tuple(word.strip().casefold() for word in mapping.only_words.split(",") if word.strip())

    def read(self, row: Row) -> Iterator[Staged | Left]:
        """Prices, or one Left: a row is taken as a whole or not at all."""
        line, cells = row.line, row.cells
        if row.fault:
            yield Left(line, Kind.ERROR, "", ";".join(cells)[:LONGEST_VALUE], row.fault)
            return
        if any(cells[self._width :]):
            value = cells[self._width]
            yield Left(line, Kind.ERROR, "", value[:LONGEST_VALUE], "more cells than columns: a separator in a value?")
            return
        values = {field: cells[place] if place < len(cells) else "" for field, place in self._at.items()}
        if row.skipped:
            yield self._left(line, Kind.SKIPPED, self._first_price(), values, row.skipped)
            return
        if self._words and not any(word in values["only_column"].casefold() for word in self._words):
            reason = f"only rows with {self._mapping.only_words} are taken"
            yield self._left(line, Kind.SKIPPED, "only_column", values, reason)
            return
        try:
            yield from list(self._prices(line, values))
        except _Bad as bad:
            yield self._left(line, Kind.ERROR, bad.field, values, bad.reason)

    def _left(self, line: int, kind: Kind, field: str, values: Dictionary[str, str], reason: str) -> Left:
        column = _chosen(self._mapping).get(field, field)
        return Left(line, kind, column, values.get(field, "")[:LONGEST_VALUE], reason)

    def _prices(self, line: int, values: Dictionary[str, str]) -> Iterator[Staged]:
        for field, value in values.items():
            if value[:1] in FORMULA and len(value) > 1 and not _number_with_sign(field, value):
                raise _Bad(field, "begins like a formula: save the sheet as values")
        submit, delivered = self._money(values)
        if "currency_column" in values:
            currency = values["currency_column"].upper() or self._mapping.currency
        else:
            currency = self._mapping.currency
        if not CURRENCY.fullmatch(currency):
            raise _Bad("currency_column", "no currency: three letters like EUR are expected (ISO 4217)")
        valid_from = self._moment("valid_from", values)
        valid_to = self._moment("valid_to", values)
        if valid_from and valid_to and valid_to <= valid_from:
            raise _Bad("valid_to", "ends before it begins")
        for where in self._where(values):
            yield Staged(line, *where, submit, delivered, currency, valid_from, valid_to)

    def _money(self, values: Dictionary[str, str]) -> tuple[Decimal, Decimal]:
        first = self._amount("price", values)
        second = self._amount("price_delivered", values)
        if first is None and second is None:
            raise _Bad(self._first_price(), "no price")
        if first is not None:
            first += self._amount("fee", values) or 0
        if self._mapping.charged == "delivery":
            return Decimal(0), first or Decimal(0)
        return first or Decimal(0), second or Decimal(0)

    def _amount(self, field: str, values: Dictionary[str, str]) -> Decimal | None:
        text = values.get(field, "").translate(_SIGNS)
        if text.casefold() in NO_PRICE:
            return None
        if not NUMBER[self._mapping.decimal].fullmatch(text):
            raise _Bad(field, _why_no_number(text, self._mapping.decimal))
        try:
            amount = Decimal(text.replace(",", ".")) / self._mapping.divisor
        except InvalidOperation:
            raise _Bad(field, "is no number") from None
        if amount >= LARGEST:
            raise _Bad(field, f"is not below {LARGEST:,}")
        exact = amount.quantize(PLACES)
        if exact != amount:
            raise _Bad(field, "has more than six decimals: what would be charged is not what it says")
        return exact

    def _moment(self, field: str, values: Dictionary[str, str]) -> datetime | None:
        text = values.get(field, "")
        if text.casefold() in _FOREVER:
            return None
        found = moment(text, self._mapping.dates)
        if found is None:
            raise _Bad(field, "is no date: 2026-12-31, 2026-12-31T09:00:00Z or 31.12.2026 is expected")
        return found

    def _where(self, values: Dictionary[str, str]) -> Iterator[tuple[str, str, str, str, str]]:
        """(place, country, mcc, mnc, prefix), each once."""
        told = values.get("country", "")
        named = country(told) if told else None
        mcc, mncs = self._network(values)
        prefix = self._prefix(values) if not mcc else ""
        if told and not named and not mcc and not prefix:
            raise _Bad("country", "is no country: a code like UA or a name is expected")
        if mcc:
            where = named or COUNTRY_OF_MCC.get(mcc)
            if where is None:
                raise _Bad("mcc" if "mcc" in values else "mccmnc", "belongs to no country")
            for mnc in mncs:
                yield (f"n{mcc}-{mnc}" if mnc else f"m{mcc}"), where, mcc, mnc, ""
        elif prefix:
            where = country_of_prefix(prefix) or named
            if where is None:
                raise _Bad("dial_code", "no country has this calling code")
            yield f"p{prefix}", where, "", "", prefix
        elif named:
            yield f"c{named}", named, "", "", ""
        else:
            raise _Bad(self._first_place(), "tells no place")

    def _network(self, values: Dictionary[str, str]) -> tuple[str, list[str]]:
        mcc, mncs = values.get("mcc", ""), [""]
        joined = values.get("mccmnc", "").translate(_SEPARATORS)
        if "mcc" not in values and joined:
            if not joined.isdecimal() or not joined.isascii() or len(joined) not in (3, 5, 6):
                raise _Bad("mccmnc", _why_no_digits(joined, "an MCC (3 digits) with an MNC of 2 or 3 digits or none"))
            return joined[:3], [joined[3:]]
        if not mcc:
            if values.get("mnc", "").casefold() not in WHOLE:
                raise _Bad("mcc", "an MNC needs its MCC")
            return "", []
        if not (mcc.isascii() and mcc.isdecimal() and len(mcc) == 3):
            raise _Bad("mcc", _why_no_digits(mcc, "three digits"))
        if "mnc" in values:
            mncs = [self._mnc(part) for part in re.split(r"[,;/|\s]+", values["mnc"].strip(",;/| "))]
            mncs = list(dict.fromkeys(mncs))
        if joined and joined not in {f"{mcc}{mnc}" for mnc in (*mncs, values.get("mnc", ""))}:
            raise _Bad("mccmnc", f"is not MCC {mcc} + MNC {values.get('mnc', '')}")
        return mcc, mncs

    def _mnc(self, text: str) -> str:
        if text.casefold() in WHOLE:
            return ""
        if not (text.isascii() and text.isdecimal()):
            raise _Bad("mnc", _why_no_digits(text, "two or three digits, or *"))
        if len(text) == 1 and self._mapping.pad_mnc:
            return f"0{text}"
        if len(text) not in (2, 3):
            hint = f": is it 0{text}? (see “leading zeros”)" if len(text) == 1 else ""
            raise _Bad("mnc", f"an MNC has two or three digits{hint}")
        return text

    def _prefix(self, values: Dictionary[str, str]) -> str:
        code = values.get("dial_code", "").removeprefix("+").removeprefix("00")
        area = values.get("area_code", "")
        if not code:
            if area:
                raise _Bad("dial_code", "an area code needs its country calling code")
            return ""
        for field, text in (("dial_code", code), ("area_code", area)):
            digits = text.translate(_SEPARATORS)
            if digits and not (digits.isascii() and digits.isdecimal()):
                raise _Bad(field, _why_no_digits(text, "digits"))
        prefix = (code + area).translate(_SEPARATORS)
        if len(prefix) > LONGEST_PREFIX:
            raise _Bad("dial_code", f"a prefix has at most {LONGEST_PREFIX} digits")
        return prefix

    def _first_price(self) -> str:
        return "price" if "price" in self._at else "price_delivered"

    def _first_place(self) -> str:
        return next(field for field in ("mcc", "mccmnc", "dial_code", "country") if field in self._at)


_SEPARATORS = str.maketrans("", "", " -.()")


@lru_cache(maxsize=64)
def _chosen(mapping: Mapping) -> dict[str, str]:
    return {field: name for field in COLUMNS if (name := getattr(mapping, field))}


def _number_with_sign(field: str, value: str) -> bool:
    """A negative price is told as such, and +380 is a prefix."""
    return value[0] in "+-" and (value[1:].replace(",", "").replace(".", "").replace(" ", "").isdecimal())


def _why_no_number(text: str, decimal: str) -> str:
    other = "," if decimal == "." else "."
    if text.startswith("-"):
        return "is negative"
    if other in text:
        word = {".": "point", ",": "comma"}
        if decimal in text:
            return "has a comma and a point: write it without the separator of thousands"
        return f"has a {word[other]}, and the decimal sign of this file is a {word[decimal]}"
    return "is no number"


def _why_no_digits(text: str, expected: str) -> str:
    if any(letter in text for letter in "OoОо"):  # noqa: RUF001  the Cyrillic ones too
        return f"has the letter O: {expected} expected"
    return f"is {len(text)} characters: {expected} expected" if text.isdecimal() else f"{expected} expected"


@lru_cache(maxsize=4096)
def moment(text: str, dates: str = "dmy") -> datetime | None:
    """UTC where it names no offset. None where it is no date."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        match = re.fullmatch(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?)?", text)
        if not match:
            return None
        first, sign, second, year, *clock = match.groups()
        day, month = (second, first) if dates == "mdy" and sign != "." else (first, second)
        try:
            hours, minutes, seconds = (int(part or 0) for part in clock)
            found = datetime(int(year), int(month), int(day), hours, minutes, seconds)
        except ValueError:
            return None
    try:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        return None
