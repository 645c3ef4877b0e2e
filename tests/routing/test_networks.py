"""Which network a number belongs to, and what it costs while nobody knows."""

from datetime import timedelta
from decimal import Decimal

import pytest

from providers.sql import rows
from routing import networks
from routing.models import ExchangeRate, NetworkPrefix, NetworkSighting
from routing.networks import UNKNOWN, Network, Seen, remember, resolve
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.messaging.stages import now
from tests.routing.test_lcr import order, reasons

pytestmark = pytest.mark.django_db
NUMBER = "+380671234567"


@pytest.fixture(autouse=True)
def _fresh():
    networks.plan.forget()


@pytest.fixture
def book():
    """Prices by network, and one for what is left."""
    book = PriceListFactory(provider=ProviderFactory(slug="a"))
    PriceFactory(price_list=book, mcc="255", mnc="01", price=Decimal("0.03"))
    PriceFactory(price_list=book, mcc="255", mnc="03", price=Decimal("0.07"))
    PriceFactory(price_list=book, mcc="255", price=Decimal("0.06"))
    PriceFactory(price_list=book, prefix="38067", price=Decimal("0.05"))
    PriceFactory(price_list=book, price=Decimal("0.04"))
    return book


def test_longest_prefix_tells_the_network():
    NetworkPrefix.objects.create(prefix="38067", mcc="255", mnc="03", source="test")
    NetworkPrefix.objects.create(prefix="3806712", mcc="255", mnc="01", source="test")

    found = resolve([NUMBER, "+380679999999", "+48512345678"])

    assert list(found.values()) == [Network("255", "01"), Network("255", "03"), UNKNOWN]


def test_what_a_provider_has_seen_wins_over_the_prefix():
    NetworkPrefix.objects.create(prefix="38067", mcc="255", mnc="03", source="test")

    remember([Seen(NUMBER, "255", "01")])
    remember([Seen(NUMBER, "255", "06"), Seen("+48512345678", "", "")])

    assert resolve([NUMBER])[NUMBER] == Network("255", "06")
    assert NetworkSighting.objects.count() == 1


def test_old_word_does_not_count_and_is_forgotten(settings):
    remember([Seen(NUMBER, "255", "01")])
    NetworkSighting.objects.update(seen_at=now() - timedelta(days=settings.NETWORKS_MAX_AGE, seconds=1))

    assert resolve([NUMBER])[NUMBER] == UNKNOWN
    networks.purge()
    assert not NetworkSighting.objects.exists()


def test_no_number_is_in_the_table_and_another_key_finds_nothing(settings):
    remember([Seen(NUMBER, "255", "01")])

    stored = rows("SELECT t::text, encode(key, 'escape') FROM routing_networksighting t")
    assert not any(digits in str(stored) for digits in (NUMBER[1:], NUMBER[-6:]))
    settings.NETWORKS_KEY = "another"
    assert resolve([NUMBER])[NUMBER] == UNKNOWN


def test_without_a_key_nothing_is_kept(settings):
    settings.NETWORKS_KEY = ""

    remember([Seen(NUMBER, "255", "01")])

    assert not NetworkSighting.objects.exists()
    assert resolve([NUMBER])[NUMBER] == UNKNOWN


@pytest.mark.parametrize(
    ("network", "price", "by"),
    [
        (Network("255", "01"), "0.03", "network 255-01"),
        (Network("255", "99"), "0.05", "prefix 38067"),
        (UNKNOWN, "0.07", "dearest"),
    ],
)
def test_price_is_that_of_the_network_where_it_is_known_and_the_dearest_where_not(book, network, price, by):
    (found,) = order(network=network)

    assert (found.price, found.by) == (Decimal(price), by)


def test_known_mcc_without_its_own_price_falls_to_the_mcc_and_then_to_the_country(book):
    book.prices.filter(prefix="38067").delete()
    assert order(network=Network("255", "99"))[0].by == "mcc 255"

    assert order(network=Network("310", "01"), msisdn="+380501234567")[0].by == "country UA"


def test_default_of_the_book_by_setting(book, settings):
    settings.UNKNOWN_NETWORK = "default"

    assert order()[0].by == "prefix 38067"
    assert order(msisdn="+380501234567")[0].by == "country UA"


def test_without_a_default_the_reason_is_the_unknown_network(settings):
    settings.UNKNOWN_NETWORK = "default"
    PriceFactory(mcc="255", mnc="01")

    assert list(reasons(order()).values()) == ["network_unknown"]


def test_dearest_is_found_over_currencies(settings):
    book = PriceListFactory()
    PriceFactory(price_list=book, mcc="255", mnc="01", price=Decimal("0.05"), currency="EUR")
    PriceFactory(price_list=book, mcc="255", mnc="03", price=Decimal("2.40"), currency="UAH")
    ExchangeRate.objects.create(currency="UAH", rate=Decimal("50"), valid_from=now() - timedelta(days=9))

    assert order()[0].currency == "EUR"


def test_place_of_two_countries_costs_what_the_number_s_own_says():
    book = PriceListFactory()
    PriceFactory(price_list=book, country="US", prefix="1", price=Decimal("0.01"))
    PriceFactory(price_list=book, country="CA", prefix="1", price=Decimal("0.02"))
    PriceFactory(price_list=book, country="JM", prefix="1", price=Decimal("0.03"))

    found = {country: order(country=country, msisdn="+12025550123")[0].price for country in ("US", "CA", "BS")}

    assert found == {"US": Decimal("0.01"), "CA": Decimal("0.02"), "BS": Decimal("0.03")}
