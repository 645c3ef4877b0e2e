"""The one way in. Every door translates its request and calls `accept` or `accept_many`."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.db import transaction

from messaging import drafts, quotas, tasks, texts
from messaging.clients import Caller
from messaging.drafts import MAX_SEGMENTS, Draft
from messaging.errors import FieldError, InvalidRequest, MissingScope, NoRoute, Refusal, Suppressed
from messaging.idempotency import Answer, Claim, claim_params, keep, once, once_each
from messaging.models import rfc3339, uuid7
from messaging.moves import EVENT_DATA
from messaging.quotas import Room, reserve
from messaging.states import MessageClass, Status
from messaging.tally import count_messages
from providers.health import Board
from providers.sql import records, rows
from routing import encoding
from routing.lcr import Candidate, candidates
from routing.networks import Network, resolve
from routing.prices import plain
from routing.snapshot import tables

Made = TypeVar("Made")
REFUSALS = (InvalidRequest, MissingScope, NoRoute, Suppressed, *quotas.REFUSALS)  # of one message


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
    network: Network


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it was stored."""

    prepared: Prepared
    status: str
    created_at: datetime
    expires_at: datetime


def accept(caller: Caller, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Accepts one message: a durable row and its event before the answer, a hint to the workers after it.

    Raises Refusal; then nothing is stored.
    """

    def work(claim: Claim | None) -> Answer:
        (result,) = _accept(caller, [data], room, claim)
        if isinstance(result, Refusal):
            raise result
        return Answer(202, _body(result))

    with reserve(caller, 1) as room:
        return _counted(once(caller, "message", data, idempotency_key, work, keeps=True), room)


def accept_batch(caller: Caller, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Accepts what is right of a batch and tells each item's id or problem; the key is for the whole of it.

    Raises Refusal where there is no list to read, and where a limit leaves no room for any; then nothing is stored.
    """

    def work(_: Claim | None) -> Answer:
        found = _accept(caller, drafts.read_batch(data), room)
        if room.refusal in found and not room.places:
            raise room.refusal
        results = [
            {"index": index, "error": result.problem()}
            if isinstance(result, Refusal)
            else {"index": index, "id": str(result.prepared.id)}
            for index, result in enumerate(found)
        ]
        accepted = room.spent
        return Answer(202, {"accepted": accepted, "rejected": len(results) - accepted, "results": results})

    with reserve(caller, drafts.batch_size(data)) as room:
        return _counted(once(caller, "batch", data, idempotency_key, work), room)


def _counted(answer: Answer, room: Room) -> Answer:
    """What a repeat stored is undone, and costs no place."""
    if answer.replayed:
        room.spent = 0
    return answer


def accept_each(caller: Caller, requests: Sequence[tuple[str, Any]], room: Room) -> list[Answer | Refusal]:
    """Accepts what is right of many, each under its own idempotency key; a result for each, in their order.

    `room` is reserved by who opens the transaction, and may serve several of these calls.
    """

    def work(items: list[Any]) -> list[Answer | Refusal]:
        found = _accept(caller, items, room)
        return [result if isinstance(result, Refusal) else Answer(202, _body(result)) for result in found]

    return once_each(caller, "message", requests, work)


def accept_many(caller: Caller, items: Sequence[Any]) -> list[uuid.UUID | Refusal]:
    """Accepts what is right of many, in one statement; gives an id or a refusal for each, in their order."""
    with reserve(caller, len(items)) as room:
        results = _accept(caller, items, room)
    return [result if isinstance(result, Refusal) else result.prepared.id for result in results]


def accept_draft(caller: Caller, draft: Draft, room: Room) -> Stored:
    """Accepts what another app has drafted, in the caller's transaction and in `room`. Raises Refusal."""
    if room.places <= room.spent and room.refusal:
        raise room.refusal
    stored = _insert(caller, [prepare(caller, draft)], None)
    if not stored:
        raise Suppressed
    room.spent += 1
    return next(iter(stored.values()))


def _accept(caller: Caller, items: Sequence[Any], room: Room, claim: Claim | None = None) -> list[Stored | Refusal]:
    """`claim`: of the one item that there is then; its answer is stored with it."""
    read = [_attempt(drafts.read, data) for data in items]
    located = _networks([draft for draft in read if isinstance(draft, Draft)])
    results: list[Prepared | Refusal] = [
        draft if isinstance(draft, Refusal) else _attempt(prepare, caller, draft, located.get(draft.msisdn))
        for draft in read
    ]
    prepared = [result for result in results if isinstance(result, Prepared)]
    free = room.places - room.spent
    stored = _insert(caller, prepared[:free], claim)
    room.spent += len(stored)
    beyond = {item.id: room.refusal for item in prepared[free:]}
    return [
        result if isinstance(result, Refusal) else stored.get(result.id) or beyond.get(result.id) or Suppressed()
        for result in results
    ]


def _attempt(work: Callable[..., Made], *args: Any) -> Made | Refusal:
    try:
        return work(*args)
    except Refusal as refusal:
        return refusal


def _networks(read: Sequence[Draft]) -> dict[str, Network]:
    """The networks of those numbers whose price depends on it: one query for all, and none where there are none."""
    book = tables.get()
    asked = {draft.msisdn for draft in read if book.network_matters(draft.country)}
    return resolve(asked) if asked else {}


def prepare(caller: Caller, draft: Draft, network: Network | None = None) -> Prepared:
    """Fills in text, segments, sender and price. Raises Refusal."""
    if draft.message_class == MessageClass.OTP and "otp" not in caller.scopes:
        raise MissingScope("Messages of class otp need the scope otp.")
    text = draft.text
    if draft.template:
        text = texts.render(client=caller.slug, name=draft.template, locale=draft.locale, params=draft.params)
    measured = encoding.measure(draft.sample or text)
    if not draft.renderer:
        written = encoding.write(text, caller.transliteration)
        text, measured = written.text, written.encoding
    if not text.strip() or measured.segments > MAX_SEGMENTS:  # a template becomes that by its parameters
        error = ("too_long", f"At most {MAX_SEGMENTS} segments.") if text.strip() else ("empty", "The text is empty.")
        raise InvalidRequest(errors=(FieldError("params", *error),))
    sender = draft.sender or caller.sender
    book = tables.get()
    if network is None:
        network = book.plan.of(draft.msisdn)
    found = candidates(
        book,
        Board(),  # a breaker that is open now may be closed when the message leaves
        msisdn=draft.msisdn,
        country=draft.country,
        segments=measured.segments,
        message_class=draft.message_class,
        client=caller.slug,
        sender=sender,
        at=datetime.now(UTC),
        network=network,
        max_price=draft.max_price,
    )
    best = next((candidate for candidate in found if candidate.usable), None)
    if best is None or best.total is None:
        raise NoRoute(_nobody(draft, found))
    cost = (best.total, best.currency)
    return Prepared(uuid7(), draft, text, measured.name, measured.segments, sender, *cost, network)


def _nobody(draft: Draft, found: Sequence[Candidate]) -> str:
    if any(candidate.reason == "above_max_price" for candidate in found):
        return "Every provider that could take it costs more than max_price."
    if all(candidate.reason == "no_price" for candidate in found):
        return f"There is no provider with a price for {draft.country}."
    return f"No provider may take it to {draft.country} now; POST /api/v1/quotes says why not."


def _insert(caller: Caller, batch: Sequence[Prepared], claim: Claim | None) -> dict[uuid.UUID, Stored]:
    """One statement for messages and events; returns what is stored by its id, without the suppressed."""
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
            "renderer": item.draft.renderer,
            "tried": item.draft.tried,
            "failover": item.draft.failover_after,
            "max_price": item.draft.max_price,
            "mcc": item.network.mcc,
            "mnc": item.network.mnc,
        }
        for item in batch
    ]
    params: dict[str, Any] = {"rows": records(values), "client": caller.id}
    if claim:
        params |= claim_params(caller, claim, Answer(202, _known(batch[0])))
    found = rows(_INSERT_WITH_ANSWER if claim else _INSERT, params, planned_once=True)
    prepared = {item.id: item for item in batch}
    stored = {row[0]: Stored(prepared[row[0]], *row[1:]) for row in found}
    for lane in {item.prepared.draft.message_class.value for item in stored.values()}:
        transaction.on_commit(lambda lane=lane: tasks.hint(lane), robust=True)  # type: ignore[misc]
    return stored


_NEW = "(SELECT *, NULL::bigint AS provider_id, NULL AS was, NULL::float8 AS seconds FROM m) new"


def _statement(also: str = "") -> str:
    return f"""
WITH r AS (
  SELECT *, clock_timestamp() AS now FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, class text, "to" text,
    country text, sender text, text text, encoding text, segments int, template text, locale text, reference text,
    metadata jsonb, cost numeric, currency text, send_at timestamptz, validity int, renderer text, tried bigint[],
    failover int, max_price numeric, mcc text, mnc text)
), m AS (
  INSERT INTO messaging_message (id, client_id, status, message_class, "to", country, sender, text, encoding, segments,
    template, locale, reference, metadata, estimated_cost, currency, send_at, not_before, expires_at, sequence,
    created_at, renderer, tried, failover_after, max_price, mcc, mnc)
  SELECT r.id, %(client)s, CASE WHEN r.send_at > r.now THEN 'scheduled' ELSE 'queued' END, r.class, r."to", r.country,
    r.sender, r.text, r.encoding, r.segments, r.template, r.locale, r.reference, r.metadata, r.cost, r.currency,
    CASE WHEN r.send_at > r.now THEN r.send_at END, greatest(r.send_at, r.now),
    greatest(r.send_at, r.now) + r.validity * interval '1 second', 1, r.now, r.renderer, r.tried, r.failover,
    r.max_price, r.mcc, r.mnc
  FROM r WHERE NOT EXISTS (SELECT FROM messaging_suppression s
    WHERE s.msisdn = r."to" AND (s.client_id IS NULL OR s.client_id = %(client)s))
  RETURNING *
), tallied AS ({count_messages(_NEW)}
), told AS (
  INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at)
  SELECT uuidv7(), 'message.accepted', m.id::text, 1, m.client_id, {EVENT_DATA}, m.created_at
  FROM m, (SELECT NULL::text AS provider) p
){also}
SELECT id, status, created_at, expires_at FROM m
"""  # noqa: S608  literal fragments


_INSERT = _statement()

_ISO = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
# What `_body` says of the row, in the words of the database.
_ANSWER = f"""%(answer)s::jsonb || jsonb_build_object('status', m.status,
  'created_at', {_ISO.format("m.created_at")}, 'expires_at', {_ISO.format("m.expires_at")})"""
_INSERT_WITH_ANSWER = _statement(f""", kept AS ({keep(_ANSWER, "m")}
)""")


def _body(stored: Stored) -> dict[str, Any]:
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
