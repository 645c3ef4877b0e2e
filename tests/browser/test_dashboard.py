"""The home page with the figures of a busy day, of an empty installation, and of who may see little."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import expect

from messaging import tally
from messaging.models import Tally, TallyDelta
from providers.models import ProviderHealth
from routing.models import ExchangeRate
from tests.factories import MessageFactory, ProviderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_busy_day(screen):
    busy_day()

    screen.open("")

    expect(screen.page.locator("canvas.chart")).to_be_visible()
    row = screen.page.locator(".figures tr", has_text="carrier-b")
    expect(row).to_contain_text("open")
    screen.keep("dashboard")
    screen.page.set_viewport_size({"width": 420, "height": 900})
    assert screen.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    screen.picture("dashboard-420")


def test_empty_installation(screen):
    screen.open("")

    expect(screen.page.get_by_text("Nothing in the last 24 hours.")).to_be_visible()
    screen.keep("dashboard-empty")


def test_who_may_see_prices_alone_sees_no_figures(screen):
    busy_day()
    user = User.objects.create_user("pricing", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_pricelist"))
    screen.log_in(user)

    screen.open("")

    expect(screen.page.locator(".figures")).to_have_count(0)


def busy_day():
    """Two days of counts, as the stages write them."""
    found = random.Random(1)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    carriers = [ProviderFactory(slug=f"carrier-{letter}") for letter in "abc"]
    ExchangeRate.objects.create(currency="USD", rate=Decimal("1.1"), valid_from=now - timedelta(days=3))
    ProviderHealth.objects.create(provider=carriers[1], state="open", reason="read_timeout")
    ProviderHealth.objects.create(provider=carriers[0], country="UA", state="open", reason="read_timeout")
    MessageFactory(message_class="otp", not_before=now - timedelta(seconds=3))
    deltas: list[TallyDelta] = []
    for quarter in range(4 * 40):
        slot = now - timedelta(minutes=15 * quarter + now.minute % 15)
        for lane, most in (("otp", 400), ("transactional", 900), ("bulk", 3000)):
            day = 0.3 + 0.7 * (8 <= slot.hour <= 20)
            offered = 0
            for carrier, share in zip(carriers, (0.7, 0.1, 0.2), strict=True):
                offered += carry(deltas, slot, lane, carrier, int(most * day * share * found.uniform(0.7, 1.0)))
            count(deltas, slot, "message", lane, 0, "", "queued", offered + most // 50)
            count(deltas, slot, "message", lane, 0, "queued", "failed", most // 50)
        count(deltas, slot, "attempt", "", carriers[2].pk, "", "", 0, currency="USD", cost=str(found.randrange(5, 15)))
    TallyDelta.objects.bulk_create(deltas)
    tally.fold()
    assert Tally.objects.exists()


def carry(deltas, slot, lane, carrier, sent):
    submits = {bucket: int(sent * part) for bucket, part in ((3, 0.2), (4, 0.6), (5, 0.15), (7, 0.05))}
    for bucket, n in submits.items():
        count(deltas, slot, "message", lane, carrier.pk, "sending", "sent", n, bucket)
        count(deltas, slot, "attempt", "", carrier.pk, "intent", "accepted", n, bucket - 1, "EUR", "0.04")
    for bucket, part in ((7, 0.5), (8, 0.3), (10, 0.12)):
        count(deltas, slot, "message", lane, carrier.pk, "sent", "delivered", int(sent * part), bucket)
    count(deltas, slot, "message", lane, carrier.pk, "sent", "undelivered", int(sent * 0.04))
    count(deltas, slot, "message", lane, carrier.pk, "queued", "sending", sum(submits.values()))
    return sum(submits.values())


def count(deltas, slot, kind, lane, provider, origin, target, n, bucket=tally.UNTIMED, currency="", cost="0"):
    deltas.append(
        TallyDelta(
            slot=slot,
            kind=kind,
            message_class=lane,
            provider_id=provider,
            origin=origin,
            target=target,
            bucket=bucket,
            currency=currency,
            n=n,
            seconds=0,
            cost=Decimal(cost) * (n or 1),
        )
    )
