"""Least-cost routing: who could carry this message, in what order, at what price, and who not and why."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from providers.health import Board
from routing.snapshot import Route, Tables


@dataclass(frozen=True, slots=True)
class Candidate:
    """`price` is per segment, `total` for the message, both in `currency`; `reason` says why it is refused now.

    `blocked` is the breaker's word: such a candidate comes after all others and only its probe may go.
    """

    provider_id: int
    slug: str
    price: Decimal | None = None
    currency: str = ""
    total: Decimal | None = None
    cost: Decimal | None = None  # `total` in the reporting currency: what the order is made by
    reason: str = ""
    blocked: str = ""

    @property
    def usable(self) -> bool:
        return not self.reason


def candidates(
    tables: Tables,
    board: Board,
    *,
    msisdn: str,
    country: str,
    segments: int,
    message_class: str,
    client: str,
    sender: str,
    at: datetime,
    exclude: Collection[int] = (),
) -> list[Candidate]:
    """The cheapest healthy provider first, then the next cheapest; refused ones last, with their reason.

    Pure: everything it needs to know is in its arguments. `message_class`, `client` (its slug) and
    `sender` are what routing rules decide by.
    """
    found = [
        _candidate(tables, board, route, msisdn=msisdn, country=country, segments=segments, at=at, exclude=exclude)
        for route in tables.routes.values()
    ]
    return sorted(found, key=_order)


def _candidate(
    tables: Tables,
    board: Board,
    route: Route,
    *,
    msisdn: str,
    country: str,
    segments: int,
    at: datetime,
    exclude: Collection[int],
) -> Candidate:
    if not route.enabled:
        return Candidate(route.id, route.slug, reason="disabled")
    if route.fault:
        return Candidate(route.id, route.slug, reason=route.fault)
    book = route.book(at)
    quote = book.price(msisdn=msisdn, country=country, at=at) if book else None
    if quote is None:
        return Candidate(route.id, route.slug, reason="no_price")
    total = quote.total * segments
    cost = tables.reporting(total, quote.currency, at)
    reason = "no_exchange_rate" if cost is None else "already_tried" if route.id in exclude else ""
    blocked = board.blocked(route.id, country)
    return Candidate(route.id, route.slug, quote.total, quote.currency, total, cost, reason, blocked)


def _order(candidate: Candidate) -> tuple[bool, bool, Decimal, str]:
    # Equal prices are ordered by name, so that every worker decides alike.
    return bool(candidate.reason), bool(candidate.blocked), candidate.cost or Decimal(0), candidate.slug
