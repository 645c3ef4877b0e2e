"""Kafka in: commands become messages in groups, each group in one transaction, its offsets only after the commit.

A crash in between means that a group is read twice; the idempotency keys make the second time change nothing.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from messaging.commands import LIMIT, Command, Unreadable, carry_out, claimed_source, read, reserved
from messaging.errors import IdempotencyInProgress, RateLimited, Refusal
from messaging.heartbeats import BRIDGE, Heartbeat
from messaging.kafka import Incoming, Subscriber
from messaging.models import DeadLetter
from providers.sql import rows

log = logging.getLogger(__name__)

GROUP = 500
WAIT = 0.5  # seconds for a first record, and between two looks while nothing can be taken
LANES_EVERY = 1.0  # seconds between two looks at the lanes
KEEP = LIMIT  # bytes of a dead letter
KEEP_KEY, KEEP_HEADERS, KEEP_HEADER = 1000, 20, 200


class Busy(Exception):
    """Nothing can be taken for now; the message says why."""


class Bridge:
    """One reader of the commands topic. What it cannot take for now waits in Kafka, and it stays in its group."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._subscriber = Subscriber(settings.KAFKA_COMMANDS_TOPIC)
        self._heartbeat = Heartbeat(BRIDGE)
        self._waiting: int | None = None
        self._looked_at = 0.0
        self._obstacle = ""

    def run(self) -> None:
        """Until it is told to stop; a group that is being taken is finished first. Raises KafkaStopped."""
        waiting: list[Incoming] = []
        while not self._stopping.is_set():
            waiting += self._subscriber.fetch(GROUP, WAIT)
            try:
                self._tell()
                self._look_at_lanes()
                waiting = take(waiting)
            except (OperationalError, InterfaceError) as error:
                self._hold(f"database error: {type(error).__name__}")
                connection.close()
                continue
            except Busy as error:
                self._hold(str(error))
                continue
            self._subscriber.done(waiting)
            if len(waiting) > GROUP:
                self._hold("clients are over their rate")
            else:
                self._go_on()

    def close(self) -> None:
        self._subscriber.close()
        with suppress(DatabaseError):
            self._heartbeat.end()
        connection.close()

    def _tell(self) -> None:
        obstacle = self._obstacle or self._subscriber.trouble
        state = "waits" if obstacle else "reads"
        waiting = self._subscriber.waiting() if self._heartbeat.due else self._waiting
        self._waiting = waiting
        self._heartbeat.tell(state, obstacle, self._subscriber.partitions, waiting)

    def _look_at_lanes(self) -> None:
        """Raises Busy."""
        if not self._obstacle and time.monotonic() - self._looked_at < LANES_EVERY:
            return
        if full := full_lanes():
            raise Busy(f"more than {settings.KAFKA_LANE_LIMIT} messages wait in {', '.join(full)}")
        self._looked_at = time.monotonic()

    def _hold(self, obstacle: str) -> None:
        if obstacle != self._obstacle:
            log.warning("taking no commands: %s", obstacle)
        self._obstacle = obstacle
        self._subscriber.pause()

    def _go_on(self) -> None:
        if self._obstacle:
            log.info("taking commands again")
        self._obstacle = ""
        self._subscriber.resume()


def take(records: Sequence[Incoming]) -> list[Incoming]:
    """Carries out what is right and buries the rest, in one transaction; returns what is over its client's rate.

    Raises OperationalError, InterfaceError and Busy: then nothing has happened, and later it may go well.
    """
    if not records:
        return []
    try:
        found = [_read(record) for record in records]
        commands = [command for command in found if isinstance(command, Command)]
        with reserved(commands) as rooms, _undone(), transaction.atomic():
            done = iter(carry_out(commands, rooms))
            refusals = [refusal if isinstance(refusal, Refusal) else next(done) for refusal in found]
            for refusal in refusals:
                if isinstance(refusal, IdempotencyInProgress):
                    raise refusal  # as such, so that no place under a limit counts as used
            _bury(records, refusals)
        return [record for record, refusal in zip(records, refusals, strict=True) if isinstance(refusal, RateLimited)]
    except (OperationalError, InterfaceError):
        raise
    except IdempotencyInProgress as error:
        raise Busy("a request with the same idempotency key is still running") from error
    except Exception as undone:
        mistake = undone.__cause__ or undone
        log.error("unexpected error in a group of commands", exc_info=mistake, extra={"count": len(records)})
        if len(records) == 1:
            _bury(records, [Unreadable("internal_error", type(mistake).__name__)])
            return []
        # One of them is to blame, and the others must not suffer.
        return [waiting for record in records for waiting in take([record])]


class _Undone(Refusal):
    """Its cause is a mistake of ours, by which the transaction of a group was rolled back."""


@contextmanager
def _undone() -> Iterator[None]:
    """Around a transaction: an error from which it was rolled back for sure is a refusal, which costs no place."""
    try:
        yield
    except (OperationalError, InterfaceError, Refusal):
        raise
    except Exception as error:
        raise _Undone from error


def full_lanes() -> list[str]:
    found = rows(
        """
        SELECT lane FROM unnest(ARRAY['otp', 'transactional', 'bulk']) lane WHERE EXISTS (
          SELECT FROM messaging_message m WHERE m.status = 'queued' AND m.message_class = lane
          ORDER BY m.not_before OFFSET %(limit)s)""",
        {"limit": settings.KAFKA_LANE_LIMIT},
    )
    return [lane for (lane,) in found]


def _read(record: Incoming) -> Command | Refusal:
    try:
        return read(record.key, record.value)
    except Refusal as refusal:
        return refusal


def _bury(records: Sequence[Incoming], refusals: Sequence[Refusal | None]) -> None:
    letters = [
        _letter(record, refusal)
        for record, refusal in zip(records, refusals, strict=True)
        if refusal and not isinstance(refusal, RateLimited)
    ]
    if not letters:
        return
    # A record that is read twice is buried once.
    DeadLetter.objects.bulk_create(letters, ignore_conflicts=True)
    for reason, count in sorted(Counter(letter.reason for letter in letters).items()):
        log.warning("dead letters", extra={"code": reason, "count": count})


def _letter(record: Incoming, refusal: Refusal) -> DeadLetter:
    key, value = record.key, record.value
    errors = "; ".join(f"{error.field}: {error.code}" for error in refusal.errors)
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        produced_at=record.produced_at,
        key=None if key is None else key[:KEEP_KEY],
        raw=None if value is None else value[:KEEP],
        truncated=len(key or b"") > KEEP_KEY or len(value or b"") > KEEP,
        headers={_text(name): _text(value) for name, value in record.headers[:KEEP_HEADERS]},
        client_id=claimed_source(value),
        reason=refusal.code,
        detail=_text(errors or refusal.detail or refusal.title, 300),
        received_at=datetime.now(UTC),
    )


def _text(value: str | bytes | None, longest: int = KEEP_HEADER) -> str:
    found = value.decode(errors="replace") if isinstance(value, bytes) else value or ""
    return found.replace("\x00", "")[:longest]  # PostgreSQL has no NUL
