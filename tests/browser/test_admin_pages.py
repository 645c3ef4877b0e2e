"""What staff do with the admin, in a real browser."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from messaging.clients import split_key
from messaging.models import ApiKey, Event, Message, Receipt, uuid7
from messaging.states import AttemptStatus, Status
from providers.models import Provider, ProviderHealth
from routing.models import PriceList
from tests.factories import (
    AttemptFactory,
    ClientFactory,
    MessageFactory,
    PriceFactory,
    PriceListFactory,
    ProviderFactory,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_login_form(page, live_server):
    page.goto(f"{live_server.url}/admin/")

    expect(page).to_have_title("Log in | MEXAR Messaging")
    expect(page.get_by_label("Username")).to_be_visible()


def test_login_page_that_is_opened_by_itself_leads_home(page, live_server, transactional_db):
    User.objects.create_superuser("second", password="x" * 12)
    page.goto(f"{live_server.url}/admin/login/")
    page.get_by_label("Username").fill("second")
    page.get_by_label("Password").fill("x" * 12)

    page.get_by_label("Password").press("Enter")

    expect(page).to_have_url(f"{live_server.url}/admin/")


def test_home(screen):
    failed_over_message(status=Status.HELD)
    ProviderHealth.objects.create(provider=Provider.objects.first(), state="open", reason="read_timeout")

    screen.open("")

    expect(screen.page.locator(".home-card", has_text="held")).to_contain_text("1")
    screen.keep("home")


def test_client_and_key_shown_once(screen):
    page = screen.page
    screen.open("messaging/client/add/")
    page.get_by_label("Slug").fill("core-backend")
    page.get_by_label("Name").fill("Core backend")
    page.get_by_label("send", exact=True).check()
    page.get_by_label("read", exact=True).check()
    screen.keep("client-add")
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_role("link", name="Create API key").click()
    screen.keep("key-form")
    page.get_by_role("button", name="Create", exact=True).click()

    token = page.locator("#secret").inner_text()
    assert split_key(token)
    screen.keep("key-shown")
    page.get_by_role("link", name="I have copied it").click()
    expect(page.locator("table", has_text="live")).to_contain_text("send, read")
    assert split_key(token)[1] not in page.content()
    screen.keep("client")

    page.get_by_role("link", name="mx_live_").click()
    page.get_by_role("link", name="Revoke").click()
    screen.keep("confirm")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("is revoked.")).to_be_visible()
    screen.keep("key-revoked")
    assert ApiKey.objects.get().revoked_at


def test_provider_credentials_are_write_only(screen):
    page = screen.page
    screen.open("providers/provider/add/")
    page.get_by_label("Slug").fill("carrier-x")
    page.get_by_label("Name").fill("Carrier X")
    page.get_by_label("Adapter").select_option("twilio")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Enter its credentials, then enable it.")).to_be_visible()
    page.get_by_label("Account sid").fill("AC-typed")
    page.get_by_label("Auth token").fill("typed-secret")
    page.get_by_role("button", name="Save and continue editing").click()

    expect(page.get_by_text("set, readable")).to_be_visible()
    expect(page.get_by_label("Auth token")).to_have_value("")
    assert "typed-secret" not in page.content()
    provider = Provider.objects.get()
    assert provider.read_credentials()["auth_token"] == "typed-secret"
    ProviderHealth.objects.create(
        provider=provider,
        state="open",
        failures=5,
        reason="read_timeout",
        opened_at=datetime.now(UTC),
        probe_at=datetime.now(UTC),
    )
    page.get_by_role("link", name="Enable").click()
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_text("carrier-x is enabled.")).to_be_visible()
    screen.keep("provider")
    screen.open("providers/provider/")
    screen.keep("providers")


def test_price_list_from_draft_to_active(screen):
    page = screen.page
    draft = PriceListFactory(status="draft", name="May 2026")
    for country in ("UA", "PL"):
        PriceFactory(price_list=draft, country=country)
    screen.open(f"routing/pricelist/{draft.pk}/change/")
    screen.keep("price-list-draft")
    page.get_by_role("link", name="2 prices").click()
    screen.keep("prices")
    page.get_by_role("link", name="UA", exact=True).click()
    page.get_by_label("Price on submit").fill("0.041")
    screen.keep("price")
    page.get_by_role("button", name="Save", exact=True).click()
    screen.log_in(User.objects.create_superuser("second"))  # who has changed it does not activate it
    screen.open(f"routing/pricelist/{draft.pk}/change/")
    page.get_by_role("link", name="Activate").click()
    page.get_by_role("button", name="Activate").click()

    expect(page.get_by_role("link", name="Retire")).to_be_visible()
    expect(page.get_by_role("button", name="Save", exact=True)).to_have_count(0)
    screen.keep("price-list-active")
    assert PriceList.objects.get().prices.get(country="UA").price == Decimal("0.041")


def test_add_from_the_prices_of_a_draft_means_that_draft(screen):
    draft = PriceListFactory(status="draft")
    PriceListFactory(status="draft")
    screen.open(f"routing/price/?price_list__id__exact={draft.pk}")

    screen.page.locator('a[href*="/routing/price/add/"]').first.click()

    expect(screen.page.get_by_label("Price list")).to_have_value(str(draft.pk))


def test_timeline_of_a_message_with_two_attempts(screen):
    message = failed_over_message()

    screen.open(f"messaging/message/{message.pk}/change/")

    entries = screen.page.locator(".timeline-entry h3").all_inner_texts()
    assert [entry for entry in entries if entry.startswith("Attempt")] == [
        "Attempt 1 by carrier-a",
        "Attempt 2 by carrier-b",
    ]
    screen.keep("message")
    screen.open("messaging/message/")
    screen.keep("messages")
    screen.page.locator("a", has_text="Filters").click()
    screen.page.wait_for_timeout(300)
    screen.keep("filters")


def test_held_message_is_confirmed_as_sent(screen):
    message = failed_over_message(status=Status.HELD)
    screen.open(f"messaging/message/{message.pk}/change/")
    screen.keep("held")

    screen.page.get_by_role("link", name="Confirm as sent").click()
    screen.page.get_by_role("button", name="Confirm as sent").click()

    expect(screen.page.get_by_text("The message counts as sent.")).to_be_visible()
    assert Message.objects.get().status == Status.SENT


def test_logs(screen):
    message = failed_over_message()
    for name in ("attempt", "receipt", "event"):
        screen.open(f"messaging/{name}/")
        screen.keep(name)
    screen.open(f"messaging/attempt/{message.attempts.first().pk}/change/")
    screen.keep("attempt-detail")


def failed_over_message(status=Status.DELIVERED):
    """The cheapest provider refused the connection, the next one took it."""
    start = datetime.now(UTC) - timedelta(minutes=2)
    decision = [
        {"provider": "carrier-b", "total": "0.047", "currency": "EUR", "chosen": "next cheapest"},
        {"provider": "carrier-c", "total": "0.058", "currency": "EUR"},
        {"provider": "carrier-a", "total": "0.038", "currency": "EUR", "reason": "already_tried"},
        {"provider": "twilio-eu", "reason": "no_price"},
    ]
    message = MessageFactory(
        sequence=2,  # of the events below
        client=ClientFactory(slug="core-backend"),
        status=status,
        created_at=start,
        decision=decision,
        reference="transfer-20260504-0042",
        metadata={"transfer": "T-4711"},
        sender="MEXAR",
    )
    held = status == Status.HELD
    AttemptFactory(
        message=message,
        provider=ProviderFactory(slug="carrier-a"),
        seq=1,
        status=AttemptStatus.NOT_SENT,
        error_code="connect_refused",
        price=Decimal("0.038"),
        cost=Decimal("0.038"),
        currency="EUR",
        started_at=start + timedelta(milliseconds=40),
        finished_at=start + timedelta(milliseconds=43),
    )
    second = AttemptFactory(
        message=message,
        provider=ProviderFactory(slug="carrier-b"),
        seq=2,
        status=AttemptStatus.UNKNOWN if held else AttemptStatus.DELIVERED,
        error_code="read_timeout" if held else "",
        price=Decimal("0.047"),
        cost=Decimal("0.047"),
        currency="EUR",
        provider_reference="" if held else "b-000123",
        started_at=start + timedelta(milliseconds=90),
        finished_at=start + timedelta(milliseconds=151),
    )
    if not held:
        Receipt.objects.create(
            provider=second.provider,
            attempt=second,
            dedupe_key=b"1",
            our_reference=second.our_reference,
            status="delivered",
            provider_status="delivered",
            received_at=start + timedelta(seconds=4),
            applied_at=start + timedelta(seconds=4, milliseconds=20),
            apply_at=start,
        )
    for seq, (kind, seconds) in enumerate([("accepted", 0.01), ("held" if held else "delivered", 4.05)], start=1):
        Event.objects.create(
            id=uuid7(),
            type=f"message.{kind}",
            subject=str(message.pk),
            sequence=seq,
            client=message.client,
            data={},
            created_at=start + timedelta(seconds=seconds),
        )
    return message


def test_an_inline_script_does_not_run(screen):
    screen.open("")

    ran = screen.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            return window.ran === true;
        }"""
    )

    assert not ran
    (refused,) = screen.problems
    assert "Content Security Policy" in refused
    screen.problems.clear()
