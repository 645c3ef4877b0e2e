"""Least-cost routing: who could carry this message, in what order, at what price, and who not and why."""

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from providers.health import Board
from routing.networks import Network
from routing.prices import Book, Quote, basis, decimal, prefixes
from routing.rules import COST, NONE, Wishes, sender_refused
from routing.snapshot import KEPT, Route, Tables

#: Why a provider is refused, and what that means. docs/routing.md has the same table.
REASONS = {
    "disabled": "Staff have switched the provider off.",
    "credentials_unreadable": "Its credentials cannot be decrypted with the keys there are.",
    "misconfigured": "Its settings make no sense: an adapter that is not there, or missing credentials.",
    "balance_too_low": "What is left on its account is below the floor that staff have set.",
    "barred": "A rule bars it for such messages.",
    "not_pinned": "A rule pins such messages to other providers.",
    "sender_not_registered": "It has registered senders in this country, and this is none of them.",
    "sender_pending": "The registration of this sender is not decided yet.",
    "sender_rejected": "The registration of this sender was turned down.",
    "sender_expired": "The registration of this sender has run out.",
    "no_price": "Its price list in force has no price for this number.",
    "network_unknown": "Its prices there are by network, and the network of this number is not known.",
    "no_exchange_rate": "Its price is in a currency without an exchange rate: it cannot be compared.",
    "above_ceiling": "A segment costs more than a rule allows.",
    "above_max_price": "The message costs more than its max_price.",
    "already_tried": "The message was with it in this round, or it refused the message for good.",
}
FOR_GOOD = frozenset({"no_price", "above_max_price"})  # nothing but a new price list changes them


PREFERRED, USUAL, BLOCKED, REFUSED = 0, 1, 2, 4  # ranks; of the blocked too, the preferred come first


class Candidate(NamedTuple):
    """One provider's offer. Candidates sort by their first three fields: so every worker decides alike.

    `reason` says why it is refused now. `blocked` is the breaker's word: such a candidate comes after all others and
    only its probe may go.
    """

    rank: int
    units: int  # the cost of the message in 1/COST of the reporting currency: what the order is made by
    slug: str  # equal prices are ordered by name
    provider_id: int
    reason: str = ""
    blocked: str = ""
    quote: Quote | None = None
    segments: int = 1
    place: str = ""  # what the price is for: a network, a prefix, an MCC, a country; "" for the dearest of a country
    preferred: bool = False
    weight: int = 0

    @property
    def usable(self) -> bool:
        return not self.reason

    @property
    def price(self) -> Decimal | None:
        """Of a segment, in `currency`."""
        return None if self.quote is None else decimal(self.quote.total)

    @property
    def currency(self) -> str:
        return "" if self.quote is None else self.quote.currency

    @property
    def total(self) -> Decimal | None:
        """Of the message, in `currency`."""
        return None if self.quote is None else decimal(self.quote.total * self.segments)

    @property
    def cost(self) -> Decimal | None:
        """`total` in the reporting currency; None where no exchange rate is known."""
        if self.quote is None or self.reason == "no_exchange_rate":
            return None
        return Decimal(self.units) / COST

    @property
    def by(self) -> str:
        """What the price is for: `network 255-01`, `prefix 38067`, `mcc 255`, `country UA`; `dearest` of a country."""
        return f"{basis(self.place)} {self.place.rstrip('-')}" if self.place else "dearest"


class Question(NamedTuple):
    """What the order depends on, beside the tables, the time and the breakers. `prefixes` stand for the number; what
    makes no difference is empty, so that fewer orders are kept."""

    country: str
    segments: int
    message_class: str
    client: str
    sender: str
    network: Network
    prefixes: tuple[str, ...]
    max_units: int | None  # the most that the message may cost, in 1/COST of the reporting currency


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
    network: Network | None = None,
    max_price: Decimal | None = None,
    draw: float = 0.0,
    keep: bool = True,
) -> Sequence[Candidate]:
    """The cheapest healthy provider first, then the next cheapest; refused ones last, with their reason.

    Pure: everything it needs to know is in its arguments. `message_class`, `client` (its slug) and `sender` are what
    routing rules decide by; `network` is what the prefix says where it is not given; `max_price` is of the message,
    in the reporting currency; `draw` (from 0 to 1) shares out the first place where rules weigh providers. An order
    is kept with the tables for the next number that cannot differ, unless `keep` says no.
    """
    by_client, by_class, by_sender = tables.matters
    question = Question(
        country,
        segments,
        message_class if by_class else "",
        client if by_client else "",
        sender if by_sender else "",
        tables.plan.of(msisdn) if network is None else network,
        prefixes(msisdn),
        None if max_price is None else int(max_price * COST),
    )
    found = _kept(tables, board, question, at) if keep else _ordered(tables, board, question, at)
    if exclude:
        found = sorted(_without(candidate, exclude) for candidate in found)
    return _drawn(found, draw)


def _kept(tables: Tables, board: Board, question: Question, at: datetime) -> Sequence[Candidate]:
    orders = tables.orders
    key = (question, tables.epoch(at), frozenset(board.open.items()) if board.open else None)
    found = orders.get(key)
    if found is None:
        if len(orders) * len(tables.routes) >= KEPT:
            orders.clear()
        found = orders[key] = _ordered(tables, board, question, at)
    return found


def _ordered(tables: Tables, board: Board, question: Question, at: datetime) -> Sequence[Candidate]:
    wishes = tables.wishes(
        client=question.client,
        message_class=question.message_class,
        country=question.country,
        sender=question.sender,
        network=question.network,
        at=at,
    )
    mcc, mnc = question.network
    places = (*question.prefixes, f"{mcc}-", question.country) if mcc else (*question.prefixes, question.country)
    if mnc:
        places = (f"{mcc}-{mnc}", *places)
    found = [_candidate(tables, board, route, question, wishes, places, at) for route in tables.routes.values()]
    found.sort()
    return tuple(found)


def _candidate(
    tables: Tables, board: Board, route: Route, question: Question, wishes: Wishes, places: Sequence[str], at: datetime
) -> Candidate:
    refused = route.refused or (wishes is not NONE and wishes.refuses(route.id))
    if not refused and tables.registrations:
        sender = question.sender or route.sender
        refused = sender_refused(tables.registrations, route.id, question.country, sender, at)
    if refused:
        return Candidate(REFUSED, 0, route.slug, route.id, refused)
    country, segments = question.country, question.segments
    book = route.book(at)
    if book is None:
        return Candidate(REFUSED, 0, route.slug, route.id, "no_price")
    found = book.price(places, country, at)
    if country in book.by_network and not question.network.mcc:
        found = _unknown(tables, book, country, at, found)
        if found is None:
            return Candidate(REFUSED, 0, route.slug, route.id, "network_unknown")
    if found is None:
        return Candidate(REFUSED, 0, route.slug, route.id, "no_price")
    quote, place = found
    cost = tables.cost(quote, at)
    if cost is None:
        return Candidate(REFUSED, 0, route.slug, route.id, "no_exchange_rate", "", quote, segments, place)
    units = cost * segments
    blocked = board.blocked(route.id, country) if board.open else ""
    if wishes is NONE and question.max_units is None:
        rank = BLOCKED + USUAL if blocked else USUAL
        return Candidate(rank, units, route.slug, route.id, "", blocked, quote, segments, place)
    reason, preferred = _too_dear(cost, question, wishes, route.id), route.id in wishes.preferred
    rank = REFUSED if reason else (BLOCKED if blocked else 0) + (PREFERRED if preferred else USUAL)
    weight = wishes.weights.get(route.id, 0)
    return Candidate(rank, units, route.slug, route.id, reason, blocked, quote, segments, place, preferred, weight)


def _unknown(
    tables: Tables, book: Book, country: str, at: datetime, default: tuple[Quote, str] | None
) -> tuple[Quote, str] | None:
    """The price of a number whose network is not known, in a book that has prices by network there."""
    if tables.unknown_network == "default":
        return default
    options = book.network_prices(country, at)
    if default is not None:
        options.append(default[0])
    if not options:
        return None
    return max(options, key=lambda quote: _dear(quote, tables.cost(quote, at))), ""


def _dear(quote: Quote, cost: int | None) -> tuple[bool, int, str]:
    """One that cannot be compared could be the dearest: it is taken, and refused."""
    return cost is None, quote.total if cost is None else cost, quote.currency


def _too_dear(cost: int, question: Question, wishes: Wishes, provider_id: int) -> str:
    if wishes.ceilings:
        ceiling = wishes.ceiling(provider_id)
        if ceiling is not None and cost > ceiling:
            return "above_ceiling"
    if question.max_units is not None and cost * question.segments > question.max_units:
        return "above_max_price"
    return ""


def _without(candidate: Candidate, exclude: Collection[int]) -> Candidate:
    if candidate.reason or candidate.provider_id not in exclude:
        return candidate
    return candidate._replace(rank=REFUSED, reason="already_tried")


def _drawn(found: Sequence[Candidate], draw: float) -> Sequence[Candidate]:
    """Puts one of the weighed candidates first. Those of another tier than the first one's have no say."""
    first = found[0] if found else None
    if first is None or first.reason or not any(candidate.weight for candidate in found):
        return found
    weighed = [candidate for candidate in found if candidate.weight and candidate.rank == first.rank]
    left = draw * sum(candidate.weight for candidate in weighed)
    for candidate in weighed:
        left -= candidate.weight
        if left < 0:
            return [candidate, *(other for other in found if other is not candidate)]
    return found
