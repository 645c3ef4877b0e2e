"""Price lists as files that a spreadsheet opens without running anything, and that an import reads again."""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from io import StringIO
from itertools import islice
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


def prices(book: PriceList) -> Iterator[str]:
    found = Price.objects.filter(price_list=book).order_by("country", "mcc", "mnc", "prefix", "valid_from")
    return as_csv(HEADER, found.values_list(*FIELDS).iterator(chunk_size=CHUNK))


def as_csv(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """In parts of CHUNK rows: an answer is whole before it leaves (config/threads.py), and a part takes memory too."""
    remaining, part = iter(rows), [header]
    while part:
        text = StringIO()
        csv.writer(text).writerows([safe(cell) for cell in row] for row in part)
        yield text.getvalue()
        part = list(islice(remaining, CHUNK))


def safe(cell: Any) -> str:
    """A spreadsheet takes what begins like a formula for one, whatever the quotes: an apostrophe makes it a text."""
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(FORMULA) else text
