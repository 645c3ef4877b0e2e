"""Which provider, in what order, at what price, and who not and why."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from providers.adapters.base import Resolve
from providers.health import Board
from providers.models import Provider
from routing.lcr import candidates
from routing.models import ExchangeRate, Price, PriceList
from routing.snapshot import tables
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.messaging.stages import now

pytestmark = pytest.mark.django_db


def order(board=None, **fields):
    question = {
        "msisdn": "+380671234567",
        "country": "UA",
        "segments": 1,
        "message_class": "transactional",
        "client": "core",
        "sender": "",
        "at": now(),
    }
    return candidates(tables.get(), board or Board(), **question | fields)


def slugs(found):
    return [candidate.slug for candidate in found if candidate.usable]


def reasons(found):
    return {candidate.slug: candidate.reason for candidate in found if not candidate.usable}


def test_cheapest_comes_first_and_the_next_cheapest_after_it():
    ProviderFactory(slug="dear", price="0.09")
    ProviderFactory(slug="cheap", price="0.04")
    ProviderFactory(slug="middle", price="0.05")

    assert slugs(order()) == ["cheap", "middle", "dear"]


def test_equal_prices_are_ordered_by_name():
    ProviderFactory(slug="b", price="0.04")
    ProviderFactory(slug="a", price="0.04")

    assert slugs(order()) == ["a", "b"]


def test_refused_ones_are_named_with_their_reason():
    ProviderFactory(slug="off", price="0.01", enabled=False)
    ProviderFactory(slug="elsewhere")
    tried = ProviderFactory(slug="tried", price="0.01")
    broken = ProviderFactory(slug="broken", price="0.01")
    broken.credentials = "v1.9.AAAA"
    broken.save()

    found = order(exclude={tried.pk})

    assert reasons(found) == {
        "off": "disabled",
        "elsewhere": "no_price",
        "tried": "already_tried",
        "broken": "credentials_unreadable",
    }


@pytest.mark.parametrize("wrong", [{"resolve": "luck"}, {"adapter": "gone"}])
def test_row_that_makes_no_sense_bars_its_provider_alone(wrong, caplog):
    good = ProviderFactory(slug="good", price="0.04")
    Provider.objects.filter(pk=ProviderFactory(slug="wrong", price="0.01").pk).update(**wrong)

    found = order()

    assert (slugs(found), reasons(found)) == ([good.slug], {"wrong": "misconfigured"})
    assert [record.provider for record in caplog.records] == ["wrong"]


def test_provider_with_an_unknown_resolve_may_still_bring_receipts():
    Provider.objects.filter(pk=ProviderFactory(slug="wrong").pk).update(resolve="luck")

    route = tables.get().by_slug("wrong")

    assert route.adapter is not None
    assert route.resolve == Resolve.NONE


def test_open_breaker_comes_last_among_the_usable():
    cheap = ProviderFactory(slug="cheap", price="0.04")
    ProviderFactory(slug="dear", price="0.09")

    found = order(Board(open={(cheap.pk, ""): "read_timeout"}))

    assert [(c.slug, c.blocked) for c in found] == [("dear", ""), ("cheap", "read_timeout")]


def test_breaker_of_another_country_does_not_count():
    cheap = ProviderFactory(slug="cheap", price="0.04")

    found = order(Board(open={(cheap.pk, "PL"): "read_timeout"}))

    assert found[0].blocked == ""


def test_total_counts_segments_and_both_prices():
    book = PriceListFactory()
    PriceFactory(price_list=book, price=Decimal("0.02"), price_delivered=Decimal("0.015"))

    (found,) = order(segments=3)

    assert (found.price, found.total) == (Decimal("0.035"), Decimal("0.105"))


def test_other_currencies_are_compared_at_the_rate_of_the_day():
    dollars = ProviderFactory(slug="dollars")
    PriceFactory(price_list=PriceListFactory(provider=dollars), price=Decimal("0.050"), currency="USD")
    ProviderFactory(slug="euros", price="0.047")
    ExchangeRate.objects.create(currency="USD", rate=Decimal("1.25"), valid_from=now() - timedelta(days=2))
    ExchangeRate.objects.create(currency="USD", rate=Decimal("1.01"), valid_from=now() - timedelta(days=1))

    PriceList.objects.update(valid_from=now() - timedelta(days=3))

    assert slugs(order()) == ["euros", "dollars"]
    assert slugs(order(at=now() - timedelta(hours=25))) == ["dollars", "euros"]


def test_without_an_exchange_rate_a_price_cannot_be_compared():
    dollars = ProviderFactory(slug="dollars")
    PriceFactory(price_list=PriceListFactory(provider=dollars), currency="USD")

    assert reasons(order()) == {"dollars": "no_exchange_rate"}


def test_longest_prefix_beats_a_cheaper_short_one_and_the_country():
    book = PriceListFactory()
    PriceFactory(price_list=book, price=Decimal("0.01"))
    PriceFactory(price_list=book, prefix="380", price=Decimal("0.02"))
    PriceFactory(price_list=book, prefix="38067", price=Decimal("0.09"))

    assert order()[0].price == Decimal("0.09")
    assert order(msisdn="+380501234567")[0].price == Decimal("0.02")


def test_newest_book_in_force_decides():
    provider = ProviderFactory()
    PriceFactory(price_list=PriceListFactory(provider=provider, valid_from=now() - timedelta(days=9)), price=1)
    PriceFactory(price_list=PriceListFactory(provider=provider, valid_from=now() - timedelta(days=3)), price=2)
    PriceFactory(price_list=PriceListFactory(provider=provider, valid_from=now() + timedelta(days=3)), price=3)
    PriceFactory(price_list=PriceListFactory(provider=provider, status="draft"), price=4)

    assert order()[0].price == 2
    assert order(at=now() + timedelta(days=4))[0].price == 3


def test_price_outside_its_time_is_no_price():
    PriceFactory(valid_to=now() - timedelta(hours=1))

    assert [candidate.reason for candidate in order()] == ["no_price"]


def test_table_follows_a_change_by_raw_sql(settings):
    from providers.sql import rows

    settings.SNAPSHOT_MAX_AGE = 0.0
    ProviderFactory(slug="cheap", price="0.04")
    assert order(country="UA")[0].price == Decimal("0.04")

    rows("UPDATE routing_price SET price = 0.07 WHERE country = 'UA'")

    assert order(country="UA")[0].price == Decimal("0.07")


def test_database_refuses_two_prices_at_one_time():
    price = PriceFactory(valid_to=now())

    PriceFactory(price_list=price.price_list, valid_from=price.valid_to)
    with pytest.raises(IntegrityError, match="one_price_at_a_time"), transaction.atomic():
        PriceFactory(price_list=price.price_list, valid_from=price.valid_to - timedelta(seconds=1))


def test_database_refuses_two_active_books_with_one_start():
    book = PriceListFactory()

    with pytest.raises(IntegrityError, match="one_active_list"), transaction.atomic():
        PriceListFactory(provider=book.provider, valid_from=book.valid_from)


def test_negative_price_is_refused():
    with pytest.raises(IntegrityError, match="prices_are_not_negative"), transaction.atomic():
        PriceFactory(price=Decimal("-0.01"))
    assert not Price.objects.exists()
