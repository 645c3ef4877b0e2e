"""Challenges, profiles and figures of verification, as staff use them."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils.crypto import get_random_string
from playwright.sync_api import expect

from messaging.models import Event, Receipt, uuid7
from messaging.states import AttemptStatus
from routing.models import Quality
from tests.factories import AttemptFactory, ClientFactory, MessageFactory, ProviderFactory
from verification.models import Challenge, CodeMessage, Hour, Profile

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
NARROW = 420


def keep(screen, name):
    """The pictures of every page, and one as wide as a phone."""
    screen.keep(name)
    screen.page.set_viewport_size({"width": NARROW, "height": 900})
    screen.page.wait_for_timeout(150)
    assert screen.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
    screen.picture(f"{name}-{NARROW}")
    screen.page.set_viewport_size({"width": 1440, "height": 900})


def test_challenge_from_the_list_to_its_cancellation(screen):
    page = screen.page
    challenge = resent_challenge()
    screen.open("")
    page.get_by_role("link", name="Challenges").first.click()
    keep(screen, "verifications")
    page.locator(f"a[href*='{challenge.pk}']").first.click()

    expect(page.locator(".timeline-entry h3").first).to_have_text("Started by core-backend")
    keep(screen, "verification")
    page.get_by_role("link", name="Message 2").click()
    page.get_by_role("link", name="Verification", exact=True).click()
    page.get_by_role("link", name="Cancel", exact=True).click()
    keep(screen, "verification-cancel")
    page.get_by_role("button", name="Cancel the verification").click()

    expect(page.get_by_text("It is cancelled.")).to_be_visible()
    expect(page.locator(".timeline-entry h3", has_text="Closed")).to_be_visible()
    keep(screen, "verification-cancelled")


def test_profile_is_previewed_while_it_is_edited(screen):
    page = screen.page
    ClientFactory(slug="core-backend")
    screen.open("verification/profile/add/")
    expect(page.locator(".preview-texts li")).to_have_count(7)
    page.get_by_label("Client").select_option(label="core-backend")
    page.get_by_label("Purpose").fill("login")
    page.get_by_label("Code length").fill("4")

    expect(page.locator(".preview")).to_contain_text("500 in a million")
    expect(page.locator(".preview-warning").first).to_contain_text("above 20 in a million")
    page.get_by_label("WebOTP host").fill("app.example.com")
    expect(page.locator(".preview-texts li", has_text="@app.example.com #0000")).to_have_count(7)
    keep(screen, "profile-add")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("it must be accepted here, or made longer.")).to_be_visible()
    keep(screen, "profile-risk")
    page.get_by_label("Code length").fill("8")
    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.get_by_text("was added successfully")).to_be_visible()
    assert Profile.objects.get().code_length == 8
    keep(screen, "profiles")


def test_template_is_measured_while_it_is_typed(screen):
    page = screen.page
    screen.open("messaging/template/add/")
    page.get_by_label("Text").fill("Hello {name}, your transfer has arrived.")
    expect(page.locator(".preview")).to_contain_text("GSM-7")
    page.get_by_label("Text").fill(
        "Привіт, {name}! Ваш переказ надійшов, отримайте його в будь-якому відділенні банку."
    )

    expect(page.locator(".preview")).to_contain_text("UCS-2")
    expect(page.locator(".preview dd", has_text="2")).not_to_have_count(0)
    keep(screen, "template-size")


def test_figures(screen):
    busy_month()

    screen.open("verification/challenge/figures/")
    expect(screen.page.locator("canvas.chart")).to_have_count(3)
    screen.page.wait_for_timeout(1200)  # the charts grow
    keep(screen, "verification-figures")
    screen.page.get_by_role("link", name="30 days").click()
    expect(screen.page.locator("[aria-current]")).to_have_text("30 days")
    screen.page.wait_for_timeout(1200)
    keep(screen, "verification-figures-30d")


def test_figures_of_an_empty_installation(screen):
    screen.open("verification/challenge/figures/")

    expect(screen.page.get_by_text("Nothing was started and closed in the last 24 hours.")).to_be_visible()
    keep(screen, "verification-figures-empty")


def resent_challenge():
    """The first message did not arrive, the second one is on its way; one wrong guess."""
    begun = datetime.now(UTC) - timedelta(minutes=2)
    client = ClientFactory(slug="core-backend")
    for n in range(4):
        challenge_row(
            client, begun - timedelta(minutes=9 * n + 5), to=f"+4851234567{n}", country="PL", status="verified"
        )
    challenge = challenge_row(client, begun, to="+380671234567", country="UA", status="pending")
    for seq, (slug, status) in enumerate((("carrier-a", "undelivered"), ("carrier-b", "accepted")), start=1):
        moment = begun + timedelta(seconds=35 * (seq - 1))
        sent = {"client": client, "message_class": "otp", "status": "sent" if seq == 2 else "undelivered"}
        message = MessageFactory(**sent, created_at=moment, text="{code} is your code.")
        CodeMessage.objects.create(message=message, challenge=challenge, seq=seq)
        attempt = AttemptFactory(
            message=message,
            provider=ProviderFactory(slug=slug),
            seq=1,
            status=AttemptStatus(status),
            price=Decimal("0.041"),
            cost=Decimal("0.041"),
            currency="EUR",
            started_at=moment + timedelta(milliseconds=30),
            finished_at=moment + timedelta(milliseconds=90),
        )
        if status == "undelivered":
            Receipt.objects.create(
                provider=attempt.provider,
                attempt=attempt,
                dedupe_key=b"1",
                status=status,
                provider_status="UNDELIV",
                received_at=moment + timedelta(seconds=9),
                applied_at=moment + timedelta(seconds=9),
                apply_at=moment,
            )
    return challenge


def challenge_row(client, moment, *, status, **fields):
    verified = status == "verified"
    found = Challenge.objects.create(
        **fields,
        id=uuid7(),
        reference=get_random_string(22),
        client=client,
        purpose="payment",
        locale="uk",
        status=status,
        context={"amount": "250.00", "currency": "EUR", "payee": "Payee of 20 letters."},
        ip="203.0.113.77",
        kid=1,
        code_length=8,
        checks=1,
        max_checks=5,
        sends=1 if verified else 2,
        max_sends=5,
        created_at=moment,
        expires_at=moment + timedelta(minutes=10),
        resend_at=moment + timedelta(seconds=90),
        verified_at=moment + timedelta(seconds=21) if verified else None,
        closed_at=moment + timedelta(seconds=21) if verified else None,
    )
    if verified:
        event = {"subject": found.reference, "sequence": 1, "client": client, "data": {}}
        Event.objects.create(id=uuid7(), type="verification.verified", created_at=found.closed_at, **event)
    return found


def busy_month():
    """Thirty days of hours, as conversions.count writes them."""
    found = random.Random(1)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    client = ClientFactory(slug="core-backend")
    carriers = [ProviderFactory(slug=f"carrier-{letter}") for letter in "abc"]
    places = (("UA", 120, 0.86), ("PL", 80, 0.92), ("GB", 40, 0.89), ("DE", 30, 0.9), ("NG", 25, 0.41), ("TR", 9, 0.8))
    hours, qualities = [], []
    for hour in (now - timedelta(hours=n) for n in range(24 * 30)):
        day = 0.2 + 0.8 * (7 <= hour.hour <= 21)
        for country, most, rate in places:
            starts = int(most * day * found.uniform(0.7, 1))
            superseded, verified = starts // 15, int(starts * rate * 0.93)
            locked = starts // 40
            hours.append(
                Hour(
                    **{"hour": hour, "client": client, "country": country, "purpose": "login", "unpriced": 0},
                    starts=starts,
                    sends=starts + starts // 8,
                    delivered=max(verified, int(starts * (rate + 0.05))),
                    verified=verified,
                    expired=starts - superseded - verified - locked,
                    locked=locked,
                    cancelled=0,
                    superseded=superseded,
                    cost=Decimal(starts) * Decimal("0.045"),
                    times=[verified * share // 100 for share in (3, 17, 28, 20, 14, 8, 4, 3, 1, 1, 1, 0, 0)],
                )
            )
            for carrier, share, good in zip(carriers, (0.7, 0.2, 0.1), (1, 0.96, 0.8), strict=True):
                attempts = int(starts * share)
                counts = {"delivered": int(attempts * rate * good), "unattributed": attempts // 12}
                converted = int((attempts - attempts // 12) * rate * good * 0.95)
                where = {"hour": hour, "message_class": "otp", "provider": carrier, "country": country}
                qualities.append(Quality(**where, attempts=attempts, converted=converted, **counts))
    Hour.objects.bulk_create(hours)
    Quality.objects.bulk_create(qualities)
