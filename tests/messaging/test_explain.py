"""`manage.py explain_route`, and quotes at another moment."""

import io
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command

from routing.models import ExchangeRate, Rule
from tests.factories import ClientFactory, MessageFactory, PriceFactory, PriceListFactory, ProviderFactory
from tests.messaging.stages import now

pytestmark = pytest.mark.django_db
NUMBER = "+380671234567"
PAGE = "/admin/messaging/message/explain/"


def explain(*arguments):
    out = io.StringIO()
    call_command("explain_route", NUMBER, *arguments, stdout=out)
    return out.getvalue()


def test_it_names_who_would_carry_it_and_why_the_others_not():
    ProviderFactory(slug="cheap", price="0.04")
    ProviderFactory(slug="off", price="0.01", enabled=False)
    dollars = ProviderFactory(slug="dollars")
    PriceFactory(price_list=PriceListFactory(provider=dollars), price=Decimal("0.0512"), currency="USD")
    ExchangeRate.objects.create(currency="USD", rate=Decimal("1.08"), valid_from=now() - timedelta(days=1))

    told = explain()

    assert "+380******567 in UA, network unknown; gsm7, 1 segments" in told
    assert "1. cheap" in told
    assert "0.0512 USD by country UA = 0.047407 EUR" in told
    assert "disabled: Staff have switched the provider off." in told
    assert told.endswith("chosen: cheap\n")
    assert NUMBER not in told


def test_it_follows_the_rules_and_letters_of_a_client():
    ProviderFactory(slug="cheap", price="0.04")
    Rule.objects.create(name="ours", action="pin", provider=ProviderFactory(slug="dear", price="0.09"), client="core")
    ClientFactory(slug="core", transliteration="cyrillic")

    told = explain("--client", "core", "--class", "otp", "--text", "я" * 80)

    assert "rules: ours" in told
    assert "gsm7, 1 segments" in told
    assert "chosen: dear" in told


def test_another_moment_has_the_prices_of_that_moment():
    provider = ProviderFactory(slug="a")
    for days, price in ((90, "0.01"), (1, "0.03")):
        valid_from = now() - timedelta(days=days)
        PriceFactory(price_list=PriceListFactory(provider=provider, valid_from=valid_from), price=Decimal(price))
    later = PriceListFactory(provider=provider, valid_from=now() + timedelta(days=7))
    PriceFactory(price_list=later, price=Decimal("0.05"))

    moments = [now() + timedelta(days=days) for days in (-80, 0, 8)]
    told = [explain("--at", moment.isoformat()) for moment in moments]

    assert ["0.01 EUR" in told[0], "0.03 EUR" in told[1], "0.05 EUR" in told[2]] == [True] * 3
    assert "have no history: they are of now" in told[0]
    assert "history" not in explain()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0671234567"], "no number in E.164 form"),
        ([NUMBER, "--at", "tomorrow"], "--at is an ISO 8601"),
        ([NUMBER, "--client", "nobody"], "There is no client 'nobody'"),
    ],
)
def test_what_cannot_be_explained(arguments, words):
    with pytest.raises(CommandError, match=words):
        call_command("explain_route", *arguments)


@pytest.mark.parametrize(("granted", "status"), [([], 403), (["view_price"], 200), (["view_message"], 200)])
def test_page_is_for_who_may_see_prices_or_messages(client, settings, granted, status):
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    user = User.objects.create_user("a", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=granted))
    client.force_login(user)
    message = MessageFactory()

    assert client.get(PAGE).status_code == status
    wanted = 200 if "view_message" in granted else 403
    assert client.get(PAGE, {"message": message.pk}).status_code == wanted
