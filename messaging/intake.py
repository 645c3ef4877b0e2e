"""The one way in. Every door translates its request and calls `accept` or `accept_many`."""

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import orjson
from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from messaging import drafts, tasks, texts
from messaging.clients import Caller
from messaging.drafts import MAX_SEGMENTS, Draft
from messaging.errors import (
    FieldError,
    IdempotencyInProgress,
    IdempotencyMismatch,
    InvalidRequest,
    MissingScope,
    NoRoute,
    Refusal,
    Suppressed,
)
from messaging.models import EVENT_DATA, uuid7
from messaging.states import MessageClass, Status
from providers.health import Board
from providers.sql import records, rows
from routing import encoding
from routing.lcr import candidates
from routing.snapshot import tables

KEY = re.compile(r'"[\x21\x23-\x7e]{1,255}"|[\x21-\x7e]{1,255}')
KEEP_ANSWERS = "7 days"
LOCK_WAIT = "3s"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told. `replayed`: it is the first answer to the same request, once more."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A draft with its text, its segments and its price."""

    id: uuid.UUID
    draft: Draft
    text: str
    encoding: str
    segments: int
    sender: str
    cost: Decimal
    currency: str


def accept(caller: Caller, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Accepts one message: a durable row and its event before the answer, a hint to the workers after it.

    Raises Refusal; then nothing is stored.
    """
    if idempotency_key is None:
        return Answer(202, _one(caller, data))
    key = _read_key(idempotency_key)
    fingerprint = hashlib.sha256(b"message\n" + _canonical(data)).digest()
    with transaction.atomic():
        answer = _first_answer(caller, key, fingerprint)
        if answer is None:
            answer = Answer(202, _one(caller, data))
            rows(
                "UPDATE messaging_idempotencykey SET status = 202, body = %(body)s::jsonb "
                "WHERE client_id = %(client)s AND key = %(key)s",
                {"body": orjson.dumps(answer.body).decode(), "client": caller.id, "key": key},
            )
    return answer


def accept_many(caller: Caller, items: Sequence[Any]) -> list[uuid.UUID | Refusal]:
    """Accepts what is right of many, in one statement; gives an id or a refusal for each, in their order."""
    results: list[uuid.UUID | Refusal] = []
    good: list[Prepared] = []
    for data in items:
        try:
            prepared = prepare(caller, drafts.read(data))
            good.append(prepared)
            results.append(prepared.id)
        except Refusal as refusal:
            results.append(refusal)
    stored = _insert(caller, good).keys()
    return [Suppressed() if isinstance(result, uuid.UUID) and result not in stored else result for result in results]


def _one(caller: Caller, data: Any) -> dict[str, Any]:
    prepared = prepare(caller, drafts.read(data))
    stored = _insert(caller, [prepared])
    if prepared.id not in stored:
        raise Suppressed
    status, created_at, expires_at = stored[prepared.id]
    return _body(prepared, status, created_at, expires_at)


def prepare(caller: Caller, draft: Draft) -> Prepared:
    """Fills in text, segments, sender and price. Raises Refusal."""
    if draft.message_class == MessageClass.OTP and "otp" not in caller.scopes:
        raise MissingScope("Messages of class otp need the scope otp.")
    text = draft.text
    if draft.template:
        text = texts.render(client=caller.slug, name=draft.template, locale=draft.locale, params=draft.params)
    measured = encoding.measure(text)
    if not text.strip() or measured.segments > MAX_SEGMENTS:  # a template becomes that by its parameters
        error = ("too_long", f"At most {MAX_SEGMENTS} segments.") if text.strip() else ("empty", "The text is empty.")
        raise InvalidRequest(errors=(FieldError("params", *error),))
    sender = draft.sender or caller.sender
    found = candidates(
        tables.get(),
        Board(),  # a breaker that is open now may be closed when the message leaves
        msisdn=draft.msisdn,
        country=draft.country,
        segments=measured.segments,
        message_class=draft.message_class,
        client=caller.slug,
        sender=sender,
        at=datetime.now(UTC),
    )
    best = next((candidate for candidate in found if candidate.usable), None)
    if best is None or best.total is None:
        raise NoRoute(f"There is no provider with a price for {draft.country}.")
    return Prepared(uuid7(), draft, text, measured.name, measured.segments, sender, best.total, best.currency)


def _insert(caller: Caller, batch: Sequence[Prepared]) -> dict[uuid.UUID, tuple[str, datetime, datetime]]:
    """One statement for messages and events; returns id -> (status, created_at, expires_at), without the suppressed."""
    if not batch:
        return {}
    values = [
        {
            "id": item.id,
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
        }
        for item in batch
    ]
    found = rows(_INSERT, {"rows": records(values), "client": caller.id}, planned_once=True)
    for lane in {item.draft.message_class.value for item in batch}:
        transaction.on_commit(partial(tasks.hint, lane), robust=True)
    return {row[0]: (row[1], row[2], row[3]) for row in found}


_INSERT = f"""
WITH r AS (
  SELECT *, clock_timestamp() AS now FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, class text, "to" text,
    country text, sender text, text text, encoding text, segments int, template text, locale text, reference text,
    metadata jsonb, cost numeric, currency text, send_at timestamptz, validity int)
), m AS (
  INSERT INTO messaging_message (id, client_id, status, message_class, "to", country, sender, text, encoding, segments,
    template, locale, reference, metadata, estimated_cost, currency, not_before, expires_at, sequence, created_at)
  SELECT r.id, %(client)s, CASE WHEN r.send_at > r.now THEN 'scheduled' ELSE 'queued' END, r.class, r."to", r.country,
    r.sender, r.text, r.encoding, r.segments, r.template, r.locale, r.reference, r.metadata, r.cost, r.currency,
    greatest(r.send_at, r.now), greatest(r.send_at, r.now) + r.validity * interval '1 second', 1, r.now
  FROM r WHERE NOT EXISTS (SELECT FROM messaging_suppression s
    WHERE s.msisdn = r."to" AND (s.client_id IS NULL OR s.client_id = %(client)s))
  RETURNING *
), told AS (
  INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at)
  SELECT uuidv7(), 'message.accepted', m.id::text, 1, m.client_id, {EVENT_DATA}, m.created_at
  FROM m, (SELECT NULL::text AS provider) p
)
SELECT id, status, created_at, expires_at FROM m
"""  # noqa: S608  a literal fragment


def _body(prepared: Prepared, status: str, created_at: datetime, expires_at: datetime) -> dict[str, Any]:
    draft = prepared.draft
    return {
        "id": str(prepared.id),
        "status": Status(status).value,
        "to": draft.msisdn,
        "class": draft.message_class.value,
        "country": draft.country,
        "sender": prepared.sender,
        "encoding": prepared.encoding,
        "segments": prepared.segments,
        "estimated_cost": {"amount": str(prepared.cost), "currency": prepared.currency},
        "reference": draft.reference,
        "metadata": dict(draft.metadata),
        "possible_duplicate": False,
        "created_at": _iso(created_at),
        "expires_at": _iso(expires_at),
    }


def _first_answer(caller: Caller, key: str, fingerprint: bytes) -> Answer | None:
    """Takes the key for this request (None), or gives the answer that the first one got.

    A concurrent twin waits here until the first one has committed. Raises IdempotencyInProgress when
    that takes longer than LOCK_WAIT, IdempotencyMismatch for another request under the same key.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        taken = rows(
            f"""
            INSERT INTO messaging_idempotencykey (client_id, key, fingerprint, expires_at)
            VALUES (%(client)s, %(key)s, %(fingerprint)s, clock_timestamp() + interval '{KEEP_ANSWERS}')
            ON CONFLICT (client_id, key) DO NOTHING RETURNING 1""",  # noqa: S608  literals of this module
            {"client": caller.id, "key": key, "fingerprint": fingerprint},
        )
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise IdempotencyInProgress("Ask again in a second.", retry_after=1) from error
        raise
    if taken:
        return None
    found = rows(
        "SELECT fingerprint, status, body::text FROM messaging_idempotencykey "
        "WHERE client_id = %(client)s AND key = %(key)s",
        {"client": caller.id, "key": key},
    )
    if not found:  # purged between the two statements
        raise IdempotencyInProgress("Ask again in a second.", retry_after=1)
    stored, status, body = found[0]
    if bytes(stored) != fingerprint:
        raise IdempotencyMismatch("Use a new key for another request.")
    return Answer(status, orjson.loads(body), replayed=True)


def _read_key(key: str) -> str:
    """The draft's quoted form and the bare one are the same key."""
    if not KEY.fullmatch(key):
        error = FieldError("Idempotency-Key", "bad_format", "1 to 255 visible ASCII characters.")
        raise InvalidRequest(errors=(error,))
    return key[1:-1] if key.startswith('"') and key.endswith('"') and len(key) > 2 else key


def _canonical(data: Any) -> bytes:
    """The same request however its names are ordered. What cannot be written is refused later: any constant will do."""
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, a huge integer, deep nesting
        return b""


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
