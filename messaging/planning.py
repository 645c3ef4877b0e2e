"""What happens next to a message that is due: go by a provider, later, or stop."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.conf import settings

from messaging.models import uuid7
from messaging.states import Status
from providers import health
from providers.health import Board
from providers.throughput import Reservations
from routing.lcr import BLOCKED, FOR_GOOD, Candidate, candidates
from routing.networks import UNKNOWN, Network
from routing.prices import decimal, plain
from routing.snapshot import Route, Tables

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two rounds through all providers
NOBODY_NOW = 30.0  # seconds until a message without any usable provider looks again


@dataclass(frozen=True, slots=True)
class Due:
    """A claimed row. `left` is what remains of its validity, in seconds."""

    id: uuid.UUID
    message_class: str
    to: str
    country: str
    text: str = field(repr=False)
    encoding: str
    segments: int
    sender: str
    client: str
    spent: int
    rounds: int
    tried: Sequence[int]
    barred: Sequence[int]
    expires_at: datetime
    left: float
    now: datetime
    suppressed: bool  # since it was accepted
    renderer: str
    max_price: Decimal | None = None  # of the message, in the reporting currency
    network: Network = UNKNOWN


@dataclass(frozen=True, slots=True)
class Go:
    route: Route
    price: Decimal  # per segment
    price_delivered: Decimal  # ... of it, what is due on delivery
    currency: str
    decision: list[dict[str, str]]
    probe: bool = False
    attempt_id: uuid.UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True)
class Later:
    seconds: float
    decision: list[dict[str, str]]
    new_round: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    to: Status
    code: str


Step = Go | Later | Stop


def depth(message_class: str) -> int:
    """How many providers may take a message of this class, or may have taken it, one after the other."""
    return int(settings.MAX_ATTEMPTS_OF.get(message_class, settings.MAX_ATTEMPTS))


def plan(message: Due, tables: Tables, board: Board, tokens: Reservations) -> Step:
    if message.left <= 0:
        return Stop(Status.EXPIRED, "validity_over")
    if message.suppressed:
        return Stop(Status.FAILED, "suppressed")
    if message.spent >= depth(message.message_class):
        return Stop(Status.FAILED, "attempts_exhausted")
    found = candidates(
        tables,
        board,
        msisdn=message.to,
        country=message.country,
        segments=message.segments,
        message_class=message.message_class,
        client=message.client,
        sender=message.sender,
        at=message.now,
        exclude={*message.tried, *message.barred},
        network=message.network,
        max_price=message.max_price,
        draw=share(message.id),
    )
    usable = [candidate for candidate in found if candidate.usable]
    if not usable:
        return _nobody(message, found)
    return _pick(message, usable, found, tables, board, tokens)


def share(message_id: uuid.UUID) -> float:
    """Where a message falls when the first place is shared out: from its random bits, the same in every round."""
    return (message_id.int & 0xFFFFFFFF) / 2**32


def _nobody(message: Due, found: Sequence[Candidate]) -> Later | Stop:
    """Every provider was tried or is closed to us. Only a refusal for good by all of them ends it here."""
    waiting = [c for c in found if c.reason == "already_tried" and c.provider_id not in message.barred]
    if waiting:
        pause = min(FIRST_PAUSE * 2**message.rounds, LONGEST_PAUSE) * random.uniform(0.8, 1.2)
        return Later(pause, _told(found), new_round=True)
    if message.barred and all(c.reason == "already_tried" or c.reason in FOR_GOOD for c in found):
        return Stop(Status.FAILED, "no_route_left")
    return Later(NOBODY_NOW, _told(found))


def _pick(
    message: Due,
    usable: Sequence[Candidate],
    found: Sequence[Candidate],
    tables: Tables,
    board: Board,
    tokens: Reservations,
) -> Go | Later:
    healthy = [c for c in usable if not c.blocked]
    blocked = [c for c in usable if c.blocked]
    for candidate in blocked:
        # An open breaker heals by one message of the fleet, and only by one that would like to go there.
        preferred = not healthy or (candidate.rank - BLOCKED, candidate.units) < (healthy[0].rank, healthy[0].units)
        due = preferred and board.may_probe(candidate.provider_id, message.country)
        if due and health.win_probe(candidate.provider_id, message.country):
            return _go(candidate, tables, found, "probe")
    for candidate in healthy:
        wait = tokens.take(candidate.provider_id, message.message_class)
        if wait == 0:
            return _go(candidate, tables, found, _why(candidate, usable))
        if wait <= settings.OVERFLOW_WAIT[message.message_class]:
            return Later(tokens.put_off(candidate.provider_id, message.message_class), _told(found, "rate"))
    if healthy:
        return Later(tokens.put_off(healthy[0].provider_id, message.message_class), _told(found, "rate"))
    if health.win_panic(blocked[0].provider_id, message.country):
        return _go(blocked[0], tables, found, "panic")
    return Later(random.uniform(0.5, 1.5), _told(found, "all_blocked"))


def _why(candidate: Candidate, usable: Sequence[Candidate]) -> str:
    if candidate is not usable[0]:
        return "next cheapest"
    if all(candidate.units <= other.units for other in usable):
        return "cheapest"
    return "preferred by a rule" if candidate.preferred else "weighed by a rule" if candidate.weight else "cheapest"


def _go(candidate: Candidate, tables: Tables, found: Sequence[Candidate], why: str) -> Go:
    quote = candidate.quote
    assert quote is not None  # noqa: S101  a usable candidate has a price
    route, decision = tables.routes[candidate.provider_id], _told(found, why, chosen=candidate.slug)
    return Go(route, decimal(quote.total), decimal(quote.on_delivery), quote.currency, decision, why == "probe")


def _told(found: Sequence[Candidate], why: str = "", chosen: str = "") -> list[dict[str, str]]:
    """The decision as it is stored with the message: who could carry it, at what price, who not and why."""
    told = []
    for candidate in found:
        entry = {"provider": candidate.slug}
        if candidate.total is not None:
            entry |= {"total": plain(candidate.total), "currency": candidate.currency, "by": candidate.by}
        if candidate.slug == chosen:
            entry["chosen"] = why
        reason = candidate.reason or (candidate.blocked and f"breaker: {candidate.blocked}") or (not chosen and why)
        if reason and candidate.slug != chosen:
            entry["reason"] = reason
        told.append(entry)
    return told
