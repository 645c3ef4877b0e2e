"""Moves what time has moved: leases that ran out, deadlines, schedules. It never sends.

What is due is compared with statement_timestamp(): no index is searched by clock_timestamp(), which is volatile.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from messaging import failover, reconcile, tally
from messaging.models import Message
from messaging.moves import Move
from messaging.states import EVENTS, Status
from messaging.tally import ATTEMPT_CHANGE, COUNT_ATTEMPTS
from providers.sql import in_groups, records, rows
from routing.snapshot import tables

log = logging.getLogger(__name__)

GROUP = 200
STEP = 2.0  # seconds for one kind of work in a round: the others wait for it, and so does a stop
RECEIPT_WAIT = "72 hours"
SCHEDULED = "status = 'scheduled' AND not_before <= statement_timestamp() ORDER BY not_before"
EXPIRED = "status IN ('queued', 'scheduled') AND expires_at <= statement_timestamp() ORDER BY expires_at"


def sweep() -> set[str]:
    """One round; returns the lanes to wake."""
    lanes: set[str] = set()
    for step in (lost_leases, due_schedules, expired, unheard, silent, old_keys):
        until = time.monotonic() + STEP
        while moved := step():
            lanes |= moved
            if time.monotonic() > until:
                break
    lanes |= waiting()
    tally.fold()
    return lanes


def lost_leases() -> set[str]:
    """sending -> unknown: its worker is gone, or frozen, or cut off. What went out, reconcile finds out."""
    with transaction.atomic():
        found = rows(
            f"""
            SELECT m.id, m.message_class, a.id, a.provider_id
            FROM messaging_message m JOIN messaging_attempt a ON a.message_id = m.id AND a.status = 'intent'
            WHERE m.status = 'sending' AND m.lease_until < statement_timestamp() - %(grace)s * interval '1 second'
            ORDER BY m.lease_until LIMIT {GROUP} FOR UPDATE OF m SKIP LOCKED""",  # noqa: S608  literals of this module
            {"grace": settings.LEASE_GRACE},
        )
        if not found:
            return set()
        routes = tables.get().routes
        values = [
            {"id": attempt, "look": reconcile.first_look(routes.get(provider), message_class)}
            for _, message_class, attempt, provider in found
        ]
        rows(
            f"""
            WITH a AS (
            UPDATE messaging_attempt a SET status = 'unknown', error_code = %(code)s,
              finished_at = clock_timestamp(), resolve_at = a.started_at + r.look * interval '1 second'
            FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, look float8)
            WHERE a.id = r.id AND a.status = 'intent'
            RETURNING {ATTEMPT_CHANGE}, NULL::float8 AS seconds)
            {COUNT_ATTEMPTS}""",  # noqa: S608  literal fragments
            {"rows": records(values), "code": reconcile.WORKER_LOST},
        )
        Message.objects.transition(
            [
                Move(message, Status.UNKNOWN, error_code=reconcile.WORKER_LOST, provider_id=p)
                for message, _, _, p in found
            ]
        )
    log.warning("took over messages from workers that are gone", extra={"count": len(found)})
    return {EVENTS}


def due_schedules() -> set[str]:
    """scheduled -> queued."""
    return _move(SCHEDULED, Status.QUEUED)


def expired() -> set[str]:
    """queued or scheduled -> expired: never sent later than the caller wanted."""
    return _move(EXPIRED, Status.EXPIRED, "validity_over")


def unheard() -> set[str]:
    """sent -> queued: no receipt in time, and another provider may take it."""
    lanes: set[str] = set()
    until = time.monotonic() + STEP
    while True:
        looked_at, due = failover.unheard(GROUP)
        lanes |= due
        if looked_at < GROUP or time.monotonic() > until:
            return lanes


def silent() -> set[str]:
    """Marks what was sent and never heard of again."""
    _repeat(f"""
        UPDATE messaging_message SET receipt_overdue = true WHERE id IN (
          SELECT id FROM messaging_message WHERE status = 'sent' AND NOT receipt_overdue
            AND sent_at < statement_timestamp() - interval '{RECEIPT_WAIT}' ORDER BY sent_at LIMIT {GROUP}
            FOR UPDATE SKIP LOCKED) RETURNING 1""")  # noqa: S608  literals of this module
    return set()


def old_keys() -> set[str]:
    """Forgets the answers that are no longer replayed."""
    _repeat(f"""
        DELETE FROM messaging_idempotencykey WHERE id IN (
          SELECT id FROM messaging_idempotencykey WHERE expires_at < statement_timestamp() LIMIT {GROUP}
          FOR UPDATE SKIP LOCKED) RETURNING 1""")  # noqa: S608  literals of this module
    return set()


def _repeat(statement: str) -> None:
    """Group by group until one is not full: a group a round would fall behind a busy door."""
    in_groups(lambda: len(rows(statement)), GROUP, STEP)


def waiting() -> set[str]:
    """Lanes with something due: a hint for those whose own hint was lost."""
    found = rows("""
        SELECT lane FROM unnest(ARRAY['otp', 'transactional', 'bulk']) lane WHERE EXISTS (
          SELECT FROM messaging_message m WHERE m.status = 'queued' AND m.message_class = lane
            AND m.not_before <= statement_timestamp())
        UNION ALL SELECT 'events' WHERE EXISTS (SELECT FROM messaging_attempt
          WHERE status = 'unknown' AND resolve_at <= statement_timestamp())
          OR EXISTS (SELECT FROM messaging_receipt WHERE applied_at IS NULL AND apply_at <= statement_timestamp())
    """)
    return {row[0] for row in found}


def _move(where: str, to: Status, error_code: str = "") -> set[str]:
    with transaction.atomic():
        found = rows(
            f"""
            SELECT id, message_class FROM messaging_message WHERE {where}
            LIMIT {GROUP} FOR UPDATE SKIP LOCKED"""  # noqa: S608  literals of this module
        )
        Message.objects.transition([Move(message, to, error_code=error_code) for message, _ in found])
    return {lane for _, lane in found}


class Periodic:
    """settings.PERIODIC: (dotted path, seconds), each run when its time has come; a failure stops nobody else."""

    def __init__(self) -> None:
        self._due: list[list[Any]] = [[0.0, seconds, import_string(path)] for path, seconds in settings.PERIODIC]

    def run(self) -> None:
        for entry in self._due:
            when, seconds, work = entry
            if time.monotonic() >= when:
                entry[0] = time.monotonic() + seconds
                self._safely(work)

    @staticmethod
    def _safely(work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception:
            log.exception("periodic work failed: %s", getattr(work, "__name__", work))
