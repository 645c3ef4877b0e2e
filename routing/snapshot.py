"""Providers, prices and exchange rates in memory. One immutable value, renewed when a version changes."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.conf import settings

from providers.adapters.base import Adapter, Resolve
from providers.credentials import CredentialsError
from providers.models import Provider
from providers.snapshots import Snapshot
from routing.models import ExchangeRate, Price, PriceList
from routing.prices import Book, Entry, Place, Quote, place

log = logging.getLogger(__name__)

BEGINNING = datetime.min.replace(tzinfo=UTC)


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
    books: tuple[tuple[datetime, Book], ...]  # (valid_from, book), newest first

    def book(self, at: datetime) -> Book | None:
        return next((book for valid_from, book in self.books if valid_from <= at), None)


@dataclass(frozen=True, slots=True)
class Tables:
    routes: Mapping[int, Route]
    rates: Mapping[str, tuple[tuple[datetime, Decimal], ...]]
    currency: str  # the reporting one

    def by_slug(self, slug: str) -> Route | None:
        return next((route for route in self.routes.values() if route.slug == slug), None)

    def reporting(self, amount: Decimal, currency: str, at: datetime) -> Decimal | None:
        """The amount in REPORTING_CURRENCY; None where no exchange rate is known."""
        if currency == self.currency:
            return amount
        rate = next((rate for valid_from, rate in self.rates.get(currency, ()) if valid_from <= at), None)
        return amount / rate if rate else None


def _load() -> Tables:
    books = _books()
    routes = {}
    for provider in Provider.objects.all():
        adapter, resolve, fault = None, Resolve.NONE, ""
        try:
            adapter = provider.build_adapter()
            resolve = Resolve(provider.resolve) if provider.resolve else adapter.resolve
        except CredentialsError:
            fault = "credentials_unreadable"
        except Exception as error:  # one row that makes no sense must not stop all the others
            log.error("a provider's settings make no sense", exc_info=error, extra={"provider": provider.slug})
            fault = "misconfigured"
        routes[provider.pk] = Route(
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
            books=books.get(provider.pk, ()),
        )
    rates: dict[str, list[tuple[datetime, Decimal]]] = {}
    for row in ExchangeRate.objects.order_by("currency", "-valid_from"):
        rates.setdefault(row.currency, []).append((row.valid_from, row.rate))
    by_currency = {currency: tuple(found) for currency, found in rates.items()}
    return Tables(routes, by_currency, settings.REPORTING_CURRENCY)


def _books() -> dict[int, tuple[tuple[datetime, Book], ...]]:
    active = PriceList.objects.filter(status=PriceList.Status.ACTIVE).order_by("provider_id", "-valid_from")
    entries: dict[int, dict[Place, list[Entry]]] = {}
    for price in Price.objects.filter(price_list__in=active).iterator():
        where = place(country=price.country, mcc=price.mcc, mnc=price.mnc, prefix=price.prefix)
        quote = Quote(price.price, price.price_delivered, price.currency)
        found = entries.setdefault(price.price_list_id, {}).setdefault(where, [])
        found.append(Entry(quote, price.valid_from, price.valid_to))
    books: dict[int, list[tuple[datetime, Book]]] = {}
    for row in active:
        table = {where: tuple(found) for where, found in entries.get(row.pk, {}).items()}
        lengths = sorted({len(key) for kind, key in table if kind == "prefix"}, reverse=True)
        books.setdefault(row.provider_id, []).append((row.valid_from, Book(table, tuple(lengths))))
    return {provider: tuple(found) for provider, found in books.items()}


tables: Snapshot[Tables] = Snapshot(("providers", "prices"), _load)
