"""On to the next provider, though one has taken the message: its receipt does not come, or says undelivered.

Only messages with `failover_after` do that, and only while another provider can take them now. The one that took it
first keeps its say: a late receipt of its attempt still delivers the message.
"""

import json
import uuid
from collections.abc import Collection, Mapping

from django.db import transaction

from messaging.models import Message
from messaging.moves import Move
from messaging.planning import depth
from messaging.states import MessageClass, Status
from messaging.tally import ATTEMPT_CHANGE, COUNT_ATTEMPTS
from providers import health
from providers.sql import rows
from routing.lcr import candidates
from routing.networks import Network
from routing.snapshot import tables


def elsewhere(taken_by: Mapping[uuid.UUID, int]) -> set[uuid.UUID]:
    """Which of these messages (id -> the provider that took it) a healthy provider could take that has not tried."""
    if not taken_by:
        return set()
    book, board = tables.get(), health.board()
    found = rows(
        """
        SELECT m.id, m."to", m.country, m.segments, m.message_class, c.slug, m.sender, m.tried || m.barred,
          m.mcc, m.mnc, m.max_price, clock_timestamp()
        FROM messaging_message m JOIN messaging_client c ON c.id = m.client_id WHERE m.id = ANY(%(ids)s)""",
        {"ids": list(taken_by)},
    )
    return {
        message
        for message, to, country, segments, message_class, client, sender, tried, mcc, mnc, max_price, now in found
        if any(
            candidate.usable and not candidate.blocked
            for candidate in candidates(
                book,
                board,
                msisdn=to,
                country=country,
                segments=segments,
                message_class=message_class,
                client=client,
                sender=sender,
                at=now,
                exclude={*tried, taken_by[message]},
                network=Network(mcc, mnc),
                max_price=max_price,
            )
        )
    }


def unheard(limit: int) -> tuple[int, set[str]]:
    """sent -> queued where no receipt came in time; returns how many were looked at, and the lanes to wake."""
    with transaction.atomic():
        found = rows(_UNHEARD, {"limit": limit, "most": json.dumps({lane: depth(lane) for lane in MessageClass})})
        late = {message: (lane, attempt, provider) for message, lane, attempt, provider, may in found if may}
        others = elsewhere({message: provider for message, (_, _, provider) in late.items()})
        _end([message for message, *_ in found if message not in late])
        _look_again([message for message in late if message not in others])
        gone = _supersede([attempt for message, (_, attempt, _) in late.items() if message in others])
        Message.objects.transition(
            [
                Move(
                    message,
                    Status.QUEUED,
                    delay=0,
                    provider_id=late[message][2],
                    mark="tried",
                    spent=1,
                    possible_duplicate=True,
                )
                for message in gone
            ]
        )
    return len(found), {late[message][0] for message in gone}


# A stored receipt that is not applied yet is a word too: events workers that lag must not double every code.
# In the order of their index: by id, the planner might walk through all messages that there ever were.
# The accepted attempt counts in the allowance, so that a message goes out by at most so many providers.
_UNHEARD = """
SELECT m.id, m.message_class, a.id, a.provider_id,
  a.id IS NOT NULL AND m.expires_at > clock_timestamp() AND m.spent + 1 < (%(most)s::jsonb ->> m.message_class)::int
FROM messaging_message m LEFT JOIN messaging_attempt a ON a.message_id = m.id AND a.status = 'accepted'
WHERE m.status = 'sent' AND m.failover_after IS NOT NULL
  AND greatest(m.sent_at, a.finished_at) < clock_timestamp() - m.failover_after * interval '1 second'
  AND NOT EXISTS (SELECT FROM messaging_receipt r WHERE r.applied_at IS NULL AND r.our_reference = a.our_reference)
ORDER BY m.sent_at LIMIT %(limit)s FOR UPDATE OF m SKIP LOCKED
"""


def _end(messages: Collection[uuid.UUID]) -> None:
    """They stay sent: the partial index forgets them."""
    if messages:
        Message.objects.filter(id__in=messages).update(failover_after=None)


def _look_again(messages: Collection[uuid.UUID]) -> None:
    """Nobody else can take them now: they are looked at again after as long again, a few times in a validity."""
    if messages:
        rows(
            """
            UPDATE messaging_message SET failover_after = least(2 * failover_after::int, 32767)
            WHERE id = ANY(%(ids)s) RETURNING 1""",
            {"ids": list(messages)},
        )


def _supersede(attempts: Collection[uuid.UUID]) -> list[uuid.UUID]:
    """accepted -> superseded; returns the messages of those that were."""
    if not attempts:
        return []
    found = rows(
        f"""
        WITH a AS (
        UPDATE messaging_attempt a SET status = 'superseded' WHERE a.id = ANY(%(ids)s) AND a.status = 'accepted'
        RETURNING a.message_id, {ATTEMPT_CHANGE}, NULL::float8 AS seconds
        ), tallied AS ({COUNT_ATTEMPTS}
        )
        SELECT message_id FROM a""",  # noqa: S608  literal fragments
        {"ids": list(attempts)},
    )
    return [row[0] for row in found]
