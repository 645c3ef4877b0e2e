"""Providers, prices, rules and exchange rates in memory. One immutable value, renewed when a version changes.

Books are kept one by one. A change of a few prices or of a provider is there at the next look; a large book that has
changed is read by a thread of its own, and the one before serves its provider until it is there.
"""

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import cached_property
from typing import Any

from django.conf import settings

from providers.adapters.base import Adapter, Resolve
from providers.credentials import CredentialsError
from providers.models import Provider
from providers.snapshots import Snapshot
from routing import networks, rules
from routing.library import Library, Shelf, in_force
from routing.models import ExchangeRate
from routing.networks import Network, Plan
from routing.prices import MICRO, Book, Quote
from routing.rules import COST, Condition, Registrations, Wishes

log = logging.getLogger(__name__)

BEGINNING = datetime.min.replace(tzinfo=UTC)
_RATE = 10**8  # exchange rates have eight places
#: Candidates in the orders that are kept, some 170 bytes each; then all are forgotten together.
KEPT = 1_200_000


@dataclass(frozen=True, slots=True)
class Route:
    """A provider as delivery needs it. A `fault` bars it; `adapter` is None where it cannot be built."""

    id: int
    slug: str
    enabled: bool
    rate: int | None
    sender: str
    resolve: Resolve
    lag: float
    window: float
    adapter: Adapter | None
    fault: str
    books: Shelf  # (valid_from, book), newest first
    refused: str = field(init=False)  # why it carries nothing at all

    def __post_init__(self) -> None:
        object.__setattr__(self, "refused", self.fault if self.enabled else "disabled")

    def book(self, at: datetime) -> Book | None:
        for valid_from, book in self.books:
            if valid_from <= at:
                return book
        return None


@dataclass(frozen=True)
class Tables:
    routes: Mapping[int, Route]
    rates: Mapping[str, tuple[tuple[datetime, Decimal], ...]]
    currency: str  # the reporting one
    rules: Sequence[Condition] = ()
    registrations: Registrations = field(default_factory=dict)
    plan: Plan = field(default_factory=lambda: Plan({}, (), {}))
    unknown_network: str = "dearest"
    orders: dict[Any, Any] = field(default_factory=dict, compare=False)  # lcr keeps what it has found

    def by_slug(self, slug: str) -> Route | None:
        return next((route for route in self.routes.values() if route.slug == slug), None)

    def reporting(self, amount: Decimal, currency: str, at: datetime) -> Decimal | None:
        """The amount in REPORTING_CURRENCY; None where no exchange rate is known."""
        if currency == self.currency:
            return amount
        rate = next((rate for valid_from, rate in self.rates.get(currency, ()) if valid_from <= at), None)
        return amount / rate if rate else None

    def cost(self, quote: Quote, at: datetime) -> int | None:
        """What one segment costs in 1/COST of the reporting currency, rounded down; None without an exchange rate."""
        if quote.currency == self.currency:
            return quote.total * (COST // MICRO)
        for valid_from, rate in self._rates.get(quote.currency, ()):
            if valid_from <= at:
                return quote.total * (COST // MICRO * _RATE) // rate
        return None

    @cached_property
    def _rates(self) -> Mapping[str, tuple[tuple[datetime, int], ...]]:
        return {
            currency: tuple((valid_from, int(rate * _RATE)) for valid_from, rate in found)
            for currency, found in self.rates.items()
        }

    @cached_property
    def priced_by_network(self) -> frozenset[str]:
        """The countries where it matters which network a number belongs to."""
        found = {country for book in self._books() for country in book.by_network}
        return frozenset(found | {rule.country for rule in self.rules if rule.mcc})

    def network_matters(self, country: str) -> bool:
        return country in self.priced_by_network or "" in self.priced_by_network

    @cached_property
    def moments(self) -> tuple[datetime, ...]:
        """When something begins or ends to hold, in order: between two of them all answers are the same."""
        found = {moment for book in self._books() for moment in book.moments}
        found |= {valid_from for route in self.routes.values() for valid_from, _ in route.books}
        found |= {valid_from for rates in self.rates.values() for valid_from, _ in rates}
        found |= {one.expires_at for by in self.registrations.values() for one in by.values() if one.expires_at}
        return tuple(sorted(found))

    @cached_property
    def matters(self) -> tuple[bool, bool, bool]:
        """Whether it makes any difference which client, class and sender a message has."""
        found = self.rules
        by_sender = bool(self.registrations) or any(rule.sender for rule in found)
        return any(rule.client for rule in found), any(rule.message_class for rule in found), by_sender

    @cached_property
    def currencies(self) -> frozenset[str]:
        """That the price lists in memory are in."""
        return frozenset(quote.currency for book in self._books() for quote in book.quotes)

    @cached_property
    def countries(self) -> tuple[str, ...]:
        """With a price for the whole country, those that most providers have first."""
        found = Counter(key for book in self._books() for key in book.places if key.isalpha())
        return tuple(country for country, _ in sorted(found.items(), key=lambda one: (-one[1], one[0])))

    @cached_property
    def clock(self) -> tuple[time, ...]:
        """The times of day (UTC) at which a rule begins or ends to hold, in order."""
        found = {rule.begins for rule in self.rules} | {rule.ends for rule in self.rules}
        return tuple(sorted(moment for moment in found if moment is not None))

    def epoch(self, at: datetime) -> tuple[int, int]:
        """Changes whenever the same question may have another answer."""
        of_day = bisect_right(self.clock, at.astimezone(UTC).time()) if self.clock else 0
        return bisect_right(self.moments, at), of_day

    def wishes(
        self, *, client: str, message_class: str, country: str, sender: str, network: Network, at: datetime
    ) -> Wishes:
        if not self.rules:
            return rules.NONE
        return rules.wishes(
            self.rules,
            client=client,
            message_class=message_class,
            country=country,
            sender=sender,
            network=network,
            at=at,
        )

    def _books(self) -> list[Book]:
        return [book for route in self.routes.values() for _, book in route.books]


def read(at: datetime) -> Tables:
    """Tables of their own with the books that were in force at that moment, however long ago. It takes its time."""
    return _tables({provider: Library().read(wanted) for provider, wanted in in_force(at).items()})


def _load() -> Tables:
    found = _tables(_library.shelves(tables.soon))
    # Found out here, so that no message waits for it.
    _ = found.priced_by_network, found.moments
    return found


def _tables(shelves: Mapping[int, Shelf]) -> Tables:
    rates: dict[str, list[tuple[datetime, Decimal]]] = {}
    for row in ExchangeRate.objects.order_by("currency", "-valid_from"):
        rates.setdefault(row.currency, []).append((row.valid_from, row.rate))
    return Tables(
        routes={provider.pk: _route(provider, shelves.get(provider.pk, ())) for provider in _providers()},
        rates={currency: tuple(found) for currency, found in rates.items()},
        currency=settings.REPORTING_CURRENCY,
        rules=rules.read_rules(),
        registrations=rules.read_registrations(),
        plan=networks.plan.get(fresh=True),
        unknown_network=settings.UNKNOWN_NETWORK,
    )


def _providers() -> Any:
    return Provider.objects.select_related("balance")


def _route(provider: Provider, books: Shelf) -> Route:
    adapter, resolve, fault = None, Resolve.NONE, ""
    try:
        adapter = provider.build_adapter()
        resolve = Resolve(provider.resolve) if provider.resolve else adapter.resolve
    except CredentialsError:
        fault = "credentials_unreadable"
    except Exception as error:  # one row that makes no sense must not stop all the others
        log.error("a provider's settings make no sense", exc_info=error, extra={"provider": provider.slug})
        fault = "misconfigured"
    balance = getattr(provider, "balance", None)
    if not fault and balance is not None and balance.closes:
        fault = "balance_too_low"
    return Route(
        id=provider.pk,
        slug=provider.slug,
        enabled=provider.enabled,
        rate=provider.rate,
        sender=provider.sender,
        resolve=resolve,
        lag=provider.lag if provider.lag is not None else (adapter.lag if adapter else 0.0),
        window=adapter.window if adapter else 0.0,
        adapter=adapter,
        fault=fault,
        books=books,
    )


_library = Library()
tables: Snapshot[Tables] = Snapshot(("providers", "prices", "rules", "networks"), _load)
