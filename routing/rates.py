"""Exchange rates: read from the file that the ECB publishes, and watched for their age."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import islice

from django.conf import settings

from providers.sql import records, rows
from routing.snapshot import Tables

BASE = "EUR"  # the ECB's rates are so much of a currency for one euro
FORMS = ("%Y-%m-%d", "%d %B %Y")  # of the history, of the daily file
PLACES = Decimal("1e-8")
GROUP = 5000
NONE = ("", "N/A", "-")


class BadRates(ValueError):
    """A file that cannot be used; the message says line, column and value."""


@dataclass(frozen=True, slots=True)
class Rate:
    currency: str
    rate: Decimal
    valid_from: datetime


def read(lines: Iterable[str]) -> Iterator[Rate]:
    """The rates in units of REPORTING_CURRENCY, from 00:00 UTC of their day on. Raises BadRates."""
    table = csv.reader(lines)
    names = [name.strip() for name in next(table, [])]
    if not names or names[0] != "Date":
        raise BadRates("line 1: the first column must be Date, as in the ECB's file")
    wrong = [name for name in names[1:] if name and not (name.isascii() and name.isalpha() and len(name) == 3)]
    if wrong:
        raise BadRates(f"line 1: {wrong[0][:20]!r} is no currency")
    for number, line in enumerate(table, 2):
        if any(cell.strip() for cell in line):
            yield from _day(number, names, [cell.strip() for cell in line])


def _day(number: int, names: list[str], cells: list[str]) -> Iterator[Rate]:
    moment = _moment(number, cells[0])
    if any(cells[len(names) :]):
        raise BadRates(f"line {number}: more cells than columns; decimals are written with a point")
    found = {BASE: Decimal(1)}
    for name, cell in zip(names[1:], cells[1:], strict=False):
        if name and cell not in NONE:
            found[name] = _number(number, name, cell)
    reporting = found.pop(settings.REPORTING_CURRENCY, None)
    if reporting is None:
        raise BadRates(f"line {number}: there is no rate of {settings.REPORTING_CURRENCY}, the reporting currency")
    for name, rate in found.items():
        yield Rate(name, (rate / reporting).quantize(PLACES), moment)


def _moment(number: int, cell: str) -> datetime:
    for form in FORMS:
        try:
            return datetime.strptime(cell, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise BadRates(f"line {number}, Date: {cell[:20]!r} is no day like 2026-11-27")


def _number(number: int, name: str, cell: str) -> Decimal:
    try:
        rate = Decimal(cell)
    except InvalidOperation:
        rate = Decimal(0)
    if not rate.is_finite() or not PLACES <= rate < 10**9:
        raise BadRates(f"line {number}, {name}: {cell[:20]!r} is no rate above zero")
    return rate


def store(found: Iterable[Rate]) -> int:
    """Adds them; one that is there already with another value is corrected. Returns how many were new or corrected."""
    changed, left = 0, iter(found)
    while group := list(islice(left, GROUP)):
        changed += len(rows(_STORE, {"rows": records(group)}))
    return changed


_STORE = """
INSERT INTO routing_exchangerate AS e (currency, rate, valid_from)
SELECT DISTINCT ON (r.currency, r.valid_from) r.currency, r.rate, r.valid_from
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(currency text, rate numeric, valid_from timestamptz)
ORDER BY r.currency, r.valid_from
ON CONFLICT (currency, valid_from) DO UPDATE SET rate = excluded.rate WHERE e.rate <> excluded.rate RETURNING id
"""


def ages(tables: Tables, at: datetime) -> dict[str, timedelta | None]:
    """How old the rate of each currency is that a price list is in; None where there is none."""
    found: dict[str, timedelta | None] = {}
    for currency in sorted(tables.currencies - {tables.currency}):
        newest = next((valid_from for valid_from, _ in tables.rates.get(currency, ()) if valid_from <= at), None)
        found[currency] = at - newest if newest else None
    return found


def stale(tables: Tables, at: datetime) -> list[str]:
    """What is to be warned about, in words."""
    longest = timedelta(days=settings.RATES_MAX_AGE)
    told = []
    for currency, age in ages(tables, at).items():
        if age is None:
            told.append(f"there is no exchange rate of {currency}: its prices are not used")
        elif age > longest:
            told.append(f"the exchange rate of {currency} is {age.days} days old")
    return told
