"""Unknown -> answer. The only place where one attempt may be posted again.

What may be asked depends on what the provider was measured to be able to do (`Resolve`); where nothing
can tell, the class of the message decides: an otp is sent again by another provider and marked as a
possible duplicate, everything else is held for staff or for a receipt.
"""

import logging
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from messaging import submissions
from messaging.apart import settle_apart
from messaging.models import Message
from messaging.moves import Locked, Move
from messaging.planning import depth
from messaging.receipts import CLOSES, suppress
from messaging.rendering import Asked, render
from messaging.states import AttemptStatus, MessageClass, Status
from messaging.tally import ATTEMPT_CHANGE, COUNT_ATTEMPTS
from providers.adapters.base import Adapter, Resolve
from providers.outcomes import (
    Accepted,
    Ambiguous,
    Found,
    GateRefused,
    Lookup,
    NotFound,
    Outcome,
    Rejected,
    Scope,
    Throttled,
    Undecided,
)
from providers.sql import records, rows
from providers.transport import Call, Result, boottime, transport
from providers.types import HttpResponse
from routing.snapshot import Route, tables

log = logging.getLogger(__name__)

Answer = Outcome | Lookup | None  # None: nobody was asked

GROUP = 50
KEY_WAIT = 2.0  # seconds before the first re-post: the first request may still be running there
OTP_PATIENCE = 5.0  # seconds after which an otp is asked for, however slow the look-up
ABANDON = 72 * 3600.0  # seconds; then a person must look
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0  # seconds after a question in vain; each further one doubles it
WORKER_LOST = "worker_lost"
_CLOSED = {
    AttemptStatus.DELIVERED: Status.DELIVERED,
    AttemptStatus.UNDELIVERED: Status.UNDELIVERED,
    AttemptStatus.EXPIRED: Status.UNDELIVERED,  # an unknown message does not expire: it was taken and not delivered
}


def first_look(route: Route | None, message_class: str, asked: float = 0.0) -> float:
    """Seconds from the submit to the first attempt at an answer; no earlier than the provider `asked` for.

    At the end of the grace the class decides, whatever the provider asks for.
    """
    otp = message_class == MessageClass.OTP
    grace = settings.RECEIPT_GRACE_OTP if otp else settings.RECEIPT_GRACE
    asked = min(asked, grace)
    match route.resolve if route else Resolve.NONE:
        case Resolve.KEY:
            return max(KEY_WAIT, asked)
        case Resolve.LOOKUP | Resolve.LIST:
            proof = _proof_age(route)
            return max(min(proof, OTP_PATIENCE) if otp else proof, asked)
        case _:
            return grace


def run(classes: Collection[str] = tuple(MessageClass)) -> int:
    """Looks at one group of unknown attempts of those classes that are due; returns how many there were."""
    doubts = _rendered(_claim(classes))
    answers = _ask(doubts)
    if doubts:
        settle_apart([(doubt, answers.get(doubt.attempt_id)) for doubt in doubts], _settle, _distrust)
    return len(doubts)


def _distrust(one: tuple["Doubt", Answer], error: Exception) -> tuple["Doubt", None] | None:
    """An answer that cannot be stored proves nothing."""
    doubt, answer = one
    if answer is None:
        return None
    log.error("unstorable answer", exc_info=error, extra={"attempt_id": doubt.attempt_id})
    return doubt, None


@dataclass(frozen=True, slots=True)
class Doubt:
    """An unknown attempt, leased to this worker. `age`, `left`, `pause` are in seconds by the database's clock."""

    claimed: float  # CLOCK_BOOTTIME, before the claim
    attempt_id: uuid.UUID
    message_id: uuid.UUID
    provider_id: int
    our_reference: uuid.UUID
    started_at: datetime
    not_found: int
    age: float
    error_code: str
    left: float  # of the message's validity
    pause: float  # since the last question, where that was in vain, as it was meant to be; else 0 or less
    status: str  # the message's
    message_class: str
    to: str = field(repr=False)
    text: str = field(repr=False)
    sender: str
    encoding: str
    segments: int
    expires_at: datetime
    renderer: str
    stored: str = field(default="", repr=False)  # the text as the message has it, where `text` was rendered

    @property
    def otp(self) -> bool:
        return self.message_class == MessageClass.OTP


def _claim(classes: Collection[str]) -> list[Doubt]:
    claimed = boottime()
    found = rows(
        f"""
        WITH due AS (
          SELECT a.id FROM messaging_attempt a JOIN messaging_message m ON m.id = a.message_id
          WHERE a.status = 'unknown' AND a.resolve_at <= statement_timestamp()
            AND coalesce(a.resolve_lease_until, '-infinity') <= clock_timestamp()
            AND m.message_class = ANY(%(classes)s)
          ORDER BY a.resolve_at LIMIT {GROUP} FOR UPDATE OF a SKIP LOCKED)
        UPDATE messaging_attempt a
        SET resolve_lease_until = clock_timestamp() + %(lease)s * interval '1 second'
        FROM due, messaging_message m WHERE a.id = due.id AND m.id = a.message_id
        RETURNING a.id, a.message_id, a.provider_id, a.our_reference, a.started_at, a.not_found,
          extract(epoch FROM clock_timestamp() - a.started_at)::float8, a.error_code,
          extract(epoch FROM m.expires_at - clock_timestamp())::float8,
          coalesce(extract(epoch FROM a.resolve_at - old.resolve_lease_until)::float8, 0), m.status,
          m.message_class, m."to", m.text, a.sender, m.encoding, m.segments, m.expires_at, m.renderer""",  # noqa: S608
        {"lease": settings.LEASE, "classes": list(classes)},
    )
    return [Doubt(claimed, *row) for row in found]


def _rendered(doubts: Sequence[Doubt]) -> list[Doubt]:
    """With whole texts; an empty one must not be sent any more."""
    asked = [(d.renderer, Asked(d.attempt_id, d.message_id, d.text)) for d in doubts if d.renderer]
    with transaction.atomic():
        texts = render(asked)
    return [replace(d, text=texts.get(d.attempt_id) or "", stored=d.text) if d.renderer else d for d in doubts]


def _ask(doubts: Sequence[Doubt]) -> dict[uuid.UUID, Outcome | Lookup]:
    """Asks every provider that can be asked, all at once. Missing in the result: nobody to ask."""
    routes = tables.get().routes
    calls = {}
    for doubt in doubts:
        call = _call(doubt, routes.get(doubt.provider_id))
        if call:
            calls[doubt.attempt_id] = call
    results: dict[uuid.UUID, Result] = {}
    finished = threading.Event()

    def done(attempt_id: uuid.UUID, result: Result) -> None:
        results[attempt_id] = result
        if len(results) == len(calls):
            finished.set()

    if calls:
        transport().offer(calls.items(), done)
        finished.wait(settings.TOTAL_TIMEOUT + settings.GATE + 1)
    by_id = {doubt.attempt_id: doubt for doubt in doubts}
    return {
        attempt_id: _read(by_id[attempt_id], routes[by_id[attempt_id].provider_id], result)
        for attempt_id, result in list(results.items())
    }


def _call(doubt: Doubt, route: Route | None) -> Call | None:
    if route is None or route.adapter is None:
        return None
    try:
        if _may_repost(doubt, route):
            # The same bytes with the same reference. Not past the validity, since it may be the first post that
            # leaves, and not past the window, where the key is forgotten.
            open_for = min(settings.GATE, doubt.left, route.window - doubt.age)
            return Call(route.adapter.build_send(_submission(doubt, route)), doubt.claimed + open_for)
        if route.resolve in (Resolve.LOOKUP, Resolve.LIST):
            # A code leaves in an SMS and in nothing else; read_lookup may tell its own message by the whole text.
            asked = replace(doubt, text=doubt.stored or doubt.text)
            return Call(route.adapter.build_lookup(_submission(asked, route)), doubt.claimed + settings.GATE)
    except Exception as error:  # an adapter's mistake is one attempt's silence, not the group's end
        log.error("adapter could not build a request", exc_info=error, extra={"provider": route.slug})
    return None


def _may_repost(doubt: Doubt, route: Route) -> bool:
    """A message that another attempt's receipt has closed meanwhile would be sent a second time."""
    in_time = doubt.age < route.window and doubt.left > 0 and doubt.text
    return route.resolve == Resolve.KEY and doubt.status == Status.UNKNOWN and bool(in_time)


def _submission(doubt: Doubt, route: Route) -> Any:
    return submissions.build(
        route,
        our_reference=doubt.our_reference,
        to=doubt.to,
        text=doubt.text,
        sender=doubt.sender,
        encoding=doubt.encoding,
        segments=doubt.segments,
        started_at=doubt.started_at,
        expires_at=doubt.expires_at,
    )


def _read(doubt: Doubt, route: Route, result: Result) -> Outcome | Lookup:
    if not isinstance(result, HttpResponse):
        return result
    adapter = route.adapter
    assert adapter is not None  # noqa: S101  nothing was asked without one
    try:
        if route.resolve == Resolve.KEY:
            return _believed(adapter, adapter.read_send(result))
        return adapter.read_lookup(_submission(doubt, route), result)
    except Exception as error:
        log.error("adapter could not read an answer", exc_info=error, extra={"provider": route.slug})
        return Undecided("unreadable_answer", type(error).__name__)


def _believed(adapter: Adapter, answer: Outcome) -> Outcome | Lookup:
    """Only a documented refusal says that the first post was refused too; another may be about the second alone."""
    if isinstance(answer, Rejected) and answer.code not in adapter.errors:
        return Undecided("undocumented_refusal", answer.code)
    return answer


@dataclass(frozen=True, slots=True)
class _Ruling:
    """What becomes of one doubt. `again` (seconds) keeps it unknown; `moves` happen one after the other."""

    status: AttemptStatus = AttemptStatus.UNKNOWN
    again: float | None = None
    in_vain: bool = False  # it was asked for nothing: next time the pause is longer
    not_found: int = 0
    error_code: str = ""
    answer: Accepted | Found | None = None
    moves: tuple[Move, ...] = ()
    opted_out: bool = False


def _settle(answers: Sequence[tuple[Doubt, Answer]]) -> None:
    routes = tables.get().routes
    with transaction.atomic():
        locked = Message.objects.lock({doubt.message_id for doubt, _ in answers})
        answers = list(_unshared(answers))
        rulings = {d: _rule(d, routes.get(d.provider_id), answer, locked[d.message_id]) for d, answer in answers}
        written = _write(rulings)
        kept = [ruling for doubt, ruling in rulings.items() if doubt.attempt_id in written]
        for step in range(2):
            Message.objects.transition([r.moves[step] for r in kept if len(r.moves) > step])
        suppress([r.moves[0].message_id for r in kept if r.opted_out], source="provider")
    for doubt, answer in answers:
        if answer is not None:
            route = routes.get(doubt.provider_id)
            told = {
                "message_id": doubt.message_id,
                "attempt_id": doubt.attempt_id,
                "provider": route.slug if route else None,
                "outcome": type(answer).__name__ if doubt.attempt_id in written else "Late",
                "code": getattr(answer, "code", None),
            }
            log.info("look-up", extra=told)


def _unshared(answers: Sequence[tuple[Doubt, Answer]]) -> Iterator[tuple[Doubt, Answer]]:
    """What is found belongs to one attempt, however many look alike in a list."""
    taken = _taken(answers)
    for doubt, answer in answers:
        if isinstance(answer, Found):
            name = (doubt.provider_id, answer.provider_reference)
            answer = Undecided("found_another") if name in taken else answer
            taken.add(name)
        yield doubt, answer


def _taken(answers: Sequence[tuple[Doubt, Answer]]) -> set[tuple[int, str]]:
    """Which of the found messages another attempt holds already: in a list, equal texts look alike."""
    found = [(doubt, answer.provider_reference) for doubt, answer in answers if isinstance(answer, Found)]
    if not found:
        return set()
    return set(
        rows(
            """
            SELECT provider_id, provider_reference FROM messaging_attempt
            WHERE provider_id = ANY(%(providers)s) AND provider_reference = ANY(%(references)s)
              AND provider_reference <> '' AND NOT id = ANY(%(own)s)""",
            {
                "providers": [doubt.provider_id for doubt, _ in found],
                "references": [reference for _, reference in found],
                "own": [doubt.attempt_id for doubt, _ in found],
            },
        )
    )


def _rule(doubt: Doubt, route: Route | None, answer: Answer, message: Locked) -> _Ruling:
    match answer:
        case Accepted():
            return _Ruling(AttemptStatus.ACCEPTED, answer=answer, moves=(_settled(doubt, Status.SENT),))
        case Found():
            status = CLOSES.get(answer.status, AttemptStatus.ACCEPTED)
            target = Status.SENT if status == AttemptStatus.ACCEPTED else _CLOSED[status]
            return _Ruling(status, answer=answer, moves=(_settled(doubt, target),))
        case Rejected() if answer.scope != Scope.ACCOUNT:  # an account fault is found before the key is looked at
            return _rejected(doubt, answer)
        case NotFound() if route and doubt.age >= _proof_age(route) and route.resolve == Resolve.LOOKUP:
            if doubt.not_found == 0:
                return _Ruling(again=settings.RECHECK_WAIT, not_found=1)
            # A worker that was lost is not the provider's fault; an answer that was lost is.
            mark = "" if doubt.error_code == WORKER_LOST else "tried"
            back = Move(doubt.message_id, Status.QUEUED, delay=0, provider_id=doubt.provider_id, mark=mark)
            return _Ruling(AttemptStatus.NOT_SENT, error_code="not_found", moves=(back,))
    return _undecided(doubt, route, answer, message)


def _settled(doubt: Doubt, to: Status) -> Move:
    return Move(doubt.message_id, to, provider_id=doubt.provider_id)


def _rejected(doubt: Doubt, answer: Rejected) -> _Ruling:
    """A provider that honours the key answers as it did the first time: the message surely did not go out."""
    back = Move(doubt.message_id, Status.QUEUED, delay=0, provider_id=doubt.provider_id, mark="barred", spent=1)
    failed = Move(doubt.message_id, Status.FAILED, error_code=answer.code, provider_id=doubt.provider_id)
    moves = (back, failed) if answer.scope == Scope.NUMBER else (back,)
    return _Ruling(AttemptStatus.NOT_SENT, error_code=answer.code, moves=moves, opted_out=answer.opted_out)


def _undecided(doubt: Doubt, route: Route | None, answer: Answer, message: Locked) -> _Ruling:
    can_ask = route is not None and (route.resolve in (Resolve.LOOKUP, Resolve.LIST) or _may_repost(doubt, route))
    grace = settings.RECEIPT_GRACE_OTP if doubt.otp else settings.RECEIPT_GRACE
    # Nobody would send the last of the allowance again, nor a code that is not wanted any more: not superseded.
    wanted = doubt.otp and doubt.left > 0 and bool(doubt.text)
    again_allowed = wanted and message.spent + 1 < depth(message.message_class)
    if again_allowed and doubt.age >= grace:
        again = Move(
            doubt.message_id,
            Status.QUEUED,
            delay=0,
            provider_id=doubt.provider_id,
            mark="tried",  # not barred: where no other provider is left it goes there again
            spent=1,
            possible_duplicate=True,
        )
        return _Ruling(AttemptStatus.SUPERSEDED, moves=(again,))
    asks_prove = route is not None and route.resolve != Resolve.LIST
    if doubt.age >= ABANDON or (doubt.age >= grace and not (can_ask and asks_prove)):
        held = () if message.status == Status.HELD else (_settled(doubt, Status.HELD),)
        return _Ruling(moves=held)
    if can_ask:
        # By the questions in vain, not by age: an old attempt may have waited for its first question.
        pause = min(max(FIRST_PAUSE, 2 * doubt.pause), LONGEST_PAUSE)
        asked = answer.retry_after if isinstance(answer, Throttled | Ambiguous | Undecided) else 0.0
        if doubt.age < grace:  # at its end the class decides, whatever the provider asks for
            asked = min(asked, grace - doubt.age)
        pause = max(pause, asked)
        wait = 0.0 if isinstance(answer, GateRefused) else pause  # nothing was asked: the fault is ours
        return _Ruling(again=wait, in_vain=True, not_found=doubt.not_found)
    return _Ruling(again=max(1.0, grace - doubt.age))


def _write(rulings: dict[Doubt, _Ruling]) -> set[uuid.UUID]:
    """Closes or puts off the attempts that are still unknown; returns those that were.

    After a question in vain the lease's end stays, so that the next claim can tell the pause: from there to
    `resolve_at`. The lease of a worker that died ends after that, which is no pause at all.
    """
    values = []
    for doubt, ruling in rulings.items():
        answer = ruling.answer
        values.append(
            {
                "id": doubt.attempt_id,
                "status": ruling.status,
                "again": ruling.again,
                "in_vain": ruling.in_vain,
                "not_found": ruling.not_found,
                "error_code": ruling.error_code,
                "provider_reference": answer.provider_reference[:100] if answer else None,
                "cost": answer.price if isinstance(answer, Accepted) else None,
            }
        )
    found = rows(
        f"""
        WITH a AS (
        UPDATE messaging_attempt a SET status = r.status, not_found = r.not_found,
          resolve_lease_until = CASE WHEN r.in_vain THEN clock_timestamp() END,
          resolve_at = clock_timestamp() + r.again * interval '1 second',
          error_code = CASE WHEN r.error_code <> '' OR r.status = 'accepted' THEN r.error_code ELSE a.error_code END,
          provider_reference = coalesce(r.provider_reference, a.provider_reference),
          cost = CASE WHEN r.status NOT IN ('unknown', 'not_sent') THEN coalesce(r.cost, a.segments * (a.price -
            CASE WHEN r.status = 'delivered' THEN 0 ELSE a.price_delivered END)) END,
          finished_at = CASE WHEN r.status = 'unknown' THEN a.finished_at ELSE clock_timestamp() END
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, status text, again float8, in_vain bool,
          not_found int, error_code text, provider_reference text, cost numeric)
        WHERE a.id = r.id AND a.status || '' = 'unknown' -- so that none is looked for by its status
        RETURNING a.id, {ATTEMPT_CHANGE}, NULL::float8 AS seconds
        ), tallied AS ({COUNT_ATTEMPTS}
        )
        SELECT id FROM a""",  # noqa: S608  literal fragments
        {"rows": records(values)},
    )
    return {row[0] for row in found}


def _proof_age(route: Route | None) -> float:
    """How old a submit must be before "not found" proves anything: it may leave until the gate closes."""
    lag = route.lag if route else 0.0
    return max(2 * lag, settings.RESOLVE_WAIT)
