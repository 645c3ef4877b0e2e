"""The one transition: guarded moves of many messages at once, each with its event."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.db import models

from messaging.states import FINAL, MOVES, NEVER_SENT, PUBLIC, Status
from messaging.tally import count_messages
from providers.sql import records, rows

if TYPE_CHECKING:
    from messaging.models import Message  # noqa: F401  names what the queryset is of


@dataclass(frozen=True, slots=True)
class Move:
    """One wished-for change of a message's status, and what is written with it.

    `delay` (seconds from now) sets when the message is due again. `mark` remembers the provider:
    "tried" for this round, "barred" for good. "anew" forgets the round and what was spent: a person wants it sent.
    """

    message_id: uuid.UUID
    to: Status
    delay: float | None = None
    error_code: str = ""
    provider_id: int | None = None
    mark: str = ""
    spent: int = 0  # of the attempts allowance
    possible_duplicate: bool = False


class MessageQuerySet(models.QuerySet["Message"]):
    def for_client(self, client_id: uuid.UUID) -> "MessageQuerySet":
        """Every look-up of a client goes through here: what is another's does not exist."""
        return self.filter(client_id=client_id)

    @staticmethod
    def lock(message_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, "Locked"]:
        """Locks rows in id order, as the first statement of every grouped transaction: no two can deadlock."""
        found = rows(
            """
            SELECT id, status, message_class, country, spent, possible_duplicate, expires_at <= clock_timestamp(),
              sent_at IS NOT NULL, failover_after IS NOT NULL
            FROM messaging_message WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE""",
            {"ids": list(message_ids)},
        )
        return {row[0]: Locked(*row) for row in found}

    @staticmethod
    def transition(moves: Collection[Move]) -> set[uuid.UUID]:
        """Makes those moves that the table allows, writes the event of each public one, returns who moved.

        The caller holds the messages. What has left before does not end as if it never had: see _truly.
        """
        if not moves:
            return set()
        params = {
            "rows": records(_truly(moves)),
            "moves": MOVES,
            "public": sorted(PUBLIC),
            "final": sorted(FINAL),
        }
        return {row[0] for row in rows(_TRANSITION, params)}


@dataclass(frozen=True, slots=True)
class Locked:
    """What a grouped transaction needs to know of a message it holds."""

    id: uuid.UUID
    status: str
    message_class: str
    country: str
    spent: int
    possible_duplicate: bool
    overdue: bool
    accepted: bool  # once, by some provider
    fails_over: bool


def _truly(moves: Collection[Move]) -> Collection[Move]:
    """With the truth about messages for which nobody is left, and of which an earlier attempt has left.

    Failed, expired and cancelled say that a message surely was not sent. One that a provider had accepted goes back
    to `sent`, or to `undelivered` where every provider that took it said so; one of which nothing is known is `held`.
    """
    ends = [move.message_id for move in moves if move.to in NEVER_SENT]
    truth = dict(rows(_LEFT, {"ids": ends})) if ends else {}
    if not truth:
        return moves
    return [
        replace(move, to=Status(truth[move.message_id])) if move.to in NEVER_SENT and move.message_id in truth else move
        for move in moves
    ]


_LEFT = """
SELECT m.id, CASE WHEN NOT a.open THEN 'undelivered' WHEN m.sent_at IS NULL THEN 'held' ELSE 'sent' END
FROM messaging_message m, LATERAL (
  SELECT bool_or(a.status = 'superseded' AND a.receipt_status NOT IN ('undelivered', 'expired')) AS open,
    bool_or(a.status IN ('superseded', 'undelivered', 'expired')) AS left_us
  FROM messaging_attempt a WHERE a.message_id = m.id) a
WHERE m.id = ANY(%(ids)s) AND m.status IN ('queued', 'sending') AND a.left_us
"""


#: The data of a message's events, from a row `m` and a provider slug `provider`. Thin: no text, no full number.
EVENT_DATA = """
jsonb_strip_nulls(jsonb_build_object(
  'id', m.id, 'status', m.status, 'class', m.message_class, 'country', m.country, 'segments', m.segments,
  'to_masked', left(m."to", 4) || repeat('*', length(m."to") - 7) || right(m."to", 3),
  'reference', nullif(m.reference, ''), 'metadata', nullif(m.metadata, '{}'),
  'provider', provider, 'error_code', nullif(m.error_code, ''), 'possible_duplicate', m.possible_duplicate))
"""


def fan_out(row: str) -> str:
    """Is the event of `row` to become webhooks? All that an event costs whose client has no endpoint."""
    return f"""EXISTS (SELECT FROM messaging_webhookendpoint one
  WHERE one.client_id = {row}.client_id AND one.deleted_at IS NULL)"""


# One statement: the guarded moves, and the events and counts of those that happened. Timed are what was sent, from when
# it was due, and what was delivered, from when it was sent; a doubt that was settled later has no true latency.
_TRANSITION = f"""
WITH wish AS (
  SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(message_id uuid, "to" text, delay float8, error_code text,
    provider_id bigint, mark text, spent int, possible_duplicate bool)
), m AS (
  UPDATE messaging_message m SET
    status = r."to",
    sequence = m.sequence + (r."to" = ANY(%(public)s))::int,
    error_code = r.error_code,
    spent = CASE r.mark WHEN 'anew' THEN 0 ELSE m.spent + r.spent END,
    possible_duplicate = m.possible_duplicate OR r.possible_duplicate,
    not_before = CASE WHEN r.delay IS NULL THEN m.not_before
                      ELSE clock_timestamp() + r.delay * interval '1 second' END,
    tried = CASE r.mark WHEN 'tried' THEN array_append(m.tried, r.provider_id) WHEN 'anew' THEN '{{}}' ELSE m.tried END,
    barred = CASE r.mark WHEN 'barred' THEN array_append(m.barred, r.provider_id) ELSE m.barred END,
    lease_until = NULL,
    sent_at = CASE WHEN r."to" IN ('sent', 'delivered', 'undelivered')
                   THEN coalesce(m.sent_at, clock_timestamp()) ELSE m.sent_at END,
    closed_at = CASE WHEN r."to" = ANY(%(final)s) THEN clock_timestamp() END
  FROM wish r
  WHERE m.id = r.message_id AND m.status || '>' || r."to" = ANY(%(moves)s)
  RETURNING m.*, r.provider_id, old.status AS was, extract(epoch FROM CASE
    WHEN old.status = 'sending' AND old.sent_at IS NULL THEN m.sent_at - coalesce(m.send_at, m.created_at)
    WHEN old.status = 'sent' AND m.status = 'delivered' THEN m.closed_at - m.sent_at END)::float8 AS seconds
), tallied AS ({count_messages("m")}
), told AS (
  INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at, fan_out)
  SELECT uuidv7(), 'message.' || m.status, m.id::text, m.sequence, m.client_id, {EVENT_DATA}, clock_timestamp(),
    {fan_out("m")}
  FROM m LEFT JOIN LATERAL (SELECT p.slug AS provider FROM providers_provider p WHERE p.id = m.provider_id) p ON true
  WHERE m.status = ANY(%(public)s)
)
SELECT id FROM m
"""  # noqa: S608  a literal fragment
