"""The way of a message to a provider: claim, offer, settle.

    claim    what is due is locked, planned and committed as intents, in one transaction per batch
    offer    the process's event loop performs the calls; the gate refuses those that have grown old
    settle   outcomes are written in groups as they come, so that one slow provider holds nobody back

`drain.py` runs these three, one thread per lane.
"""

import logging
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from messaging import outbox, receipts, reconcile, submissions
from messaging.models import Message
from messaging.moves import Locked, Move
from messaging.planning import Due, Go, Later, Step, Stop, plan
from messaging.rendering import Asked, render
from messaging.states import AttemptStatus, Status
from messaging.tally import ATTEMPT_CHANGE, COUNT_ATTEMPTS, count_messages
from providers import health, throughput
from providers.outcomes import (
    Accepted,
    Ambiguous,
    GateRefused,
    Outcome,
    Rejected,
    Scope,
    Throttled,
    Unavailable,
)
from providers.sql import records, rows
from providers.transport import OWN_FAULTS, Call, Result, boottime
from providers.types import HttpResponse
from routing.networks import UNKNOWN, resolve
from routing.snapshot import Route, Tables, tables

log = logging.getLogger(__name__)

UNRENDERED_PAUSE = 5.0  # seconds until a text that could not be rendered is tried again


@dataclass(frozen=True, slots=True)
class Offer:
    """One committed intent on its way. `wide` faults are told from the rest when the result is read."""

    attempt_id: uuid.UUID
    message_id: uuid.UUID
    our_reference: uuid.UUID
    route: Route
    country: str
    message_class: str
    started_at: datetime
    call: Call | None  # None: the adapter could not build it
    probe: bool  # of an open breaker


@dataclass(frozen=True, slots=True)
class Outcomes:
    """An offer and what became of it. `wide`: the fault is of the connection, whatever the country."""

    offer: Offer
    outcome: Outcome
    wide: bool


# --- claim ----------------------------------------------------------------------------------------


def claim(lane: str, limit: int) -> tuple[list[Offer], int]:
    """Locks what is due, decides each message's next step and commits the intents, in one transaction.

    Returns the offers and how many rows were due: as many as `limit` means that there is more.
    """
    since = boottime()
    book, board = tables.get(), health.board()
    with transaction.atomic():
        due = _located([Due(*row) for row in rows(_DUE, {"lane": lane, "limit": limit})], book)
        if not due:
            return [], 0
        tokens = throughput.reserve({route.id: route.rate for route in book.routes.values()})
        steps = _rendered([(message, plan(message, book, board, tokens)) for message in due])
        tokens.save()
        stopped = [Move(m.id, step.to, error_code=step.code) for m, step in steps if isinstance(step, Stop)]
        Message.objects.transition(stopped)
        _put_off([(m, step) for m, step in steps if isinstance(step, Later)])
        going = [(m, step) for m, step in steps if isinstance(step, Go)]
        started = _intend(going)
    offers = [_offer(message, step, started[message.id], since) for message, step in going]
    return offers, len(due)


def _located(due: list[Due], book: Tables) -> list[Due]:
    """With the network of each number, as far as it is known. Only where it matters that is a query, one for all."""
    asked = {message.to for message in due if book.network_matters(message.country)}
    networks = resolve(asked) if asked else {}
    return [replace(message, network=networks.get(message.to, UNKNOWN)) for message in due] if networks else due


def _rendered(steps: Sequence[tuple[Due, Step]]) -> list[tuple[Due, Step]]:
    """Fills in the texts that are not stored whole; what must not be sent any more stops here."""
    asked = [
        (message.renderer, Asked(step.attempt_id, message.id, message.text))
        for message, step in steps
        if message.renderer and isinstance(step, Go)
    ]
    if not asked:
        return list(steps)
    texts = render(asked)
    return [
        _with_text(message, step, texts) if message.renderer and isinstance(step, Go) else (message, step)
        for message, step in steps
    ]


def _with_text(message: Due, step: Go, texts: Mapping[uuid.UUID, str | None]) -> tuple[Due, Step]:
    text = texts.get(step.attempt_id)
    if text is not None:
        return replace(message, text=text), step
    if step.probe:
        health.give_back(step.route.id, message.country)
    if step.attempt_id not in texts:
        # A key that this worker does not have yet, say: its validity ends it, if nobody can.
        return message, Later(UNRENDERED_PAUSE, step.decision)
    return message, Stop(Status.CANCELLED, "challenge_closed")


def _put_off(steps: Sequence[tuple[Due, Later]]) -> None:
    if not steps:
        return
    values = [
        {"id": m.id, "delay": step.seconds, "again": step.new_round, "decision": step.decision} for m, step in steps
    ]
    rows(
        """
        UPDATE messaging_message m SET not_before = clock_timestamp() + r.delay * interval '1 second',
          tried = CASE WHEN r.again THEN '{}' ELSE m.tried END, rounds = m.rounds + r.again::int, decision = r.decision
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, delay float8, again bool, decision jsonb)
        WHERE m.id = r.id AND m.status || '' = 'queued'""",
        {"rows": records(values)},
    )


def _intend(steps: Sequence[tuple[Due, Go]]) -> dict[uuid.UUID, tuple[uuid.UUID, uuid.UUID, datetime]]:
    """Writes the intents; returns message id -> (attempt id, our reference, started at)."""
    if not steps:
        return {}
    values = [
        {
            "message_id": message.id,
            "attempt_id": step.attempt_id,
            "our_reference": uuid.UUID(bytes=secrets.token_bytes(16)),
            "provider_id": step.route.id,
            "sender": message.sender or step.route.sender,
            "price": step.price,
            "later": step.price_delivered,
            "currency": step.currency,
            "decision": step.decision,
            "mcc": message.network.mcc,
            "mnc": message.network.mnc,
        }
        for message, step in steps
    ]
    found = rows(_INTEND, {"rows": records(values), "lease": settings.LEASE})
    return {row[0]: (row[1], row[2], row[3]) for row in found}


def _offer(message: Due, step: Go, started: tuple[uuid.UUID, uuid.UUID, datetime], since: float) -> Offer:
    attempt_id, our_reference, started_at = started
    route = step.route
    submission = submissions.build(
        route,
        our_reference=our_reference,
        to=message.to,
        text=message.text,
        sender=message.sender or route.sender,
        encoding=message.encoding,
        segments=message.segments,
        started_at=started_at,
        expires_at=message.expires_at,
    )
    call = None
    try:
        if route.adapter is not None:
            call = Call(route.adapter.build_send(submission), since + min(settings.GATE, message.left))
    except Exception as error:  # an adapter's mistake is one message's route, not the batch's end
        log.error("adapter could not build a request", exc_info=error, extra={"provider": route.slug})
    return Offer(
        attempt_id=attempt_id,
        message_id=message.id,
        our_reference=our_reference,
        route=route,
        country=message.country,
        message_class=message.message_class,
        started_at=started_at,
        call=call,
        probe=step.probe,
    )


def next_due(lane: str) -> float:
    """Seconds until a waiting message of that lane is due; infinite without one."""
    ((seconds,),) = rows(
        """
        SELECT extract(epoch FROM min(not_before) - clock_timestamp())::float8 FROM messaging_message
        WHERE status = 'queued' AND message_class = %(lane)s""",
        {"lane": lane},
    )
    return float("inf") if seconds is None else float(seconds)


_DUE = """
SELECT m.id, m.message_class, m."to", m.country, m.text, m.encoding, m.segments, m.sender, c.slug, m.spent, m.rounds,
  m.tried, m.barred, m.expires_at, extract(epoch FROM m.expires_at - clock_timestamp())::float8, clock_timestamp(),
  EXISTS (SELECT FROM messaging_suppression s
    WHERE s.msisdn = m."to" AND (s.client_id IS NULL OR s.client_id = m.client_id)), m.renderer, m.max_price
FROM messaging_message m JOIN messaging_client c ON c.id = m.client_id
WHERE m.status = 'queued' AND m.message_class = %(lane)s AND m.not_before <= statement_timestamp()
ORDER BY m.not_before LIMIT %(limit)s FOR UPDATE OF m SKIP LOCKED
"""

_INTEND = f"""
WITH r AS (
  SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(message_id uuid, attempt_id uuid, our_reference uuid,
    provider_id bigint, sender text, price numeric, later numeric, currency text, decision jsonb, mcc text, mnc text)
), m AS (
  UPDATE messaging_message m SET status = 'sending', attempt_count = m.attempt_count + 1, decision = r.decision,
    mcc = coalesce(nullif(r.mcc, ''), m.mcc), mnc = coalesce(nullif(r.mnc, ''), m.mnc),
    lease_until = clock_timestamp() + %(lease)s * interval '1 second'
  FROM r WHERE m.id = r.message_id AND m.status || '' = 'queued' -- so that none is looked for by its status
  RETURNING r.*, m.attempt_count, m.segments, m.message_class, old.status AS was, m.status, NULL::float8 AS seconds
), tallied AS ({count_messages("m")}
)
INSERT INTO messaging_attempt (id, message_id, seq, provider_id, our_reference, sender, status, price, price_delivered,
  currency, segments, started_at)
SELECT attempt_id, message_id, attempt_count, provider_id, our_reference, sender, 'intent', price, later, currency,
  segments, date_trunc('milliseconds', clock_timestamp())
FROM m
RETURNING message_id, id, our_reference, started_at
"""  # noqa: S608  a literal fragment


# --- settle ---------------------------------------------------------------------------------------


def read(offer: Offer, result: Result) -> Outcomes:
    """What the transport brought, in the words of the taxonomy."""
    if not isinstance(result, HttpResponse):
        return Outcomes(offer, result, wide=True)
    try:
        assert offer.route.adapter is not None  # noqa: S101  it has built the request
        return Outcomes(offer, offer.route.adapter.read_send(result), wide=False)
    except Exception as error:
        log.error("adapter could not read an answer", exc_info=error, extra={"provider": offer.route.slug})
        return Outcomes(offer, Ambiguous("unreadable_answer", type(error).__name__), wide=False)


def settle(group: Sequence[Outcomes]) -> None:
    """Writes a group of outcomes. Only an attempt that is still ours touches its message."""
    for done in group:
        # First, so that nobody claims for a provider that has just said "slow down".
        if isinstance(done.outcome, Throttled):
            throughput.lower(done.offer.route.id, done.outcome.retry_after)
    with transaction.atomic():
        locked = Message.objects.lock({done.offer.message_id for done in group})
        was = _close(group)
        moves, opted_out = [], []
        for done in group:
            status = was.get(done.offer.attempt_id)
            move = _move(done, status, locked[done.offer.message_id]) if status else None
            if move:
                moves.append(move)
                if isinstance(done.outcome, Rejected) and done.outcome.opted_out:
                    opted_out.append(done.offer.message_id)
            _log(done, status)
        Message.objects.transition(moves)
        receipts.suppress(opted_out, source="provider")
        offers = [done.offer for done in group]
        receipts.apply_early([(o.route.id, o.our_reference, o.attempt_id, o.message_id) for o in offers])
    facts = [_fact(done) for done in group]
    for done, fact in zip(group, facts, strict=True):
        if done.offer.probe and fact is None:
            wait = done.outcome.retry_after if isinstance(done.outcome, Throttled) else 0.0
            health.give_back(done.offer.route.id, done.offer.country, wait=wait)
    with transaction.atomic():
        outbox.tell_health(health.record(filter(None, facts)))


def distrust(done: Outcomes, error: Exception) -> Outcomes | None:
    """A price or a count out of any range proves nothing: such an answer is ambiguous."""
    if isinstance(done.outcome, Ambiguous):
        return None
    log.error("unstorable answer", exc_info=error, extra={"provider": done.offer.route.slug})
    return replace(done, outcome=Ambiguous("unstorable_answer", type(error).__name__))


def _close(group: Sequence[Outcomes]) -> dict[uuid.UUID, str]:
    """Writes the attempts; returns attempt id -> the status it had, for those that were written.

    An intent takes any outcome. One that another has meanwhile declared lost takes only our own late
    `Accepted`: that is evidence, whatever was decided since.
    """
    values = []
    for done in group:
        status = _STATUS[type(done.outcome)]
        value: dict[str, Any] = {"id": done.offer.attempt_id, "status": status}
        if isinstance(done.outcome, Accepted):
            value["reference"] = done.outcome.provider_reference[:100]
            value["cost"], value["currency"] = done.outcome.price, done.outcome.currency or None
            value["segments"] = done.outcome.segments
        else:
            value["code"], value["detail"] = done.outcome.code[:60], done.outcome.detail[:200]
        if status == AttemptStatus.UNKNOWN:
            asked = done.outcome.retry_after if isinstance(done.outcome, Ambiguous) else 0.0
            value["look"] = reconcile.first_look(done.offer.route, done.offer.message_class, asked)
        values.append(value)
    return dict(rows(_CLOSE, {"rows": records(values)}))


_STATUS = {
    Accepted: AttemptStatus.ACCEPTED,
    Rejected: AttemptStatus.REJECTED,
    Throttled: AttemptStatus.NOT_SENT,
    Unavailable: AttemptStatus.NOT_SENT,
    GateRefused: AttemptStatus.NOT_SENT,
    Ambiguous: AttemptStatus.UNKNOWN,
}

_CLOSE = f"""
WITH a AS (
UPDATE messaging_attempt a SET
  status = CASE WHEN a.status IN ('intent', 'unknown') THEN r.status ELSE a.status END,
  error_code = coalesce(r.code, ''), error_detail = coalesce(r.detail, ''),
  provider_reference = coalesce(r.reference, ''),
  cost = CASE WHEN r.status = 'accepted' THEN coalesce(r.cost,
    (a.price - a.price_delivered) * coalesce(r.segments, a.segments)) END,
  currency = coalesce(r.currency, a.currency), segments = coalesce(r.segments, a.segments),
  finished_at = clock_timestamp(), resolve_at = clock_timestamp() + r.look * interval '1 second'
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, status text, code text, detail text, reference text,
  cost numeric, currency text, segments int, look float8)
WHERE a.id = r.id
  AND (a.status = 'intent' OR r.status = 'accepted' AND a.status IN ('unknown', 'not_sent', 'superseded'))
RETURNING a.id, {ATTEMPT_CHANGE}, extract(epoch FROM a.finished_at - a.started_at)::float8 AS seconds
), tallied AS ({COUNT_ATTEMPTS}
)
SELECT id, was FROM a
"""  # noqa: S608  a literal fragment


def _move(done: Outcomes, was: str, message: Locked) -> Move | None:
    """The one table: what an outcome does to its message."""
    offer, outcome = done.offer, done.outcome
    provider = offer.route.id
    match outcome:
        case Accepted() if was in (AttemptStatus.NOT_SENT, AttemptStatus.SUPERSEDED):
            if not message.possible_duplicate:
                Message.objects.filter(id=message.id).update(possible_duplicate=True)
            return None
        case Accepted():
            return Move(message.id, Status.SENT, provider_id=provider)
        case Rejected(scope=Scope.NUMBER):
            return Move(message.id, Status.FAILED, error_code=outcome.code, provider_id=provider, spent=1)
        case Rejected(scope=Scope.ROUTE):
            return Move(message.id, Status.QUEUED, delay=0, provider_id=provider, mark="barred", spent=1)
        case Rejected():
            return Move(message.id, Status.QUEUED, delay=0, provider_id=provider, mark="tried", spent=0)
        case Unavailable():
            return Move(message.id, Status.QUEUED, delay=0, provider_id=provider, mark="tried")
        case Throttled() | GateRefused():
            # A pause is like a rate: its class decides whether the message waits or takes a dearer provider.
            return Move(message.id, Status.QUEUED, delay=0)
        case Ambiguous():
            return Move(message.id, Status.UNKNOWN, error_code=outcome.code, provider_id=provider)


def _fact(done: Outcomes) -> health.Fact | None:
    offer, outcome = done.offer, done.outcome
    match outcome:
        case Accepted():
            return health.Fact(offer.route.id, offer.country, False, offer.started_at)
        case Unavailable() | Ambiguous() if done.wide and outcome.code in OWN_FAULTS:
            return None
        case Unavailable() | Ambiguous():
            return health.Fact(offer.route.id, offer.country, True, offer.started_at, done.wide, code=outcome.code)
        case Rejected(scope=Scope.ACCOUNT):
            return health.Fact(offer.route.id, offer.country, True, offer.started_at, True, True, outcome.code)
        case _:
            return None


def _log(done: Outcomes, was: str | None) -> None:
    log.info(
        "attempt",
        extra={
            "message_id": done.offer.message_id,
            "attempt_id": done.offer.attempt_id,
            "provider": done.offer.route.slug,
            "outcome": type(done.outcome).__name__ if was else "Late",
            "code": None if isinstance(done.outcome, Accepted) else done.outcome.code,
        },
    )
