"""The one way in. Every door translates its request and calls `accept` or `accept_many`."""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from messaging import drafts, quotas, texts
from messaging.clients import Caller
from messaging.drafts import MAX_SEGMENTS, Draft
from messaging.errors import FieldError, InvalidRequest, MissingScope, NoRoute, Refusal, Suppressed
from messaging.idempotency import Answer, Claim, claim_of, in_progress, once, replays
from messaging.models import uuid7
from messaging.quotas import Room, Rooms, reserve
from messaging.states import MessageClass
from messaging.storing import Prepared, Stored, body, store
from providers.health import Board
from routing import encoding
from routing.lcr import Candidate, candidates
from routing.networks import Network, resolve
from routing.snapshot import tables

REFUSALS = (InvalidRequest, MissingScope, NoRoute, Suppressed, *quotas.REFUSALS)  # of one message


@dataclass(frozen=True, slots=True)
class Request:
    """A message that a client asks for, as its door has read it; with a key it is done once."""

    caller: Caller
    data: Any = field(repr=False)
    key: str | None = None


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
    return [Answer(202, body(result)) if isinstance(result, Stored) else result for result in found]


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
    (stored,) = store([prepare(caller, draft)])
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
        for (index, item), stored in zip(now, store([item for _, item in now]), strict=True):
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
