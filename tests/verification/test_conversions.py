"""Did the code come back? Who gets the credit, and that nothing is counted twice."""

import threading
import time
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from messaging.models import Attempt, Message
from messaging.states import AttemptStatus
from providers.models import Provider
from providers.sql import rows
from routing.models import ExchangeRate, Quality
from tests.factories import AttemptFactory, ProviderFactory
from tests.verification.phone import NUMBER, check, code_of, start, wrong_for
from verification import conversions, maintenance
from verification.models import Challenge, CodeAttempt, Hour, Profile
from verification.records import close
from verification.states import ChallengeStatus

pytestmark = pytest.mark.django_db(transaction=True)
A = AttemptStatus


@pytest.fixture(autouse=True)
def providers(db):
    return [ProviderFactory(slug=slug, price="0.04") for slug in ("carrier-a", "carrier-b", "carrier-c")]


def hand_over(reference, *statuses, costs=(), currency="EUR", generations=()):
    """One message that the providers were given one after the other, each with the outcome named."""
    message = Message.objects.filter(code__challenge__reference=reference).last()
    found = []
    for seq, (provider, status) in enumerate(zip(Provider.objects.order_by("slug"), statuses, strict=False), start=1):
        cost = Decimal(costs[seq - 1]) if costs else None
        kind = {"status": status, "cost": cost, "currency": currency if cost else ""}
        attempt = AttemptFactory(message=message, provider=provider, seq=seq, **kind)
        if generations:
            challenge = Challenge.objects.get(reference=reference)
            CodeAttempt.objects.create(attempt=attempt, challenge=challenge, generation=generations[seq - 1])
        found.append(attempt)
    return found


def settle_long_ago():
    closed = Challenge.objects.exclude(status="pending")
    assert closed.update(closed_at=Challenge.objects.first().created_at - timedelta(minutes=1))


def count():
    settle_long_ago()
    conversions.count()


def verdicts():
    """Slug -> attempts, delivered, converted, unattributed."""
    found = Quality.objects.values_list("provider__slug", "attempts", "delivered", "converted", "unattributed")
    return {slug: tuple(counts) for slug, *counts in found}


class TestAttribution:
    @pytest.mark.parametrize(
        ("statuses", "expected"),
        [
            ([A.DELIVERED], {"carrier-a": (1, 1, 1, 0)}),
            # The code came back: it has arrived, whatever the receipt says or does not say.
            ([A.ACCEPTED], {"carrier-a": (1, 1, 1, 0)}),
            ([A.UNDELIVERED], {"carrier-a": (1, 1, 1, 0)}),
            ([A.UNKNOWN], {"carrier-a": (1, 1, 1, 0)}),
            ([A.INTENT], {"carrier-a": (1, 1, 1, 0)}),
            ([A.REJECTED, A.DELIVERED], {"carrier-b": (1, 1, 1, 0)}),
            ([A.NOT_SENT, A.REJECTED, A.ACCEPTED], {"carrier-c": (1, 1, 1, 0)}),
            ([A.SUPERSEDED, A.ACCEPTED], {"carrier-a": (1, 0, 0, 1), "carrier-b": (1, 0, 0, 1)}),
            ([A.UNDELIVERED, A.DELIVERED], {"carrier-a": (1, 0, 0, 1), "carrier-b": (1, 1, 0, 1)}),
            ([A.EXPIRED, A.UNKNOWN], {"carrier-a": (1, 0, 0, 1), "carrier-b": (1, 0, 0, 1)}),
            ([A.REJECTED, A.NOT_SENT], {}),
            ([], {}),
        ],
    )
    def test_with_equal_codes_credit_needs_exactly_one_that_was_handed_over(self, api, statuses, expected):
        reference = start(api)
        hand_over(reference, *statuses)
        assert check(api, reference, code_of(reference)).json()["valid"]

        count()

        assert verdicts() == expected

    @pytest.mark.parametrize(
        ("generation", "expected"),
        [
            (1, {"carrier-a": (1, 1, 1, 0), "carrier-b": (1, 0, 0, 0), "carrier-c": (1, 0, 0, 0)}),
            (2, {"carrier-a": (1, 0, 0, 0), "carrier-b": (1, 1, 1, 0), "carrier-c": (1, 0, 0, 0)}),
        ],
    )
    def test_with_a_code_per_attempt_the_one_that_came_back_is_credited(self, api, client_row, generation, expected):
        Profile.objects.create(client=client_row, purpose="login", code_per_attempt=True)
        reference = start(api)
        hand_over(reference, A.SUPERSEDED, A.SUPERSEDED, A.ACCEPTED, generations=(1, 2, 3))
        Challenge.objects.update(generation=3)
        assert check(api, reference, code_of(reference, generation)).json()["valid"]

        count()

        assert verdicts() == expected

    def test_network_of_the_message_is_told_where_it_is_known(self, api):
        reference = start(api)
        hand_over(reference, A.ACCEPTED)
        Message.objects.update(mcc="255", mnc="01")
        check(api, reference, code_of(reference))

        count()

        assert Quality.objects.values_list("mcc", "mnc").get() == ("255", "01")

    @pytest.mark.parametrize("end", ["expired", "locked", "client", "newer_start"])
    def test_what_ends_without_success_has_not_converted(self, api, end):
        reference = start(api)
        hand_over(reference, A.DELIVERED, A.UNKNOWN)
        finish(api, reference, end)

        count()

        assert verdicts() == {"carrier-a": (1, 1, 0, 0), "carrier-b": (1, 0, 0, 0)}

    def test_what_staff_cancelled_tells_nothing_about_a_provider(self, api):
        reference = start(api)
        hand_over(reference, A.DELIVERED)
        with transaction.atomic():
            close("reference = %(r)s", {"r": reference}, ChallengeStatus.CANCELLED, "staff")

        count()

        assert verdicts() == {}
        assert Hour.objects.get().cancelled == 1

    def test_late_receipt_of_a_superseded_attempt_counts_as_delivered(self, api):
        reference = start(api)
        first, _ = hand_over(reference, A.SUPERSEDED, A.ACCEPTED)
        Attempt.objects.filter(pk=first.pk).update(receipt_status="delivered")
        check(api, reference, code_of(reference))

        count()

        assert verdicts() == {"carrier-a": (1, 1, 0, 1), "carrier-b": (1, 0, 0, 1)}


def finish(api, reference, end):
    if end == "expired":
        Challenge.objects.update(expires_at=Challenge.objects.get().created_at - timedelta(seconds=1))
        maintenance.expire()
    elif end == "locked":
        for _ in range(5):
            check(api, reference, wrong_for(reference))
    elif end == "client":
        assert api.post(f"/api/v1/verifications/{reference}/cancel").status_code == 200
    else:
        start(api)


class TestHours:
    def test_every_end_is_counted_once_under_the_hour_of_the_start(self, api, client_row):
        start(api)  # which the next one takes the place of
        verified = start(api)
        hand_over(verified, A.NOT_SENT, A.ACCEPTED, costs=("0", "0.05"))
        check(api, verified, code_of(verified))
        start(api, to="+48512345678")

        count()

        found = Hour.objects.get()
        assert (found.client, found.country, found.purpose) == (client_row, "UA", "login")
        assert (found.starts, found.sends, found.verified, found.superseded) == (2, 2, 1, 1)
        assert (found.delivered, found.expired, found.locked, found.cancelled) == (1, 0, 0, 0)
        assert (found.cost, found.times) == (Decimal("0.05"), [1] + [0] * 12)
        assert found.hour == verified_at().replace(minute=0, second=0, microsecond=0)

    def test_times_are_added_bucket_by_bucket(self, api):
        for seconds in (3, 12, 14, 700):
            reference = start(api)
            check(api, reference, code_of(reference))
            took = Challenge.objects.filter(reference=reference)
            took.update(created_at=hour(), verified_at=hour() + timedelta(seconds=seconds))
            count()

        assert Hour.objects.get().times == [1, 0, 2] + [0] * 9 + [1]

    def test_cost_is_in_the_reporting_currency_at_the_rate_of_its_day(self, api):
        moment = hour() - timedelta(days=9)
        ExchangeRate.objects.create(currency="USD", rate=Decimal("1.25"), valid_from=moment)
        for number, currency in ((1, "USD"), (2, "GBP")):
            reference = start(api, to=f"+38067123456{number}")
            hand_over(reference, A.ACCEPTED, costs=["0.10"], currency=currency)
            check(api, reference, code_of(reference))

        count()

        found = Hour.objects.get()
        assert (found.cost, found.unpriced) == (Decimal("0.08"), 1)

    def test_test_numbers_are_in_no_figure(self, api, settings):
        settings.VERIFY_TEST_NUMBERS = {NUMBER: "123456"}
        reference = start(api)
        check(api, reference, "123456")

        count()

        assert Challenge.objects.get().counted_at
        assert not Hour.objects.exists()

    def test_old_hours_are_forgotten(self, client_row, providers):
        for days in (399, 401):
            when = hour() - timedelta(days=days)
            key = {"hour": when, "country": "UA"}
            sums = dict.fromkeys((*conversions.SUMS, "cost"), 1)
            Hour.objects.create(**key, client=client_row, purpose="login", times=[0] * 13, **sums)
            counts = dict.fromkeys(("attempts", "delivered", "converted", "unattributed"), 1)
            Quality.objects.create(**key, message_class="otp", provider=providers[0], **counts)

        conversions.purge()

        assert Hour.objects.get().hour == Quality.objects.get().hour == hour() - timedelta(days=399)


def hour():
    return rows("SELECT date_trunc('hour', clock_timestamp())")[0][0]


def verified_at():
    return Challenge.objects.get(status="verified").verified_at


class TestOnce:
    def test_what_was_just_closed_waits_for_its_settles(self, api):
        reference = start(api)
        check(api, reference, code_of(reference))

        conversions.count()

        assert Challenge.objects.get().counted_at is None
        assert not Hour.objects.exists()

    def test_pending_challenge_is_not_counted(self, api):
        start(api)

        conversions.count()

        assert not Hour.objects.exists()

    def test_parallel_runs_count_each_challenge_once(self, api, monkeypatch):
        monkeypatch.setattr(conversions, "GROUP", 3)
        closed = 40
        many_closed(api, closed)
        settle_long_ago()

        in_parallel(8, conversions.count)

        sums = Hour.objects.aggregate(starts=Sum("starts"), verified=Sum("verified"))
        assert sums == {"starts": closed, "verified": closed}
        assert Quality.objects.aggregate(n=Sum("attempts"), c=Sum("converted")) == {"n": closed, "c": closed}
        assert not Challenge.objects.filter(counted_at=None).exists()

    def test_run_that_is_killed_has_counted_nothing(self, api):
        many_closed(api, 3)
        count()
        Challenge.objects.update(counted_at=None)
        killed = threading.Thread(target=lambda: in_parallel(1, conversions.count, fails=True))

        with transaction.atomic():
            list(Quality.objects.select_for_update())  # which it comes to last
            killed.start()
            kill_who_waits()
            killed.join()
        assert Hour.objects.aggregate(n=Sum("starts"))["n"] == 3
        conversions.count()

        assert Hour.objects.aggregate(n=Sum("starts"))["n"] == 6
        assert Quality.objects.aggregate(n=Sum("attempts"))["n"] == 6

    def test_due_ones_are_found_by_their_index(self, api):
        many_closed(api, 3)

        with transaction.atomic():
            # In a table of three rows every way costs the same: what is left must be the one.
            rows("DROP INDEX challenge_closed")
            rows("SET LOCAL enable_seqscan = off")
            plan = rows(f"EXPLAIN {conversions._CLOSED}", {"settled": 15.0, "group": 500})
            transaction.set_rollback(True)

        assert "challenge_uncounted" in str(plan)
        assert "Index Cond: (closed_at <" in str(plan)


def many_closed(api, number):
    """Verified challenges in two countries, each with one attempt by one of three providers, in no order."""
    carriers = list(Provider.objects.order_by("slug"))
    for n in range(number):
        to = f"+38067{n:07d}" if n % 2 else f"+4851{n:07d}"
        reference = start(api, to=to)
        message = Message.objects.get(code__challenge__reference=reference)
        AttemptFactory(message=message, provider=carriers[n % 3], seq=1, status=A.ACCEPTED)
        assert check(api, reference, code_of(reference)).json()["valid"]


def kill_who_waits():
    for _ in range(1000):
        if rows("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"):
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def in_parallel(number, work, *, fails=False):
    ready, errors = threading.Barrier(number), []

    def run():
        ready.wait()
        try:
            work()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bool(errors) is fails, errors
