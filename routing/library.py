"""The books in memory, one by one: what has not changed is kept, what is large is read aside."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from providers.sql import rows
from routing.prices import MICRO, Binding, Book, Row

log = logging.getLogger(__name__)

Shelf = tuple[tuple[datetime, Book], ...]  # a provider's books: (valid_from, book), newest first
Wanted = tuple[int, int, datetime]  # price list, its version, valid_from

LARGE = 2_000  # prices: a book with more of them is read by a thread, once its provider has one that serves meanwhile
GROUP = 500  # rows; between two groups the threads that have messages to send take their turn
PAUSE = 0.001  # seconds
AGAIN = 1.0  # seconds until one that could not be read is read again
BEHIND = timedelta(hours=48)  # a book that was in force so long ago is still in memory


class Library:
    """The books of one process."""

    def __init__(self) -> None:
        self._books: dict[tuple[int, int], Book] = {}  # by list and version
        self._shelves: dict[int, Shelf] = {}
        self._reading: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def shelves(self, ready: Callable[[], None]) -> Mapping[int, Shelf]:
        """Each provider's books as they are now, or as they were where a large one is still being read.

        `ready` is called when it has been.
        """
        wanted = in_force(datetime.now(UTC) - BEHIND)
        late: list[tuple[int, int]] = []
        found: dict[int, Shelf] = {}
        for provider, lists in wanted.items():
            missing = [one[:2] for one in lists if one[:2] not in self._books]
            aside = [one for one in missing if self._shelves.get(provider) and _is_large(one[0])]
            if aside:
                late += aside
                found[provider] = self._shelves[provider]
            else:
                found[provider] = self.read(lists)
        self._shelves = found
        keep = {one[:2] for lists in wanted.values() for one in lists}
        self._books = {key: book for key, book in self._books.items() if key in keep}
        self._read_aside(late, ready)
        return found

    def read(self, lists: Sequence[Wanted]) -> Shelf:
        for price_list, version, _ in lists:
            if (price_list, version) not in self._books:
                self._books[price_list, version] = read(price_list)
        return tuple((valid_from, self._books[price_list, version]) for price_list, version, valid_from in lists)

    def _read_aside(self, late: Sequence[tuple[int, int]], ready: Callable[[], None]) -> None:
        with self._lock:
            late = [key for key in late if key not in self._reading]
            self._reading.update(late)
        if late:
            threading.Thread(target=self._reader, args=(late, ready), name="books", daemon=True).start()

    def _reader(self, late: Sequence[tuple[int, int]], ready: Callable[[], None]) -> None:
        try:
            for price_list, version in late:
                started = time.monotonic()
                book = read(price_list, pause=PAUSE)
                self._books[price_list, version] = book
                milliseconds = round(1000 * (time.monotonic() - started), 1)
                log.info("a price list was read", extra={"count": len(book.places), "duration_ms": milliseconds})
        except Exception as error:
            log.error("a price list could not be read", exc_info=error)
            time.sleep(AGAIN)
        finally:
            connections.close_all()  # of this thread
            with self._lock:
                self._reading.difference_update(late)
            ready()


def in_force(since: datetime) -> dict[int, list[Wanted]]:
    """By provider: the active lists that are in force then or later, newest first.

    The versions are read before the prices: a change in between is read twice, never missed.
    """
    found: dict[int, list[Wanted]] = {}
    for provider, price_list, version, valid_from in rows(_IN_FORCE, {"since": since}):
        found.setdefault(provider, []).append((price_list, version, valid_from))
    return found


_IN_FORCE = """
SELECT l.provider_id, l.id, coalesce(v.version, 0), l.valid_from
FROM routing_pricelist l LEFT JOIN providers_version v ON v.topic = 'book:' || l.id
WHERE l.status = 'active' AND l.valid_from >= coalesce((SELECT max(o.valid_from) FROM routing_pricelist o
  WHERE o.provider_id = l.provider_id AND o.status = 'active' AND o.valid_from <= %(since)s), l.valid_from)
ORDER BY l.provider_id, l.valid_from DESC
"""


def _is_large(price_list: int) -> bool:
    ((found,),) = rows(
        "SELECT count(*) FROM (SELECT FROM routing_price WHERE price_list_id = %(id)s LIMIT %(most)s) p",
        {"id": price_list, "most": LARGE + 1},
    )
    return int(found) > LARGE


def read(price_list: int, *, pause: float = 0.0) -> Book:
    """One book from the database, a few rows at a time."""
    binding = Binding()
    for group in _groups(price_list):
        binding.add(group)
        if pause:
            time.sleep(pause)
    return binding.book()


def _groups(price_list: int) -> Iterator[list[Row]]:
    connections[DEFAULT_DB_ALIAS].ensure_connection()
    with (
        transaction.atomic(),
        connection.wrap_database_errors,
        psycopg.ServerCursor(connection.connection, name="book") as cursor,
    ):
        cursor.execute(_PRICES, {"id": price_list}, binary=True)
        while group := cursor.fetchmany(GROUP):
            yield group


_PRICES = f"""
SELECT country, mcc, mnc, prefix, (price * {MICRO})::int8, (price_delivered * {MICRO})::int8, currency, valid_from,
  valid_to
FROM routing_price WHERE price_list_id = %(id)s ORDER BY id
"""  # noqa: S608  a literal


def book_triggers() -> tuple[str, str]:
    """SQL for a migration: changes of prices raise the version of each list that they are of, `book:<its id>`."""
    raised = """INSERT INTO providers_version AS v (topic, version)
            SELECT DISTINCT 'book:' || price_list_id, 1 FROM changed WHERE price_list_id IS NOT NULL ORDER BY 1
            ON CONFLICT (topic) DO UPDATE SET version = v.version + 1;"""
    tables = {"insert": "NEW TABLE AS changed", "delete": "OLD TABLE AS changed", "update": "NEW TABLE AS changed"}
    forward = f"""
        CREATE FUNCTION routing_price_book() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN {raised} RETURN NULL; END $$;
        CREATE FUNCTION routing_price_books() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN UPDATE providers_version SET version = version + 1 WHERE topic LIKE 'book:%'; RETURN NULL; END $$;
        CREATE TRIGGER routing_price_truncated AFTER TRUNCATE ON routing_price
        FOR EACH STATEMENT EXECUTE FUNCTION routing_price_books();
    """  # noqa: S608  literals
    for event, table in tables.items():
        forward += f"""
        CREATE TRIGGER routing_price_{event} AFTER {event.upper()} ON routing_price REFERENCING {table}
        FOR EACH STATEMENT EXECUTE FUNCTION routing_price_book();"""
    backward = "DROP FUNCTION IF EXISTS routing_price_book() CASCADE; DROP FUNCTION routing_price_books() CASCADE;"
    return forward, backward


def active_triggers() -> tuple[str, str]:
    """SQL for a migration: `prices` rises with lists and prices that are in force or will be; a draft costs nobody."""
    raised = """INSERT INTO providers_version AS v (topic, version) VALUES ('prices', 1)
            ON CONFLICT (topic) DO UPDATE SET version = v.version + 1;"""
    function = "RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    # A list that is being activated meanwhile is waited for: either it has these prices, or they count as its change.
    forward = f"""
        CREATE FUNCTION routing_price_active() {function}
          PERFORM FROM routing_pricelist WHERE id IN (SELECT price_list_id FROM changed) ORDER BY id FOR SHARE;
          IF EXISTS (SELECT FROM routing_pricelist
            WHERE status = 'active' AND id IN (SELECT price_list_id FROM changed)) THEN {raised} END IF;
          RETURN NULL; END $$;
        CREATE FUNCTION routing_pricelist_active() {function}
          IF EXISTS (SELECT FROM changed WHERE status = 'active') THEN {raised} END IF; RETURN NULL; END $$;
        CREATE FUNCTION routing_pricelist_moved() {function}
          IF EXISTS (SELECT FROM changed WHERE status = 'active' UNION ALL SELECT FROM before WHERE status = 'active')
          THEN {raised} END IF; RETURN NULL; END $$;
        CREATE FUNCTION routing_prices_gone() {function} {raised} RETURN NULL; END $$;"""  # noqa: S608  literals
    triggers = [
        ("routing_price", "INSERT", "NEW TABLE AS changed", "routing_price_active"),
        ("routing_price", "UPDATE", "NEW TABLE AS changed", "routing_price_active"),
        ("routing_price", "DELETE", "OLD TABLE AS changed", "routing_price_active"),
        ("routing_pricelist", "INSERT", "NEW TABLE AS changed", "routing_pricelist_active"),
        ("routing_pricelist", "UPDATE", "OLD TABLE AS before NEW TABLE AS changed", "routing_pricelist_moved"),
        ("routing_pricelist", "DELETE", "OLD TABLE AS changed", "routing_pricelist_active"),
    ]
    for table, event, tables, name in triggers:
        forward += f"""
        CREATE TRIGGER {table}_active_{event.lower()} AFTER {event} ON {table} REFERENCING {tables}
        FOR EACH STATEMENT EXECUTE FUNCTION {name}();"""
    for table in ("routing_price", "routing_pricelist"):
        forward += f"""
        CREATE TRIGGER {table}_gone AFTER TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION routing_prices_gone();"""
    names = "routing_price_active(), routing_pricelist_active(), routing_pricelist_moved(), routing_prices_gone()"
    return forward, f"DROP FUNCTION {names} CASCADE;"
