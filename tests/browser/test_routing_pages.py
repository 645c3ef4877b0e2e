"""What pricing staff do about routes, in a real browser."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from playwright.sync_api import expect

from providers.models import ProviderBalance
from routing.models import ExchangeRate, Network, NetworkPrefix, Rule, SenderRegistration
from tests.factories import ClientFactory, MessageFactory, PriceFactory, PriceListFactory, ProviderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def providers():
    Network.objects.create(mcc="255", mnc="03", country="UA", name="Kyivstar")
    NetworkPrefix.objects.create(prefix="38067", mcc="255", mnc="03", source="test")
    cheap = ProviderFactory(slug="carrier-a", price="0.038", balance_floor=20, balance_warning=100)
    ProviderBalance.objects.create(provider=cheap, amount=60, currency="EUR", fetched_at=datetime.now(UTC))
    empty = ProviderFactory(slug="carrier-b", price="0.03", balance_floor=20)
    ProviderBalance.objects.create(provider=empty, amount=5, currency="EUR", fetched_at=datetime.now(UTC))
    dollars = ProviderFactory(slug="carrier-c")
    book = PriceListFactory(provider=dollars)
    PriceFactory(price_list=book, mcc="255", mnc="03", price=Decimal("0.0512"), currency="USD")
    ExchangeRate.objects.create(currency="USD", rate=Decimal("1.08"), valid_from=datetime.now(UTC) - timedelta(days=9))
    ProviderFactory(slug="carrier-d")
    return cheap


def test_a_route_is_explained_with_who_was_refused_and_why(screen, providers):
    client = ClientFactory(slug="core-backend", transliteration="")
    Rule.objects.create(name="Codes by carrier-c", action="prefer", provider_id=providers.pk + 2, message_class="otp")
    SenderRegistration.objects.create(provider=providers, country="UA", sender="OTHER", state="approved")
    page = screen.page
    screen.open("messaging/message/explain/")
    screen.keep("explain-form")
    page.get_by_label("Number").fill("+380671234567")
    page.get_by_label("Client").select_option(str(client.pk))
    page.get_by_label("Class").select_option("otp")
    page.get_by_label("Text").fill("Ваш код у “листі” – не кажіть нікому, навіть нам, і нікому іншому, ніколи")
    page.get_by_role("button", name="Explain").click()

    answer = page.locator(".explain")
    expect(answer).to_contain_text("carrier-c would carry it for 0.1024 USD")
    expect(answer).to_contain_text("255-03 Kyivstar")
    expect(answer).to_contain_text("Codes by carrier-c")
    expect(answer).to_contain_text("sender_not_registered")
    expect(answer).to_contain_text("balance_too_low")
    expect(answer).to_contain_text("no_price")
    expect(answer).to_contain_text("instead of 2 segments")
    screen.keep("explain")


def test_a_message_s_decision_stands_beside_what_would_be_now(screen, providers):
    decision = [
        {"provider": "carrier-a", "total": "0.038", "currency": "EUR", "by": "country UA", "chosen": "cheapest"},
        {"provider": "carrier-b", "reason": "balance_too_low"},
    ]
    message = MessageFactory(decision=decision, to="+380671234567", text="Secret words")

    screen.open(f"messaging/message/{message.pk}/change/")
    screen.page.get_by_role("link", name="Explain", exact=True).last.click()

    expect(screen.page.locator(".explain")).to_contain_text("chosen: cheapest")
    expect(screen.page.locator(".explain")).to_contain_text("carrier-a would carry it")
    assert "Secret words" not in screen.page.content()
    assert message.to not in screen.page.content()
    screen.keep("explain-message")


def test_rules_registrations_and_balances_are_listed(screen, providers):
    page = screen.page
    screen.open("routing/rule/add/")
    page.get_by_label("Name").fill("Night codes")
    page.get_by_label("Action").select_option("weight")
    page.get_by_label("Provider").select_option(str(providers.pk))
    page.get_by_label("Ceiling").fill("0.05")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#content")).to_contain_text("Not for this action")
    page.get_by_label("Ceiling").fill("")
    page.get_by_label("Weight").fill("70")
    screen.keep("rule-form")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("weight 70", exact=True)).to_be_visible()
    screen.keep("rules")
    SenderRegistration.objects.create(
        provider=providers, country="UA", sender="MEXAR", state="approved", expires_at=datetime.now(UTC) + timedelta(9)
    )
    screen.open("routing/senderregistration/")
    expect(page.locator("#content")).to_contain_text("ends in 8 days")
    screen.keep("registrations")
    screen.open("providers/provider/")
    expect(page.locator("#content")).to_contain_text("nothing is sent")
    expect(page.locator("#content")).to_contain_text("low")
    screen.keep("provider-balances")
    screen.open("routing/exchangerate/")
    expect(page.locator("body")).to_contain_text("exchange rate of USD is 9 days old")
    screen.open("routing/networkprefix/")
    screen.keep("prefixes")


def test_a_template_shows_what_it_costs_and_what_other_letters_save(screen, providers):
    page = screen.page
    screen.open("messaging/template/add/")
    page.get_by_label("Text").fill("“" + "x" * 90 + "”")

    expect(page.locator(".preview")).to_contain_text("1 instead of 2 segments")
    expect(page.locator(".preview")).to_contain_text("0.038 EUR to UA by carrier-a")
    screen.keep("template-preview")
