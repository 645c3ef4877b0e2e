"""Claim and intent: what is taken, by whom, in what order, and what is put off."""

import itertools
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction

from messaging import delivery, sweeper
from messaging.models import Attempt, Event, Message, Suppression
from messaging.states import AttemptStatus, Status
from providers.models import ProviderThroughput
from providers.sql import rows
from tests.factories import AttemptFactory, ClientFactory, MessageFactory, ProviderFactory
from tests.messaging.stages import claim, claim_one, now, only_attempt, only_message

pytestmark = pytest.mark.django_db


@pytest.fixture
def cheap(db):
    return ProviderFactory(slug="cheap", price="0.04")


@pytest.fixture
def dear(db):
    return ProviderFactory(slug="dear", price="0.09")


def test_intent_is_written_before_anything_is_offered(cheap, settings):
    message = MessageFactory()

    offer = claim_one()

    attempt = only_attempt()
    assert (attempt.status, attempt.provider, attempt.seq) == (AttemptStatus.INTENT, cheap, 1)
    assert attempt.our_reference == offer.our_reference
    stored = only_message()
    assert stored.status == Status.SENDING
    lease = stored.lease_until - now()
    assert timedelta(seconds=settings.LEASE - 2) < lease < timedelta(seconds=settings.LEASE + 2)
    assert offer.message_id == message.id


def test_cheapest_provider_is_chosen_and_the_decision_is_stored(cheap, dear):
    MessageFactory()

    claim_one()

    assert only_message().decision == [
        {"provider": "cheap", "total": "0.04", "currency": "EUR", "by": "country UA", "chosen": "cheapest"},
        {"provider": "dear", "total": "0.09", "currency": "EUR", "by": "country UA"},
    ]
    assert (only_attempt().price, only_attempt().cost) == (Decimal("0.04"), None)


def test_claim_takes_no_more_than_the_free_slots(cheap):
    MessageFactory.create_batch(5)

    offers, due = delivery.claim("transactional", 3)

    assert (len(offers), due) == (3, 3)
    assert Message.objects.filter(status=Status.QUEUED).count() == 2


def test_longest_waiting_goes_first(cheap):
    young = MessageFactory(not_before=now() - timedelta(seconds=1))
    old = MessageFactory(not_before=now() - timedelta(seconds=60))

    first = delivery.claim("transactional", 1)[0][0]

    assert first.message_id == old.id
    assert Message.objects.get(status=Status.QUEUED) == young


def test_lane_takes_only_its_own_class(cheap):
    MessageFactory(message_class="bulk")

    assert claim("otp") == []
    assert claim("transactional") == []
    assert len(claim("bulk")) == 1


def test_what_is_not_due_stays(cheap):
    MessageFactory(not_before=now() + timedelta(seconds=30))

    assert claim() == []
    assert only_message().status == Status.QUEUED


def test_message_past_its_validity_is_expired_and_never_sent(cheap):
    MessageFactory(expires_at=now() - timedelta(seconds=1))

    assert claim() == []
    assert only_message().status == Status.EXPIRED
    assert Event.objects.get().type == "message.expired"
    assert not Attempt.objects.exists()


def test_gate_closes_no_later_than_the_validity_ends(cheap, settings):
    MessageFactory(expires_at=now() + timedelta(seconds=1))
    settings.GATE = 3

    offer = claim_one()

    assert offer.call.gate < delivery.boottime() + 1.1


@pytest.mark.parametrize(("own", "expected"), [(None, Status.FAILED), (True, Status.FAILED), (False, Status.SENDING)])
def test_number_that_opted_out_while_its_message_waited_is_not_written_to(cheap, own, expected):
    message = MessageFactory()
    client = {None: None, True: message.client, False: ClientFactory()}[own]
    Suppression.objects.create(msisdn=message.to, client=client, reason="opted_out")

    claim()

    assert only_message().status == expected
    assert only_message().error_code == ("suppressed" if expected == Status.FAILED else "")


def test_allowance_used_up_fails_the_message(cheap, settings):
    MessageFactory(spent=settings.MAX_ATTEMPTS)

    assert claim() == []
    assert (only_message().status, only_message().error_code) == (Status.FAILED, "attempts_exhausted")


def test_refused_for_good_by_all_fails_the_message(cheap, dear):
    MessageFactory(barred=[cheap.pk, dear.pk])

    assert claim() == []
    assert (only_message().status, only_message().error_code) == (Status.FAILED, "no_route_left")


def test_every_provider_tried_in_vain_starts_a_new_round_later(cheap, dear):
    MessageFactory(tried=[cheap.pk, dear.pk])

    assert claim() == []
    stored = only_message()
    assert (stored.status, stored.tried, stored.rounds) == (Status.QUEUED, [], 1)
    assert now() < stored.not_before < now() + timedelta(seconds=3)


def test_barred_provider_is_not_tried_in_a_new_round(cheap, dear):
    MessageFactory(barred=[cheap.pk])

    claim_one()

    assert only_attempt().provider == dear


def test_without_any_usable_provider_the_message_waits(cheap):
    cheap.enabled = False
    cheap.save()
    MessageFactory()

    assert claim() == []
    stored = only_message()
    assert stored.status == Status.QUEUED
    assert stored.not_before > now() + timedelta(seconds=10)
    assert stored.decision == [{"provider": "cheap", "reason": "disabled"}]


class TestRate:
    """Rule (e): no token left means later, or a dearer provider when that would take too long."""

    def test_no_more_leave_than_the_rate_allows(self, cheap):
        cheap.rate = 50
        cheap.save()
        MessageFactory.create_batch(40, client=ClientFactory())

        offers = claim()

        # A tenth of a second's worth may leave at once, and the one that is due.
        assert len(offers) == 6
        waiting = Message.objects.filter(status=Status.QUEUED).order_by("not_before")
        assert waiting.count() == 34
        gaps = [b.not_before - a.not_before for a, b in itertools.pairwise(waiting)]
        assert all(timedelta(milliseconds=15) < gap < timedelta(milliseconds=25) for gap in gaps)

    def test_fleet_shares_one_rate(self, cheap):
        cheap.rate = 50
        cheap.save()
        MessageFactory.create_batch(20, client=ClientFactory())

        first = delivery.claim("transactional", 10)[0]
        second = delivery.claim("transactional", 10)[0]

        assert len(first) == 6
        assert len(second) <= 1

    def test_otp_overflows_to_a_dearer_provider_when_it_would_wait_too_long(self, cheap, dear):
        cheap.rate = 1
        cheap.save()
        MessageFactory.create_batch(2, client=ClientFactory(), message_class="otp")

        claim("otp")

        assert {attempt.provider.slug for attempt in Attempt.objects.all()} == {"cheap", "dear"}

    def test_bulk_never_overflows(self, cheap, dear):
        cheap.rate = 1
        cheap.save()
        MessageFactory.create_batch(3, client=ClientFactory(), message_class="bulk")

        claim("bulk")

        assert {attempt.provider.slug for attempt in Attempt.objects.all()} == {"cheap"}
        assert Message.objects.filter(status=Status.QUEUED).count() == 2

    def test_transactional_waits_a_short_time_for_the_cheap_one(self, cheap, dear):
        cheap.rate = 1
        cheap.save()
        MessageFactory.create_batch(2, client=ClientFactory())

        claim()

        assert [attempt.provider.slug for attempt in Attempt.objects.all()] == ["cheap"]

    def test_paused_provider_gets_nothing_until_the_pause_is_over(self, cheap):
        ProviderThroughput.objects.create(provider=cheap, paused_until=now() + timedelta(seconds=4))
        MessageFactory()

        assert claim() == []
        assert now() + timedelta(seconds=3) < only_message().not_before < now() + timedelta(seconds=6)


def test_database_refuses_a_second_open_attempt(cheap):
    attempt = AttemptFactory(provider=cheap, seq=1)

    with pytest.raises(IntegrityError, match="one_open_attempt"), transaction.atomic():
        AttemptFactory(message=attempt.message, provider=cheap, seq=2, status=AttemptStatus.UNKNOWN)


def test_database_refuses_a_second_success(cheap):
    attempt = AttemptFactory(provider=cheap, seq=1, status=AttemptStatus.ACCEPTED)

    with pytest.raises(IntegrityError, match="one_success"), transaction.atomic():
        AttemptFactory(message=attempt.message, provider=cheap, seq=2, status=AttemptStatus.DELIVERED)


@pytest.mark.django_db(transaction=True)
def test_parallel_workers_never_claim_the_same_message():
    ProviderFactory(price="0.04")
    MessageFactory.create_batch(120, client=ClientFactory())
    taken: list = []

    def worker():
        while offers := claim(limit=7):
            taken.extend(offer.message_id for offer in offers)
        connection.close()

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == len(set(taken)) == 120
    assert Attempt.objects.count() == 120


@pytest.mark.parametrize(
    ("statement", "column", "index"),
    [
        (delivery._DUE, "not_before", "message_due"),
        ("SELECT id FROM messaging_message WHERE " + sweeper.EXPIRED, "expires_at", "message_expiry"),  # noqa: S608
        ("SELECT id FROM messaging_message WHERE " + sweeper.SCHEDULED, "not_before", "message_scheduled"),  # noqa: S608
    ],
)
def test_what_is_due_is_found_by_its_index_however_much_waits(statement, column, index):
    with transaction.atomic():
        rows("SET LOCAL enable_seqscan = off")
        # Of a table that is all but empty, one index is as good as another.
        for other in {"message_due", "message_expiry", "message_scheduled"} - {index}:
            rows(f"DROP INDEX {other}")
        plan = rows(f"EXPLAIN {statement}", {"lane": "otp", "limit": 10})
        transaction.set_rollback(True)

    conditions = [line for (line,) in plan if "Index Cond" in line]
    assert any(f"{column} <= statement_timestamp()" in line for line in conditions), plan
