"""The book that an import becomes: its rows, and of the book in force what they leave as it is.

Both are written in groups of neighbouring ids, each a transaction of its own: nothing is in force before all is there.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

from providers.sql import rows
from routing.imports.compare import PLACE

GROUP = 10_000
_COLUMNS = "price_list_id, country, mcc, mnc, prefix, price, price_delivered, currency, valid_from, valid_to"


def new_rows(import_id: int, book: int) -> Iterator[int]:
    """Writes the file's prices; yields how many after each group."""
    statement = f"""
        INSERT INTO routing_price ({_COLUMNS})
        SELECT %(book)s, country, mcc, mnc, prefix, price, price_delivered, currency, valid_from, valid_to
        FROM routing_stagedprice WHERE id > %(after)s AND id <= %(last)s AND price_import_id = %(import)s
          AND change <> 'removed' ORDER BY id RETURNING 1"""  # noqa: S608  literals of this module
    ((first, last),) = rows(
        "SELECT min(id), max(id) FROM routing_stagedprice WHERE price_import_id = %(import)s", {"import": import_id}
    )
    values = {"import": import_id, "book": book}
    yield from _groups(first, last, lambda bounds: len(rows(statement, {**values, **bounds})))


def kept_rows(*, import_id: int, book: int, base: int, partial: bool, begin: datetime) -> Iterator[int]:
    """Writes what stays: in a partial file all other places; in both, places until their new price begins."""
    _firsts(import_id)
    if not partial and not rows("SELECT 1 FROM pg_temp.firsts WHERE first > %(begin)s LIMIT 1", {"begin": begin}):
        return
    statement = f"""
        INSERT INTO routing_price ({_COLUMNS})
        SELECT %(book)s, p.country, p.mcc, p.mnc, p.prefix, p.price, p.price_delivered, p.currency, p.valid_from,
          CASE WHEN f.place IS NULL THEN p.valid_to ELSE least(p.valid_to, f.first) END
        FROM routing_price p LEFT JOIN pg_temp.firsts f ON f.place = {PLACE.format("p")}
        WHERE p.id > %(after)s AND p.id <= %(last)s AND p.price_list_id = %(base)s
          AND (p.valid_to IS NULL OR p.valid_to > %(begin)s) AND (
            f.place IS NULL AND %(partial)s OR f.first > %(begin)s AND coalesce(p.valid_from, '-infinity') < f.first)
        RETURNING 1"""  # noqa: S608
    ((first, last),) = rows("SELECT min(id), max(id) FROM routing_price WHERE price_list_id = %(base)s", {"base": base})
    values = {"book": book, "base": base, "partial": partial, "begin": begin}
    yield from _groups(first, last, lambda bounds: len(rows(statement, {**values, **bounds})))


def lapses(book: int, begin: datetime) -> bool:
    """Has a place of a list that was written lost its price by now, which is its start?"""
    statement = f"""
        SELECT 1 FROM routing_price p JOIN routing_pricelist l ON l.id = p.price_list_id
        WHERE l.id = %(book)s AND p.valid_to > l.valid_from AND p.valid_to <= %(begin)s AND NOT EXISTS (
          SELECT FROM routing_price n WHERE n.price_list_id = l.id AND {PLACE.format("n")} = {PLACE.format("p")}
            AND coalesce(n.valid_from, '-infinity') <= %(begin)s AND coalesce(n.valid_to, 'infinity') > %(begin)s)
        LIMIT 1"""  # noqa: S608
    return bool(rows(statement, {"book": book, "begin": begin}))


def _firsts(import_id: int) -> None:
    """The first moment of each place in the file."""
    rows("DROP TABLE IF EXISTS pg_temp.firsts")
    rows(
        """
        CREATE TEMPORARY TABLE firsts AS
        SELECT place, min(coalesce(valid_from, '-infinity')) AS first FROM routing_stagedprice
        WHERE price_import_id = %(import)s AND change <> 'removed' GROUP BY place""",
        {"import": import_id},
    )
    rows("CREATE INDEX ON pg_temp.firsts (place)")
    rows("ANALYZE pg_temp.firsts")


def _groups(first: int | None, last: int | None, write: Callable[[dict[str, int]], int]) -> Iterator[int]:
    if first is not None and last is not None:
        for after in range(first - 1, last, GROUP):
            yield write({"after": after, "last": min(after + GROUP, last)})
