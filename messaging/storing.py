"""The one statement by which messages are stored: with their events, their counts and the answers to their requests."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from messaging import tasks
from messaging.drafts import Draft
from messaging.errors import Refusal, Suppressed
from messaging.idempotency import KEEP_ANSWERS, LOCK_WAIT, Claim, key_is_taken
from messaging.models import rfc3339
from messaging.moves import EVENT_DATA, fan_out
from messaging.states import Status
from messaging.tally import count_messages
from providers.sql import records, rows
from routing.networks import Network
from routing.prices import plain


@dataclass(frozen=True, slots=True)
class Prepared:
    """A draft with its text, its segments and its price, and what its request is known by."""

    id: uuid.UUID
    client_id: uuid.UUID
    draft: Draft
    text: str
    encoding: str
    segments: int
    sender: str
    cost: Decimal
    currency: str
    network: Network
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it was stored."""

    prepared: Prepared
    status: str
    created_at: datetime
    expires_at: datetime


def store(batch: Sequence[Prepared]) -> list[Stored | Refusal]:
    """One statement for messages, events and answers; a result for each, in their order."""
    wait = LOCK_WAIT if any(item.claim for item in batch) else None
    found = rows(_INSERT, {"rows": records(map(_record, batch)), "wait": wait}, planned_once=True)
    rest = {message_id: row for message_id, *row in found}
    lanes: set[str] = set()
    results: list[Stored | Refusal] = []
    for item in batch:
        status, created_at, expires_at, suppressed = rest[item.id]
        if status is None:
            results.append(Suppressed() if suppressed else key_is_taken())
            continue
        lanes.add(item.draft.message_class.value)
        results.append(Stored(item, status, created_at, expires_at))
    for lane in lanes:
        transaction.on_commit(lambda lane=lane: tasks.hint(lane), robust=True)  # type: ignore[misc]
    return results


def _record(item: Prepared) -> dict[str, Any]:
    record = {
        "id": item.id,
        "client_id": item.client_id,
        "class": item.draft.message_class,
        "to": item.draft.msisdn,
        "country": item.draft.country,
        "sender": item.sender,
        "text": item.text,
        "encoding": item.encoding,
        "segments": item.segments,
        "template": item.draft.template,
        "locale": item.draft.locale,
        "reference": item.draft.reference,
        "metadata": item.draft.metadata,
        "cost": item.cost,
        "currency": item.currency,
        "send_at": item.draft.send_at,
        "validity": item.draft.validity,
        "renderer": item.draft.renderer,
        "tried": item.draft.tried,
        "failover": item.draft.failover_after,
        "max_price": item.draft.max_price,
        "mcc": item.network.mcc,
        "mnc": item.network.mnc,
    }
    if item.claim:
        record |= {"key": item.claim.key, "fingerprint": item.claim.fingerprint.hex(), "answer": _known(item)}
    return record


_NEW = "(SELECT *, NULL::bigint AS provider_id, NULL AS was, NULL::float8 AS seconds FROM m) new"
_ISO = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
# The keys come first and in their order, so that two groups wait for each other but never deadlock: a twin waits in
# ON CONFLICT until the first one has committed, for LOCK_WAIT at most, and is then not stored. Its answer is kept
# as `_body` says it, in the words of the database.
_INSERT = f"""
WITH r AS (
  SELECT *, coalesce(r.send_at > now, false) AS later, greatest(r.send_at, now) AS due,
    greatest(r.send_at, now) + validity * interval '1 second' AS ends, EXISTS (
      SELECT FROM messaging_suppression s
      WHERE s.msisdn = r."to" AND (s.client_id IS NULL OR s.client_id = r.client_id)) AS suppressed
  FROM (SELECT clock_timestamp() AS now, CASE WHEN %(wait)s::text IS NOT NULL
      THEN set_config('lock_timeout', %(wait)s, true) END) clock,
    jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, client_id uuid, class text, "to" text, country text,
    sender text, text text, encoding text, segments int, template text, locale text, reference text, metadata jsonb,
    cost numeric, currency text, send_at timestamptz, validity int, renderer text, tried bigint[], failover int,
    max_price numeric, mcc text, mnc text, key text, fingerprint text, answer jsonb)
), kept AS (
  INSERT INTO messaging_idempotencykey (client_id, key, fingerprint, status, body, expires_at)
  SELECT r.client_id, r.key, decode(r.fingerprint, 'hex'), 202, r.answer || jsonb_build_object(
      'status', CASE WHEN r.later THEN 'scheduled' ELSE 'queued' END, 'created_at', {_ISO.format("r.now")},
      'expires_at', {_ISO.format("r.ends")}),
    clock_timestamp() + interval '{KEEP_ANSWERS}'
  FROM r WHERE r.key IS NOT NULL AND NOT r.suppressed ORDER BY r.client_id, r.key, r.id
  ON CONFLICT (client_id, key) DO NOTHING RETURNING body->>'id' AS id
), m AS (
  INSERT INTO messaging_message (id, client_id, status, message_class, "to", country, sender, text, encoding, segments,
    template, locale, reference, metadata, estimated_cost, currency, send_at, not_before, expires_at, sequence,
    created_at, renderer, tried, failover_after, max_price, mcc, mnc)
  SELECT r.id, r.client_id, CASE WHEN r.later THEN 'scheduled' ELSE 'queued' END, r.class, r."to", r.country,
    r.sender, r.text, r.encoding, r.segments, r.template, r.locale, r.reference, r.metadata, r.cost, r.currency,
    CASE WHEN r.later THEN r.send_at END, r.due, r.ends, 1, r.now, r.renderer,
    r.tried, r.failover, r.max_price, r.mcc, r.mnc
  FROM r WHERE NOT r.suppressed AND (r.key IS NULL OR r.id::text IN (SELECT id FROM kept))
  RETURNING *
), tallied AS ({count_messages(_NEW)}
), told AS (
  INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at, fan_out)
  SELECT uuidv7(), 'message.accepted', m.id::text, 1, m.client_id, {EVENT_DATA}, m.created_at, {fan_out("m")}
  FROM m, (SELECT NULL::text AS provider) p
)
SELECT r.id, m.status, m.created_at, m.expires_at, r.suppressed FROM r LEFT JOIN m ON m.id = r.id
"""  # noqa: S608  literal fragments


def body(stored: Stored) -> dict[str, Any]:
    row = {"status": Status(stored.status).value, "created_at": rfc3339(stored.created_at)}
    return {**_known(stored.prepared), **row, "expires_at": rfc3339(stored.expires_at)}


def _known(prepared: Prepared) -> dict[str, Any]:
    """The answer but for what the database decides."""
    draft = prepared.draft
    return {
        "id": str(prepared.id),
        "status": "",
        "to": draft.msisdn,
        "class": draft.message_class.value,
        "country": draft.country,
        "sender": prepared.sender,
        "encoding": prepared.encoding,
        "segments": prepared.segments,
        "estimated_cost": {"amount": str(prepared.cost), "currency": prepared.currency},
        "max_price": None if draft.max_price is None else plain(draft.max_price),
        "reference": draft.reference,
        "metadata": dict(draft.metadata),
        "possible_duplicate": False,
        "created_at": "",
        "expires_at": "",
    }
