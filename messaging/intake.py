"""The one way in. Every door translates its request and calls `accept` or `accept_many`."""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from messaging import drafts, quotas, tasks, texts
from messaging.clients import Caller
from messaging.drafts import MAX_SEGMENTS, Draft
from messaging.errors import FieldError, InvalidRequest, MissingScope, NoRoute, Refusal, Suppressed
from messaging.idempotency import (
    KEEP_ANSWERS,
    LOCK_WAIT,
    Answer,
    Claim,
    claim_of,
    in_progress,
    key_is_taken,
    once,
    replays,
)
from messaging.models import rfc3339, uuid7
from messaging.moves import EVENT_DATA, fan_out
from messaging.quotas import Room, Rooms, reserve
from messaging.states import MessageClass, Status
from messaging.tally import count_messages
from providers.health import Board
from providers.sql import records, rows
from routing import encoding
from routing.lcr import Candidate, candidates
from routing.networks import Network, resolve
from routing.prices import plain
from routing.snapshot import tables

REFUSALS = (InvalidRequest, MissingScope, NoRoute, Suppressed, *quotas.REFUSALS)  # of one message


@dataclass(frozen=True, slots=True)
class Request:
    """A message that a client asks for, as its door has read it; with a key it is done once."""

    caller: Caller
    data: Any = field(repr=False)
    key: str | None = None


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


def accept(caller: Caller, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Accepts one message: a durable row and its event before the answer, a hint to the workers after it.

    Raises Refusal; then nothing is stored.
    """
    with reserve(caller, 1) as room, in_progress():
        (result,) = accept_each([Request(caller, data, idempotency_key)], {caller.id: room})
        if isinstance(result, Refusal):
            raise result
        return result


def accept_batch(caller: Caller, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Accepts what is right of a batch and tells each item's id or problem; the key is for the whole of it.

    Raises Refusal where there is no list to read, and where a limit leaves no room for any; then nothing is stored.
    """

    def work() -> Answer:
        found = _accept_items(caller, drafts.read_batch(data), room)
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


def accept_each(requests: Sequence[Request], rooms: Rooms) -> list[Answer | Refusal]:
    """Accepts what is right of many, by any clients, each under its own key; a result for each, in their order.

    `rooms` are reserved by who opens the transaction, and may serve several of these calls. OperationalError by
    LockNotAvailable: a twin of one of them has been running for LOCK_WAIT; nothing is stored.
    """
    found = _accept(requests, rooms)
    return [Answer(202, _body(result)) if isinstance(result, Stored) else result for result in found]


def accept_untold(requests: Sequence[Request], rooms: Rooms) -> list[Refusal | None]:
    """As `accept_each`, for a door that tells nobody what was accepted: the answers are kept, and not made twice."""
    return [result if isinstance(result, Refusal) else None for result in _accept(requests, rooms)]


def accept_many(caller: Caller, items: Sequence[Any]) -> list[uuid.UUID | Refusal]:
    """Accepts what is right of many, in one statement; gives an id or a refusal for each, in their order."""
    with reserve(caller, len(items)) as room:
        results = _accept_items(caller, items, room)
    return [result if isinstance(result, Refusal) else result.prepared.id for result in results]


def accept_draft(caller: Caller, draft: Draft, room: Room) -> Stored:
    """Accepts what another app has drafted, in the caller's transaction and in `room`. Raises Refusal."""
    if room.places <= room.spent and room.refusal:
        raise room.refusal
    (stored,) = _insert([prepare(caller, draft)])
    if not isinstance(stored, Stored):
        raise Suppressed
    room.spent += 1
    return stored


def _accept_items(caller: Caller, items: Sequence[Any], room: Room) -> list[Stored | Refusal]:
    found = _accept([Request(caller, data) for data in items], {caller.id: room})
    return [result for result in found if not isinstance(result, Answer)]  # without keys nothing is a repeat


def _accept(requests: Sequence[Request], rooms: Rooms) -> list[Stored | Answer | Refusal]:
    """An Answer is the one that the first request under that key got, once more."""
    results: dict[int, Stored | Answer | Refusal] = {}
    waiting: list[tuple[int, Prepared]] = []
    claims: dict[int, Claim] = {}
    read: dict[int, Draft] = {}
    for index, request in enumerate(requests):
        try:
            if claim := claim_of(request.caller, "message", request.data, request.key):
                claims[index] = claim
            read[index] = drafts.read(request.data)
        except Refusal as refusal:
            results[index] = refusal
    located = _networks(read.values())
    for index, draft in read.items():
        try:
            network = located.get(draft.msisdn)
            waiting.append((index, prepare(requests[index].caller, draft, network, claims.get(index))))
        except Refusal as refusal:
            results[index] = refusal
    while waiting:  # again only where a limit kept some waiting for places that repeats did not need after all
        now, waiting = _fitting(waiting, rooms)
        if not now:
            results |= {index: rooms[item.client_id].refusal or Suppressed() for index, item in waiting}
            break
        for (index, item), stored in zip(now, _insert([item for _, item in now]), strict=True):
            results[index] = stored
            rooms[item.client_id].spent += isinstance(stored, Stored)
    results |= _before(results, claims)
    return [results[index] for index in range(len(requests))]


def _before(
    results: Mapping[int, Stored | Answer | Refusal], claims: Mapping[int, Claim]
) -> dict[int, Answer | Refusal]:
    """Who is refused may have been accepted before: then that is the answer. What came after it in its group is not."""
    ours = {claims[i].name: i for i, result in results.items() if i in claims and isinstance(result, Stored)}
    return replays({i: c for i, c in claims.items() if isinstance(results[i], Refusal) and ours.get(c.name, i) <= i})


def _fitting(
    waiting: list[tuple[int, Prepared]], rooms: Rooms
) -> tuple[list[tuple[int, Prepared]], list[tuple[int, Prepared]]]:
    """Those for which their clients have places, and the others."""
    taken: Counter[uuid.UUID] = Counter()
    now: list[tuple[int, Prepared]] = []
    later: list[tuple[int, Prepared]] = []
    for index, item in waiting:
        room = rooms[item.client_id]
        fits = taken[item.client_id] < room.places - room.spent
        taken[item.client_id] += fits
        (now if fits else later).append((index, item))
    return now, later


def _networks(read: Iterable[Draft]) -> Mapping[str, Network]:
    """The networks of those numbers whose price depends on it: one query for all, and none where there are none."""
    book = tables.get()
    asked = {draft.msisdn for draft in read if book.network_matters(draft.country)}
    return resolve(asked) if asked else {}


def prepare(caller: Caller, draft: Draft, network: Network | None = None, claim: Claim | None = None) -> Prepared:
    """Fills in text, segments, sender and price. Raises Refusal."""
    if draft.message_class == MessageClass.OTP and "otp" not in caller.scopes:
        raise MissingScope("Messages of class otp need the scope otp.")
    text = draft.text
    if draft.template:
        text = texts.render(client=caller.slug, name=draft.template, locale=draft.locale, params=draft.params)
    if draft.renderer:
        measured = encoding.measure(draft.sample or text)
    else:
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
    return Prepared(
        id=uuid7(),
        client_id=caller.id,
        draft=draft,
        text=text,
        encoding=measured.name,
        segments=measured.segments,
        sender=sender,
        cost=best.total,
        currency=best.currency,
        network=network,
        claim=claim,
    )


def _nobody(draft: Draft, found: Sequence[Candidate]) -> str:
    if any(candidate.reason == "above_max_price" for candidate in found):
        return "Every provider that could take it costs more than max_price."
    if all(candidate.reason == "no_price" for candidate in found):
        return f"There is no provider with a price for {draft.country}."
    return f"No provider may take it to {draft.country} now; POST /api/v1/quotes says why not."


def _insert(batch: Sequence[Prepared]) -> list[Stored | Refusal]:
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
