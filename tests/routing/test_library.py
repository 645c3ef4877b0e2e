"""Books in memory: one that changes is read again alone, a large one aside, and the one before serves meanwhile."""

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction

from providers.sql import rows
from routing import books, library
from routing.models import PriceList
from routing.snapshot import tables
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.fleet import wait_for
from tests.messaging.stages import now


def price_of(slug):
    route = tables.get().by_slug(slug)
    found = route.book(now()).price(["UA"], "UA", now())
    return found and found[0].total


def book_of(slug):
    return tables.get().by_slug(slug).book(now())


@pytest.mark.django_db
def test_only_the_book_that_changed_is_read_again(settings):
    settings.SNAPSHOT_MAX_AGE = 0.0
    ProviderFactory(slug="a", price="0.04")
    ProviderFactory(slug="b", price="0.05")
    a, b = book_of("a"), book_of("b")

    rows("UPDATE routing_price SET price = 0.06 WHERE price_list_id = %(id)s", {"id": PriceList.objects.first().pk})

    assert (book_of("a") is a, book_of("b") is b) == (False, True)
    assert price_of("a") == 60_000


@pytest.mark.django_db
@pytest.mark.parametrize("change", ["INSERT", "UPDATE", "DELETE"])
def test_every_kind_of_change_is_seen(settings, change):
    settings.SNAPSHOT_MAX_AGE = 0.0
    ProviderFactory(slug="a", price="0.04")
    before = book_of("a")

    rows(
        {
            "INSERT": "INSERT INTO routing_price (price_list_id, country, mcc, mnc, prefix, price, price_delivered, "
            "currency) SELECT price_list_id, 'FR', '', '', '', 1, 0, 'EUR' FROM routing_price LIMIT 1",
            "UPDATE": "UPDATE routing_price SET price = 1",
            "DELETE": "DELETE FROM routing_price",
        }[change]
    )

    assert book_of("a") is not before


def meanwhile(work):
    """`work` in a thread with a connection of its own, returned once it waits for a lock that is held here."""

    def run():
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    wait_for(lambda: rows(waits), 10)
    return thread


def raised():
    ((version,),) = rows("SELECT coalesce(max(version), 0) FROM providers_version WHERE topic = 'prices'")
    return version


@pytest.fixture
def draft(transactional_db):
    book = PriceListFactory(status=PriceList.Status.DRAFT)
    PriceFactory(price_list=book, price=Decimal("0.05"))
    return book


def test_price_that_comes_while_its_list_is_activated_counts_as_a_change(draft):
    before = raised()

    with transaction.atomic():
        books.activate(draft.pk)
        late = meanwhile(lambda: PriceFactory(price_list=draft, country="FR"))
    late.join(10)

    assert (draft.prices.count(), raised() - before) == (2, 2)


def test_activation_waits_for_a_price_that_is_being_written(draft):
    before = raised()

    with transaction.atomic():
        PriceFactory(price_list=draft, country="FR")
        activation = meanwhile(lambda: books.activate(draft.pk))
    activation.join(10)

    draft.refresh_from_db()
    assert (draft.status, raised() - before) == ("active", 1)


@pytest.mark.django_db
def test_draft_costs_nobody_anything_until_it_is_active(settings):
    settings.SNAPSHOT_MAX_AGE = 0.0
    provider = ProviderFactory(slug="a", price="0.04")
    before = tables.get()

    draft = PriceListFactory(provider=provider, status=PriceList.Status.DRAFT)
    PriceFactory(price_list=draft, price=Decimal("0.05"))
    PriceFactory(price_list=draft, country="FR", price=Decimal("0.05"))
    draft.prices.filter(country="FR").update(price=1)
    draft.prices.filter(country="FR").delete()
    while_draft = tables.get()
    books.activate(draft.pk)
    active = price_of("a")
    books.retire(draft.pk)

    assert while_draft is before
    assert (active, price_of("a")) == (50_000, 40_000)


@pytest.mark.django_db
def test_provider_that_changes_reads_no_book_again(settings):
    settings.SNAPSHOT_MAX_AGE = 0.0
    provider = ProviderFactory(slug="a", price="0.04")
    before = book_of("a")

    provider.rate = 5
    provider.save()

    assert tables.get().by_slug("a").rate == 5
    assert book_of("a") is before


@pytest.mark.django_db
def test_books_of_the_past_are_not_kept_and_can_be_read():
    provider = ProviderFactory(slug="a")
    for days, price in ((90, 1), (60, 2), (1, 3)):
        PriceFactory(price_list=PriceListFactory(provider=provider, valid_from=now() - timedelta(days)), price=price)

    assert [valid_from < now() - timedelta(days=59) for valid_from, _ in tables.get().by_slug("a").books] == [
        False,
        True,
    ]
    from routing import snapshot

    then = now() - timedelta(days=80)
    assert snapshot.read(then).by_slug("a").book(then).price(["UA"], "UA", then)[0].total == 1_000_000


@pytest.mark.django_db(transaction=True)
def test_large_book_is_read_aside_and_the_one_before_serves_meanwhile(settings, monkeypatch):
    settings.SNAPSHOT_MAX_AGE = 0.0
    monkeypatch.setattr(library, "LARGE", 3)
    ProviderFactory(slug="a", price="0.04")
    assert price_of("a") == 40_000

    rows("UPDATE routing_price SET price = 0.07")
    served = price_of("a")

    assert served == 40_000
    wait_for(lambda: price_of("a") == 70_000)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "place",
    [
        {"prefix": "38067"},
        {"mcc": "255", "mnc": "01"},
        {"mcc": "255"},
        {},
    ],
)
def test_raw_sql_cannot_insert_a_price_that_overlaps(place):
    begin = now()
    price = PriceFactory(valid_from=begin, valid_to=begin + timedelta(days=9), **place)
    statement = """
        INSERT INTO routing_price (price_list_id, country, mcc, mnc, prefix, price, price_delivered, currency,
          valid_from, valid_to)
        SELECT price_list_id, country, mcc, mnc, prefix, 9, 0, 'USD', valid_from + %(later)s * interval '1 day', NULL
        FROM routing_price WHERE id = %(id)s"""

    with pytest.raises(IntegrityError, match="one_price_at_a_time"), transaction.atomic():
        rows(statement, {"id": price.pk, "later": 8})
    rows(statement, {"id": price.pk, "later": 9})

    assert price.price_list.prices.count() == 2
    assert price.price_list.prices.get(currency="USD").price == Decimal(9)
