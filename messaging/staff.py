"""What staff decide by hand, by the same rules as everywhere: lock, transition, all in one transaction."""

import uuid
from collections.abc import Callable, Collection

from django.db import transaction
from django.db.models.functions import Now

from messaging import tasks
from messaging.models import ApiKey, Message
from messaging.moves import Locked, Move
from messaging.states import ATTEMPT_MOVES, AttemptStatus, Status
from messaging.tally import ATTEMPT_CHANGE, COUNT_ATTEMPTS
from providers.sql import rows


def send_again(message_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """held -> queued, marked as a possible duplicate. One past its validity stays held; returns who moved.

    Whoever has not refused it for good is a candidate again, with a fresh allowance of attempts.
    """

    def move(message: Locked) -> Move | None:
        if message.overdue:
            return None
        return Move(message.id, Status.QUEUED, delay=0, mark="anew", possible_duplicate=True)

    moved, lanes = _decide(message_ids, move, AttemptStatus.SUPERSEDED)
    for lane in lanes:
        transaction.on_commit(lambda lane=lane: tasks.hint(lane))  # type: ignore[misc]
    return moved


def close_as_failed(message_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """held -> failed. It may have gone out all the same, so it is marked: the caller may send it anew."""

    def move(message: Locked) -> Move:
        return Move(message.id, Status.FAILED, error_code="closed_by_staff", possible_duplicate=True)

    return _decide(message_ids, move, AttemptStatus.SUPERSEDED)[0]


def confirm_sent(message_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """held -> sent: the provider told a person that it has it. Its receipt is awaited as usual."""
    return _decide(message_ids, lambda message: Move(message.id, Status.SENT), AttemptStatus.ACCEPTED)[0]


def _decide(
    message_ids: Collection[uuid.UUID], move: Callable[[Locked], Move | None], attempt_to: AttemptStatus
) -> tuple[set[uuid.UUID], set[str]]:
    """Returns the messages that moved, and their lanes."""
    with transaction.atomic():
        locked = Message.objects.lock(message_ids)
        wishes = [move(message) for message in locked.values() if message.status == Status.HELD]
        moved = Message.objects.transition([wish for wish in wishes if wish])
        rows(
            f"""
            WITH a AS (
            UPDATE messaging_attempt a SET status = %(to)s, finished_at = clock_timestamp(), resolve_at = NULL,
              resolve_lease_until = NULL
            WHERE message_id = ANY(%(ids)s) AND status = 'unknown' AND status || '>' || %(to)s = ANY(%(moves)s)
            RETURNING {ATTEMPT_CHANGE}, NULL::float8 AS seconds)
            {COUNT_ATTEMPTS}""",  # noqa: S608  literal fragments
            {"to": attempt_to, "ids": list(moved), "moves": ATTEMPT_MOVES},
        )
    return moved, {locked[message_id].message_class for message_id in moved}


def revoke_key(key_id: str) -> bool:
    """False when it was revoked before. Every process knows within SNAPSHOT_MAX_AGE seconds."""
    return bool(ApiKey.objects.filter(pk=key_id, revoked_at=None).update(revoked_at=Now()))
