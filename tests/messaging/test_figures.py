"""The figures of the dashboard: what they say, and that they never look at the messages themselves."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from messaging import figures, intake, tally
from messaging.admin import dashboard
from messaging.figures import Costs
from messaging.models import TallyDelta
from messaging.states import Status
from providers.models import ProviderHealth
from providers.outcomes import Accepted, ReceiptStatus, Rejected, Scope
from providers.sql import rows
from routing.models import ExchangeRate
from tests.factories import MessageFactory, ProviderFactory
from tests.messaging.stages import claim, claim_one, now, settle
from tests.messaging.test_tally import hear

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

NOON = datetime(2026, 5, 4, 12, 7, tzinfo=UTC)


@pytest.fixture
def provider(db):
    return ProviderFactory(slug="cheap", price="0.04")


def accept(caller, count=1, **fields):
    intake.accept_many(caller, [{"to": f"+38067{n:07d}", "text": "News", **fields} for n in range(count)])


def count(slot, **fields):
    empty = {"kind": "message", "message_class": "otp", "provider_id": 0, "origin": "", "target": "queued", "n": 1}
    rest = {"bucket": tally.UNTIMED, "currency": "", "seconds": 0, "cost": 0}
    TallyDelta.objects.create(slot=slot, **{**empty, **rest, **fields})


def spend(slot, cost, currency="EUR"):
    count(slot, kind="attempt", message_class="", provider_id=1, target="accepted", currency=currency, cost=cost)


class TestSpans:
    def test_what_happened_is_told_by_class_and_by_provider(self, caller, provider):
        accept(caller, 4)
        first, second, third = claim(limit=3)
        for offer in (first, second):
            settle(offer, Accepted(str(offer.attempt_id)))
        settle(third, Rejected(Scope.NUMBER, "dead"))
        hear(first, ReceiptStatus.DELIVERED)
        hear(second, ReceiptStatus.UNDELIVERED)

        lanes, providers = figures.spans(now())

        hour = lanes["transactional"].hour
        assert (hour.accepted, hour.sent, hour.delivered, hour.undelivered) == (4, 2, 1, 1)
        assert (providers[provider.pk].day.sent, providers[provider.pk].day.delivery_rate) == (2, 0.5)

    def test_hour_and_day_end_where_they_say(self):
        for minutes in (5, 59, 70, 300, 24 * 60 + 30):
            count(figures._slot(NOON - timedelta(minutes=minutes)))

        lanes, _ = figures.spans(NOON)

        assert (lanes["otp"].hour.accepted, lanes["otp"].day.accepted) == (2, 4)

    def test_what_expired_in_the_queue_is_not_the_providers_doing(self):
        count(NOON, origin="queued", target="expired")
        count(NOON, origin="sent", target="expired")

        lanes, _ = figures.spans(NOON)

        assert lanes["otp"].hour.undelivered == 1

    def test_without_a_receipt_there_is_no_rate(self):
        lanes, providers = figures.spans(NOON)

        assert lanes["otp"].day.delivery_rate is None
        assert providers == {}


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({}, 0.5, None),
        ({tally.UNTIMED: 5}, 0.5, None),
        ({0: 10}, 0.5, 0.005),
        ({6: 10}, 0.5, 0.75),  # between 0.5 s and 1 s
        ({2: 90, 6: 10}, 0.95, 0.75),
        ({2: 90, 6: 10}, 0.5, 0.025 + 0.025 * 50 / 90),
        ({len(tally.BOUNDS): 1}, 0.5, float("inf")),
    ],
)
def test_percentile(buckets, share, expected):
    found = figures.percentile(Counter(buckets), share)

    assert found == (expected if expected is None else pytest.approx(expected))


def test_hours_are_the_last_24_with_their_outcomes():
    count(NOON, n=3)
    count(NOON, origin="sent", target="delivered", n=2)
    count(NOON - timedelta(hours=23), origin="queued", target="failed")
    count(NOON - timedelta(hours=24), n=7)

    found = figures.hours(NOON)

    assert len(found) == 24
    assert (found[-1][0], found[-1][1], found[-1][2][Status.DELIVERED]) == (NOON.replace(minute=0), 3, 2)
    assert found[0][2][Status.FAILED] == 1
    assert sum(accepted for _, accepted, _ in found) == 3


class TestCosts:
    def test_today_is_compared_with_yesterday_by_the_same_time(self):
        midnight = NOON.replace(hour=0, minute=0)
        for slot, cost in (
            (midnight, "1.5"),
            (NOON, "0.5"),
            (midnight - timedelta(hours=24), "3"),
            (midnight - timedelta(hours=11, minutes=45), "9"),  # yesterday, a quarter of an hour later than now
            (midnight - timedelta(hours=24, minutes=15), "100"),
        ):
            spend(slot, cost)

        assert figures.costs(NOON) == {"EUR": Costs(Decimal(2), Decimal(3), Decimal(12))}

    def test_currencies_are_added_up_at_the_rate_of_the_day(self, settings):
        settings.REPORTING_CURRENCY = "EUR"
        ExchangeRate.objects.create(currency="USD", rate=Decimal(2), valid_from=NOON - timedelta(days=2))
        spend(NOON, "10")
        spend(NOON, "8", "USD")

        together = figures.in_reporting(figures.costs(NOON), NOON)

        assert together is not None
        assert together.today == 14

    def test_without_a_rate_nothing_is_added_up(self):
        spend(NOON, "8", "USD")

        assert figures.in_reporting(figures.costs(NOON), NOON) is None


class TestPage:
    @pytest.mark.parametrize(
        ("permissions", "titles"),
        [
            (["view_message"], ["By class", "Messages now", "Messages per hour"]),
            (["view_provider"], ["Providers"]),
            (["view_attempt"], ["Cost"]),
            (["view_pricelist"], []),
        ],
    )
    def test_each_sees_what_he_may(self, client, caller, provider, permissions, titles):
        accept(caller)
        settle(claim_one(), Accepted("their-1"))
        user = User.objects.create_user("helper", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)

        found = client.get("/admin/").content.decode()

        every = ["By class", "Messages now", "Messages per hour", "Cost (days"]
        assert [title for title in every if title in found] == [t for t in every if t.startswith(tuple(titles or "?"))]
        assert ('<th scope="col">Breaker' in found) == ("view_provider" in permissions)
        assert "Delivery rate, 1 h" not in found  # of providers: for who may see both

    def test_empty_installation_has_a_page(self, boss):
        found = boss.get("/admin/").content.decode()

        assert "Nothing in the last 24 hours." in found

    def test_breaker_is_named_with_its_countries(self, boss, provider):
        ProviderHealth.objects.create(provider=provider, country="UA", state="open")

        assert "open in UA" in boss.get("/admin/").content.decode()

    def test_it_costs_the_same_however_many_messages_there_are(self, boss, caller, provider):
        boss.get("/admin/")
        with CaptureQueriesContext(connection) as empty:
            boss.get("/admin/")
        accept(caller, 60)
        for offer in claim():
            settle(offer, Accepted(str(offer.attempt_id)))

        with CaptureQueriesContext(connection) as full:
            boss.get("/admin/")

        assert len(full) == len(empty)

    def test_no_statement_scans_messages_or_attempts(self, boss, provider, monkeypatch):
        """Those of the page itself are bounded in `test_admin`; these run through `rows`."""
        client = MessageFactory(status=Status.DELIVERED).client
        MessageFactory.create_batch(5, client=client, status=Status.QUEUED)
        seen = []

        def spy(statement, params=None, **options):
            seen.append((statement, params))
            return rows(statement, params, **options)

        monkeypatch.setattr(figures, "rows", spy)
        monkeypatch.setattr(tally, "rows", spy)
        boss.get("/admin/")

        assert len(seen) >= 5
        for statement, params in seen:
            rows("SET LOCAL enable_seqscan = off")
            plan = "\n".join(line for (line,) in rows(f"EXPLAIN {statement}", params))
            assert "Seq Scan on messaging_message" not in plan
            assert "Seq Scan on messaging_tally " not in plan
            assert "messaging_attempt" not in plan


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (0.0042, "4.2 ms"),
        (0.25, "250 ms"),
        (2.2, "2.2 s"),
        (95.0, "95 s"),
        (600.0, "10 min"),
        (10_000.0, "2.8 h"),
        (400_000.0, "5 days"),
        (float("inf"), "> 12 h"),
    ],
)
def test_duration_in_words(seconds, expected):
    assert dashboard.duration(seconds) == expected
