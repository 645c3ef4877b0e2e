"""Webhooks in the admin, in a real browser."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from messaging.states import Status
from messaging.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookReplay
from messaging.webhooks import fanout, sending
from messaging.webhooks.sending import Outcome
from tests.factories import ClientFactory
from tests.messaging.webhooks.receiver import endpoint, secret_of, tell

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def rows(settings):
    """A working, a failing and a lost endpoint, and what was tried."""
    settings.WEBHOOK_SLOTS = 64
    client = ClientFactory(slug="core-backend")
    working = endpoint(client, "https://core.example.com/webhooks/sms", description="Core backend")
    failing = endpoint(client, "https://payouts.example.com/a/rather/long/path/of/a/hook", events=["message.*"])
    gone = endpoint(ClientFactory(slug="kyc"), "https://kyc.example.com/hook", events=["verification.verified"])
    WebhookEndpoint.objects.filter(pk=gone.pk).update(
        enabled=False, disabled_reason="gone", disabled_at=datetime.now(UTC), last_error="http_410"
    )
    for status in (Status.SENT, Status.DELIVERED, Status.SENT):
        tell(client, status)
    while fanout.fan_out():
        pass
    for shot in sending.claim(50, {}, 0):
        down = shot.endpoint_id == failing.pk
        sending.settle([Outcome(shot, None if down else 204, "read_timeout" if down else "", 15 if down else 0.043)])
    WebhookReplay.objects.create(
        endpoint=failing,
        since=datetime.now(UTC) - timedelta(hours=3),
        until=datetime.now(UTC),
        failed_only=True,
        found=2,
        created_at=datetime.now(UTC),
    )
    return working, failing, gone


def test_endpoints_deliveries_and_replay(screen, rows):
    page = screen.page
    _, failing, _ = rows
    screen.open("messaging/webhookendpoint/")
    expect(page.get_by_text("disabled: gone", exact=True)).to_be_visible()
    screen.keep("webhook-endpoints")

    screen.open(f"messaging/webhookendpoint/{failing.pk}/change/")
    expect(page.get_by_text("read_timeout").or_(page.get_by_text("read timeout")).first).to_be_visible()
    screen.keep("webhook-endpoint")
    page.get_by_role("link", name="Replay", exact=True).click()
    screen.keep("webhook-replay")
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("Replayed since").first).to_be_visible()
    assert WebhookReplay.objects.count() == 2

    page.get_by_role("link", name="Send a test").click()
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("Sent a test.").first).to_be_visible()
    page.get_by_role("link", name="Disable", exact=True).click()
    screen.keep("webhook-disable")
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_text("disabled: staff").first).to_be_visible()

    screen.open("messaging/webhookdelivery/")
    screen.keep("webhook-deliveries")
    delivery = WebhookDelivery.objects.filter(endpoint=failing).order_by("id").first()
    screen.open(f"messaging/webhookdelivery/{delivery.pk}/change/")
    screen.keep("webhook-delivery")


def test_an_endpoint_is_made_and_its_secret_shown_once(screen):
    page = screen.page
    ClientFactory(slug="core-backend")
    screen.open("messaging/webhookendpoint/")
    page.get_by_role("link", name="Add webhook endpoint").first.click()
    page.get_by_label("Client").select_option("core-backend")
    page.get_by_label("URL").fill("https://169.254.169.254/latest")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("This network is not allowed.")).to_be_visible()
    screen.keep("webhook-new")

    page.get_by_label("URL").fill("https://core.example.com/webhooks/sms")
    page.get_by_role("button", name="Create").click()

    secret = page.locator("#secret").inner_text()
    row = WebhookEndpoint.objects.get()
    assert (secret, row.events) == (secret_of(row), ["*"])
    screen.keep("webhook-secret")
    page.get_by_role("link", name="I have copied it").click()
    expect(page.get_by_text("Last attempts")).to_be_visible()
    assert secret not in page.content()

    page.get_by_role("link", name="Rotate the secret").click()
    screen.keep("webhook-rotate")
    page.get_by_role("button", name="Rotate the secret").click()

    assert page.locator("#secret").inner_text() == secret_of(row) != secret


def test_an_endpoint_is_edited_and_deleted(screen, rows):
    page = screen.page
    working, *_ = rows
    screen.open(f"messaging/webhookendpoint/{working.pk}/change/")
    page.get_by_role("link", name="Edit", exact=True).click()
    page.get_by_label("URL").fill("https://10.0.0.1/")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("This network is not allowed.")).to_be_visible()
    screen.keep("webhook-edit")

    page.get_by_label("URL").fill("https://core.example.com/v2")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Changed url.").first).to_be_visible()
    expect(page.get_by_text("https://core.example.com/v2").first).to_be_visible()

    page.get_by_role("link", name="Delete", exact=True).click()
    screen.keep("webhook-delete")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted https://core.example.com/v2.").first).to_be_visible()
    assert WebhookEndpoint.objects.filter(deleted_at=None).count() == 2
