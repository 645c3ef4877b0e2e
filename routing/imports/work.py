"""What the import process does with a file: look at it, read and compare it, write its book.

Whoever holds the session's advisory lock of an import works on it, so no two processes do; when a process dies its
lock goes with its connection, and another begins the step again. A step that kills its process three times has failed.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from providers.sql import in_groups, now, rows
from routing import books
from routing.import_models import PriceFile, PriceImport
from routing.imports import compare, guess, sheets, writing
from routing.imports.errors import Unreadable
from routing.imports.mapping import Mapping, check, column_names
from routing.imports.rows import Left, Reader, Staged
from routing.models import Price, PriceList

log = logging.getLogger(__name__)

Status = PriceImport.Status
LOCK = 0x4D58_4950
MOST_TRIES = 3
GROUP = 5000  # rows between two words of progress
STATEMENT_TIMEOUT = "300s"  # of the sets that are compared at once
KEEP = "400 days"  # the files, as evidence
KEEP_ROWS = "30 days"  # what they would have changed
PURGED = 5000


class Stopped(Exception):
    """A person cancelled it, or the connection and with it the lock is gone."""


class Interrupted(Stopped):
    """This process ends; another one goes on with it."""


Told = Callable[[PriceImport, str], None]  # hears of progress


def never() -> bool:
    return False


def nobody(found: PriceImport, step: str) -> None:
    pass


def work(stopping: Callable[[], bool] = never) -> bool:
    """One step of one import, the oldest first; False where nothing waits. Never raises for what is wrong in a file."""
    waiting = PriceImport.objects.filter(status__in=PriceImport.WORK).order_by("pk").values_list("pk", flat=True)
    for import_id in waiting[:100]:
        with held(import_id) as mine:
            if mine and step(import_id, stopping):
                return True
    return False


@contextmanager
def held(import_id: int) -> Iterator[bool]:
    """The lock of an import, if nobody has it."""
    key = {"lock": LOCK, "id": import_id % 2**31}
    ((mine,),) = rows("SELECT pg_try_advisory_lock(%(lock)s::int, %(id)s::int)", key)
    try:
        yield mine
    finally:
        if mine:
            with suppress(Exception):  # a connection that is gone has let go of it
                rows("SELECT pg_advisory_unlock(%(lock)s::int, %(id)s::int)", key)


def is_free(import_id: int) -> bool:
    """Nobody works on it, and nobody begins to before this transaction ends."""
    key = {"lock": LOCK, "id": import_id % 2**31}
    ((free,),) = rows("SELECT pg_try_advisory_xact_lock(%(lock)s::int, %(id)s::int)", key)
    return bool(free)


def step(import_id: int, stopping: Callable[[], bool] = never, told: Told = nobody) -> bool:
    """The step that its status names; False where there is none any more. The caller holds its lock."""
    found = PriceImport.objects.filter(pk=import_id, status__in=PriceImport.WORK).first()
    if found is None:
        return False
    task = Task(found, stopping, told)
    try:
        if found.tries >= MOST_TRIES:
            raise Unreadable(f"The process that worked on it ended {MOST_TRIES} times: see its log. Is it too large?")
        task.tell("starting", tries=found.tries + 1)
        {Status.UPLOADED: task.look, Status.READING: task.read, Status.WRITING: task.write}[Status(found.status)]()
    except Interrupted:
        task.leave()
    except Stopped:
        log.info("price import stopped", extra={"import": found.pk})
    except Unreadable as error:
        task.fail(str(error))
    return True


class Task:
    """One step of one import. Everything is written on one connection: the one that has the lock."""

    def __init__(self, found: PriceImport, stopping: Callable[[], bool], told: Told) -> None:
        self.found = found
        self._stopping = stopping
        self._told = told
        self._tries = found.tries
        self._status = found.status
        self._connection = connection.connection

    def look(self) -> None:
        """uploaded -> mapping, or on to reading where the mapping came with the file."""
        given = Mapping.from_json(self.found.mapping) if self.found.mapping else None
        told = self.found.head.get("form")  # what a person says of how it is written
        head = guess.look(self._content(), given.form if given else sheets.Form(**told) if told else None)
        self._move(
            Status.READING if given else Status.MAPPING,
            head={"columns": head.columns, "rows": head.rows, "date": head.date},
            mapping=(given or head.mapping).to_json(),
            tries=0,
            step="",
        )

    def read(self) -> None:
        """reading -> ready: every row of the file is a price, or is named among those left out."""
        content = self._content()
        mapping = Mapping.from_json(self.found.mapping)
        rows("DELETE FROM routing_stagedprice WHERE price_import_id = %(id)s", {"id": self.found.pk})
        rows("DELETE FROM routing_leftout WHERE price_import_id = %(id)s", {"id": self.found.pk})
        compare.begin_table()
        self.tell("reading", total=content.count(b"\n") if mapping.kind == "csv" else 0)
        count = self._stage(content, mapping)
        self.tell("comparing", done=count, total=count)
        begin = starts(self.found)
        base = books.in_force(self.found.provider_id, begin)
        with transaction.atomic():
            rows(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
            counts = compare.compare(self.found, begin=begin, base=base, repeats=mapping.repeats)
            counts["rows"] = count
            self._move(Status.READY, counts=counts, base_id=base, tries=0, step="", submitted_at=None)
        compare.drop_tables()
        log.info("price import compared", extra={"import": self.found.pk, "count": count})

    def _stage(self, content: bytes, mapping: Mapping) -> int:
        """Copies the rows into `incoming` and what is wrong into LeftOut; returns how many rows there were."""
        reader: Reader | None = None
        prices: list[Staged] = []
        left: list[Left] = []
        count = 0
        for row in sheets.read(content, mapping.form):
            if row.line < mapping.header:
                continue
            if reader is None:
                columns = column_names(row.cells)
                check(mapping, columns)
                reader = Reader(mapping, columns)
                continue
            count += 1
            if count > settings.PRICE_IMPORT_ROWS:
                raise Unreadable(f"More than {settings.PRICE_IMPORT_ROWS:,} rows (PRICE_IMPORT_ROWS): cut the file.")
            for result in reader.read(row):
                if isinstance(result, Staged):
                    prices.append(result)
                else:
                    left.append(result)
            if count % GROUP == 0:
                self._copy(prices, left)
                self.tell("reading", done=count)
        self._copy(prices, left)
        if not count:
            raise Unreadable("There is no row after the header.")
        return count

    def _copy(self, prices: list[Staged], left: list[Left]) -> None:
        self._same_connection()
        names = ", ".join(compare.STAGED)
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY pg_temp.incoming ({names}) FROM STDIN") as copy:
                for one in prices:
                    copy.write_row([getattr(one, name) for name in compare.STAGED])
            with cursor.copy(
                'COPY routing_leftout (price_import_id, line, kind, "column", value, reason) FROM STDIN'
            ) as copy:
                for row in left:
                    values = (row.kind.value, row.column, row.value, row.reason[:200])
                    copy.write_row([self.found.pk, row.line, *values])
        prices.clear()
        left.clear()

    def write(self) -> None:
        """writing -> submitted: the book stands there, complete, group by group, for a second person to approve."""
        found = self.found
        begin = starts(found)
        if books.in_force(found.provider_id, begin) != found.base_id:
            raise Unreadable("Another price list came in force since this one was compared: compare it again.")
        book = self._propose(begin)
        kept = Price.objects.filter(price_list=found.base_id).count() if found.partial else 0
        self.tell("writing", done=0, total=found.counts.get("prices", 0) + kept)
        done = 0
        for count in writing.new_rows(found.pk, book):
            done += count
            self.tell("writing", done=done)
        if found.base_id:
            for count in writing.kept_rows(
                import_id=found.pk, book=book, base=found.base_id, partial=found.partial, begin=begin
            ):
                done += count
                self.tell("keeping the rest", done=done)
        self._move(Status.SUBMITTED, tries=0, step="")
        log.info("price import written", extra={"import": found.pk, "count": done})

    def _propose(self, begin: datetime) -> int:
        """An empty book; what a process that died has left of one is thrown away."""
        found = self.found
        before = found.book_id
        with transaction.atomic():
            name = f"{found.file_name} #{found.pk}"[-80:]
            status = PriceList.Status.PROPOSED
            fields = {"provider_id": found.provider_id, "name": name, "status": status, "valid_from": begin}
            book = PriceList.objects.create(**fields)
            self.tell("writing", book_id=book.pk)
            if before:
                books.discard(before)
        return book.pk

    def tell(self, step: str, **fields: Any) -> None:
        """Progress, for people. Raises Stopped where the import is in another step now, or where we are to end."""
        self._same_connection()
        if self._stopping():
            raise Interrupted
        if not PriceImport.objects.filter(pk=self.found.pk, status=self._status).update(step=step, **fields):
            raise Stopped
        for name, value in fields.items():
            setattr(self.found, name, value)
        self._told(self.found, step)

    def leave(self) -> None:
        """That this process was asked to end says nothing against the file."""
        compare.drop_tables()
        PriceImport.objects.filter(pk=self.found.pk, status=self._status).update(tries=self._tries, step="")

    def fail(self, fault: str) -> None:
        compare.drop_tables()
        proposed = self.found.book_id
        with suppress(Stopped), transaction.atomic():
            self._move(Status.FAILED, fault=fault, step="", book=None)
            if proposed:
                books.discard(proposed)
        log.warning("price import failed", extra={"import": self.found.pk})

    def _move(self, to: Status, **fields: Any) -> None:
        self._same_connection()
        if not PriceImport.objects.filter(pk=self.found.pk, status=self._status).update(status=to, **fields):
            raise Stopped

    def _same_connection(self) -> None:
        if connection.connection is not self._connection:
            raise Stopped

    def _content(self) -> bytes:
        self.tell("opening")
        return bytes(PriceFile.objects.get(pk=self.found.pk).content)


def starts(found: PriceImport) -> datetime:
    """When its list is in force, if it were approved now."""
    moment = now()
    return max(found.effective_at or moment, moment)


def purge() -> None:
    """Forgets what closed imports would have changed, and old files."""
    for table, keep in (("stagedprice", KEEP_ROWS), ("leftout", KEEP_ROWS)):
        statement = f"""
            DELETE FROM routing_{table} WHERE id IN (
              SELECT s.id FROM routing_priceimport i JOIN routing_{table} s ON s.price_import_id = i.id
              WHERE i.closed_at < statement_timestamp() - interval '{keep}' LIMIT {PURGED}) RETURNING 1"""  # noqa: S608
        in_groups(lambda statement=statement: len(rows(statement)), PURGED)  # type: ignore[misc]
    rows(f"""
        DELETE FROM routing_pricefile WHERE price_import_id IN (
          SELECT id FROM routing_priceimport WHERE closed_at < statement_timestamp() - interval '{KEEP}')""")  # noqa: S608
