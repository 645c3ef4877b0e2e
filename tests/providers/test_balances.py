"""Balances are asked for without waiting, close a provider below its floor and warn before."""

from decimal import Decimal

import pytest

from providers import balances
from providers.models import Provider, ProviderBalance
from providers.types import Balance, HttpResponse
from tests.conftest import Carriers
from tests.factories import ProviderFactory
from tests.fleet import wait_for

CARRIER = """
[[carriers]]
slug = "carrier-a"
mode = "key"
token = "carrier-a-token"
currency = "EUR"
prices = { "*" = "0.04" }
balance = "12.50"
"""


def balance_of(provider):
    return ProviderBalance.objects.select_related("provider").get(provider=provider)


@pytest.mark.django_db(transaction=True)
def test_balance_is_asked_for_and_written_by_the_next_rounds(tmp_path):
    carriers = Carriers(tmp_path, CARRIER)
    try:
        provider = ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token")

        def known():
            balances.watch()
            return balance_of(provider).amount

        assert wait_for(known) == Decimal("12.5")
        assert (balance_of(provider).currency, balance_of(provider).fault) == ("EUR", "")
    finally:
        carriers.stop()


@pytest.mark.django_db(transaction=True)
def test_shipped_carriers_tell_their_balance(carriers, lines):
    for place, slug in enumerate(("carrier-a", "carrier-b", "carrier-c"), 1):
        ProviderFactory(slug=slug, base_url=carriers.url(place), token=f"{slug}-token")

    def known():
        balances.watch()
        return ProviderBalance.objects.filter(amount=5000, currency="EUR").count() == 3

    wait_for(known)
    assert lines.all == []


@pytest.mark.django_db(transaction=True)
def test_provider_that_cannot_be_asked_is_noted_and_keeps_what_was_known():
    provider = ProviderFactory(slug="carrier-a")  # nobody listens there
    ProviderBalance.objects.create(provider=provider, amount=5, currency="EUR")

    def noted():
        balances.watch()
        return balance_of(provider).fault

    assert wait_for(noted) == "connection_refused"
    assert balance_of(provider).amount == 5


@pytest.mark.django_db
def test_each_provider_is_asked_once_in_a_pause(settings):
    ProviderFactory()

    assert len(balances._due()) == 1
    assert balances._due() == []
    settings.BALANCE_PAUSE = 0.000001
    assert len(balances._due()) == 1


@pytest.mark.django_db
def test_low_and_empty_balances_are_said_once(lines):
    provider = ProviderFactory(slug="a", balance_floor=10, balance_warning=100)
    ProviderBalance.objects.create(provider=provider)

    for amount in (500, 99, 98, 9, 8, 200):
        balances.record(provider.pk, Balance(Decimal(amount), "EUR"))

    assert [line["message"] for line in lines.all] == [
        "balance is low",
        "balance below its floor: nothing is sent by this provider",
        "balance is above its floor again",
    ]
    assert not balance_of(provider).closes


@pytest.mark.parametrize(
    ("adapter", "body", "amount"),
    [
        ("simulator", b'{"balance": "-1.50", "currency": "EUR"}', Decimal("-1.50")),
        ("twilio", b'{"balance": "3.64", "currency": "USD", "account_sid": "AC1"}', Decimal("3.64")),
        ("simulator", b'{"balance": "NaN", "currency": "EUR"}', None),
        ("simulator", b'{"balance": "1e40", "currency": "EUR"}', None),
        ("twilio", b'{"balance": null, "currency": "USD"}', None),
        ("twilio", b'{"balance": "1", "currency": "dollars"}', None),
        ("simulator", b"[]", None),
        ("twilio", b"<html>", None),
    ],
)
def test_answers_are_read_or_refused(adapter, body, amount):
    provider = Provider(slug="a", adapter=adapter)
    names = {"token": "t", "account_sid": "AC1", "auth_token": "t"}
    provider.set_credentials(names)
    built = provider.build_adapter()

    found = balances.read(built, HttpResponse(200, {}, body))

    assert found == "unreadable_answer" if amount is None else found.amount == amount
    assert balances.read(built, HttpResponse(401, {}, body)) == "http_401"


def test_twilio_asks_for_its_own_account():
    provider = Provider(slug="a", adapter="twilio")
    provider.set_credentials({"account_sid": "AC1", "auth_token": "t"})

    request = provider.build_adapter().build_balance()

    assert (request.method, request.url) == ("GET", "https://api.twilio.com/2010-04-01/Accounts/AC1/Balance.json")
    assert request.headers["Authorization"].startswith("Basic ")
