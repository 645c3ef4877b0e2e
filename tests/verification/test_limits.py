"""Limits: exact however many ask at once, honest about when they begin anew, and undone with what they refused."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.db.models import F

from messaging.models import Client, Message
from providers.sql import rows
from tests.factories import ProviderFactory
from tests.verification.phone import NUMBER, URL, check, start, wrong_for
from tests.verification.traffic import LAX, WIDE, at_once, attempt, number
from verification import limits, maintenance
from verification.drafts import LONGEST_DEVICE
from verification.fraud_models import Block
from verification.limits import DAY, Limit
from verification.models import Bucket, Challenge, Refused

pytestmark = pytest.mark.django_db(transaction=True)
SIX_WAYS = [
    "+380671234567",
    "+380 67 123 45 67",
    "+380-67-123-45-67",
    "+380 (67) 123.45.67",
    "+38067 1234567",
    "+380.67.123.4567",
]


@pytest.fixture(autouse=True)
def wide(transactional_db, settings):
    """One limit at a time."""
    settings.VERIFY_LIMITS = dict(WIDE)
    settings.VERIFY_RULES = dict(LAX)
    return ProviderFactory(price="0.04")


def passed_of_300(caller, fields_of):
    return at_once(lambda n: attempt(caller, **fields_of(n)), range(300))


@pytest.mark.parametrize(
    ("limit", "fields_of"),
    [
        ("number_hour", lambda n: {"to": NUMBER, "purpose": f"purpose_{n % 4}"}),
        ("number_day", lambda n: {"to": NUMBER}),
        ("prefix_hour", lambda n: {"to": number(n)}),
        ("ip_hour", lambda n: {"to": number(n), "client_ip": f"192.0.2.{n % 250}"}),
        ("ip_day", lambda n: {"to": number(n), "client_ip": f"2001:db8:0:1::{n:x}"}),
        ("ip_hour", lambda n: {"to": number(n), "device_id": "one"}),
    ],
)
def test_of_300_parallel_starts_exactly_the_limit_passes(caller, client_row, settings, limit, fields_of):
    settings.VERIFY_LIMITS[limit] = 10
    client_row.profiles.bulk_create(
        [client_row.profiles.model(client=client_row, purpose=f"purpose_{n}") for n in range(4)]
    )

    found = passed_of_300(caller, fields_of)

    assert found == {"": 10, "limit_reached": 290}
    assert Message.objects.count() == 10
    assert Challenge.objects.count() == 10
    assert Refused.objects.count() == 290


def test_one_number_written_six_ways_shares_one_bucket(caller, settings):
    settings.VERIFY_LIMITS["number_hour"] = 3

    assert [attempt(caller, to) for to in SIX_WAYS] == [""] * 3 + ["limit_reached"] * 3
    assert list(Bucket.objects.filter(kind="number").values_list("value", flat=True).distinct()) == [NUMBER]


def test_500_starts_in_one_prefix_stop_within_50_while_others_go_on(caller, settings):
    settings.VERIFY_LIMITS["prefix_hour"] = 30

    pumped = at_once(lambda n: attempt(caller, number(n)), range(500))
    others = [attempt(caller, number(7, prefix=f"+38067{n:03d}")) for n in range(200, 210)]

    assert pumped == {"": 30, "limit_reached": 470}
    assert others == [""] * 10


def test_refused_start_leaves_no_count(caller, settings):
    settings.VERIFY_LIMITS |= {"number_hour": 1, "prefix_hour": 5}
    attempt(caller, NUMBER)

    assert [attempt(caller, NUMBER, client_ip="192.0.2.1") for _ in range(9)] == ["limit_reached"] * 9
    assert {kind: int(n) for kind, n in Bucket.objects.values_list("kind", "n")} == {"number": 1, "prefix": 1}
    assert [attempt(caller, number(n)) for n in range(5)] == [""] * 4 + ["limit_reached"]


def test_retry_after_is_true(api, settings, monkeypatch):
    settings.VERIFY_LIMITS["number_hour"] = 1
    monkeypatch.setattr(limits, "HOUR", 3)
    start(api)

    refused = api.post(URL, {"to": NUMBER, "purpose": "signup"}, format="json")
    wait = int(refused["Retry-After"])
    time.sleep(wait - 1.5)
    early = api.post(URL, {"to": NUMBER, "purpose": "signup"}, format="json")
    time.sleep(1.5)
    late = api.post(URL, {"to": NUMBER, "purpose": "signup"}, format="json")

    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
    assert wait in (2, 3)
    assert [early.status_code, late.status_code] == [429, 201]


def test_retry_after_tells_the_limit_that_lasts_longest(api, settings):
    settings.VERIFY_LIMITS |= {"number_hour": 1, "number_day": 1}
    start(api)

    answer = api.post(URL, {"to": NUMBER, "purpose": "login"}, format="json")

    assert 86_390 <= int(answer["Retry-After"]) <= 86_400


def test_answer_tells_the_kind_and_nothing_of_the_others(api, caller, settings):
    settings.VERIFY_LIMITS["number_hour"] = 1
    assert attempt(caller, NUMBER) == ""

    body = api.post(URL, {"to": NUMBER, "purpose": "login"}, format="json").json()

    assert body["detail"] == "The limit by number is used up."
    assert set(body) == {"type", "title", "status", "code", "detail", "retry_after"}


def test_devices_of_two_clients_are_two(caller, client_row, settings):
    settings.VERIFY_LIMITS["ip_hour"] = 1

    ours, theirs = limits.of_start("a", NUMBER, "", "one"), limits.of_start("b", NUMBER, "", "one")

    assert ours[-1].value != theirs[-1].value


def test_longest_device_of_the_longest_slug_is_counted_and_can_be_blocked(api, client_row):
    client_row.slug = "a" * Client._meta.get_field("slug").max_length
    client_row.save()
    device = "d" * LONGEST_DEVICE

    assert api.post(URL, {"to": NUMBER, "purpose": "login", "device_id": device}, format="json").status_code == 201
    assert Bucket.objects.filter(kind="device", value=f"{client_row.slug} {device}").count() == 2
    Block(kind="device", value=f"{client_row.slug} {device}", client=client_row, reason="farm").full_clean(
        exclude=["created_by", "lifted_at", "lifted_by"]
    )


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
    ],
)
def test_network_of_an_address(ip, network):
    assert limits.network(ip) == network


def test_counter_begins_anew_after_its_time():
    limit = Limit("test", "x", 60, 2)
    assert limits.take([limit, Limit("test", "y", 60, 2)]) == []
    assert limits.take([limit]) == []
    assert [full.limit for full in limits.take([limit])] == [limit]

    Bucket.objects.filter(value="x").update(until=F("until") - timedelta(seconds=61))

    assert limits.take([limit]) == []
    assert Bucket.objects.get(value="x").n == 1


def test_limit_smaller_than_the_request_is_full_though_nothing_was_counted():
    (full,) = limits.take([Limit("test", "x", 60, Decimal("0.03"), Decimal("0.04"))])

    assert full.seconds == 60


def test_lowered_limit_holds_at_once():
    for _ in range(5):
        limits.take([Limit("test", "x", 60, 10)])

    assert limits.take([Limit("test", "x", 60, 5)]) != []


def test_daily_window_ends_at_midnight_utc():
    limits.take([Limit("test", "x", DAY, 5, daily=True)])

    until = Bucket.objects.get().until
    tomorrow = (datetime.now(UTC) + timedelta(seconds=2) + timedelta(days=1)).date()
    assert (until.hour, until.minute, until.second, until.microsecond) == (0, 0, 0, 0)
    assert until.date() in (tomorrow, (datetime.now(UTC) - timedelta(seconds=2) + timedelta(days=1)).date())


def test_neighbours_that_take_the_same_limits_in_any_order_never_deadlock():
    names = [Limit("test", value, 60, 1000) for value in "abcd"]

    def take(n):
        with transaction.atomic():
            return len(limits.take(names[n % 4 :] + names[: n % 4]))

    assert at_once(take, range(200)) == {0: 200}
    assert set(Bucket.objects.values_list("n", flat=True)) == {200}


def test_failed_checks_of_all_challenges_of_a_number_stop_its_starts(api, settings):
    settings.VERIFY_LIMITS["failed_hour"] = 6
    for _ in range(2):
        reference = start(api)
        wrong = wrong_for(reference)
        for _ in range(3):
            check(api, reference, wrong)

    answer = api.post(URL, {"to": NUMBER, "purpose": "login"}, format="json")

    assert (answer.status_code, answer.json()["code"]) == (429, "limit_reached")
    assert answer.json()["detail"] == "The limit by failed is used up."
    assert api.post(URL, {"to": NUMBER, "purpose": "signup"}, format="json").status_code == 201


def test_counters_whose_time_is_over_are_purged():
    limits.take([Limit("test", "old", 60, 5), Limit("test", "new", 60, 5)])
    rows("UPDATE verification_bucket SET until = clock_timestamp() - interval '1 second' WHERE value = 'old'")

    maintenance.purge()

    assert list(Bucket.objects.values_list("value", flat=True)) == ["new"]
