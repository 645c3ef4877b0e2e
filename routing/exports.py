"""Price lists as files that a spreadsheet opens without running anything, and that an import reads again."""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from routing.models import Price, PriceList

# Their names are known to imports/guess.py, so that a list that comes back needs no mapping.
HEADER = (
    *("country", "mcc", "mnc", "prefix"),
    *("price on submit", "price on delivery", "currency", "valid from", "valid to"),
)
FIELDS = ("country", "mcc", "mnc", "prefix", "price", "price_delivered", "currency", "valid_from", "valid_to")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
CHUNK = 5000


class Echo:
    """A file that gives back what is written to it, for csv.writer."""

    def write(self, text: str) -> str:
        return text


def lines(book: PriceList) -> Iterator[str]:
    writer = csv.writer(Echo())
    yield str(writer.writerow(HEADER))
    prices = Price.objects.filter(price_list=book).order_by("country", "mcc", "mnc", "prefix", "valid_from")
    for row in prices.values_list(*FIELDS).iterator(chunk_size=CHUNK):
        yield str(writer.writerow(safe_row(row)))


def safe_row(cells: Iterable[Any]) -> list[str]:
    return [safe(cell) for cell in cells]


def safe(cell: Any) -> str:
    """A spreadsheet takes what begins like a formula for one, whatever the quotes: an apostrophe makes it a text."""
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(FORMULA) else text
