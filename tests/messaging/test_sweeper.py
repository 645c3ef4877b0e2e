"""The sweeper moves what time has moved, and never sends."""

from datetime import timedelta

import pytest

from messaging import sweeper
from messaging.models import Attempt, Event, IdempotencyKey, Message
from messaging.states import AttemptStatus, Status
from tests.factories import AttemptFactory, ClientFactory, MessageFactory, ProviderFactory
from tests.messaging.stages import claim_one, now, only_attempt, only_message

pytestmark = pytest.mark.django_db


def test_lease_that_ran_out_makes_the_message_unknown():
    ProviderFactory(price="0.04")
    MessageFactory()
    claim_one()
    Message.objects.update(lease_until=now() - timedelta(seconds=60))

    lanes = sweeper.sweep()

    assert "events" in lanes
    assert (only_message().status, only_attempt().status) == (Status.UNKNOWN, AttemptStatus.UNKNOWN)
    assert only_attempt().error_code == "worker_lost"
    assert only_attempt().resolve_at is not None
    assert Event.objects.get().type == "message.unknown"


def test_lease_that_has_just_ended_is_left_to_its_worker(settings):
    settings.LEASE_GRACE = 10
    ProviderFactory(price="0.04")
    MessageFactory()
    claim_one()
    Message.objects.update(lease_until=now() - timedelta(seconds=2))

    sweeper.sweep()

    assert only_message().status == Status.SENDING


def test_scheduled_message_is_queued_when_its_time_has_come():
    MessageFactory(status=Status.SCHEDULED, not_before=now() - timedelta(seconds=1))
    later = MessageFactory(status=Status.SCHEDULED, not_before=now() + timedelta(seconds=60))

    lanes = sweeper.sweep()

    assert "transactional" in lanes
    assert Message.objects.get(status=Status.SCHEDULED) == later


@pytest.mark.parametrize("status", [Status.QUEUED, Status.SCHEDULED])
def test_what_has_not_left_in_time_expires(status):
    MessageFactory(status=status, expires_at=now() - timedelta(seconds=1))

    sweeper.sweep()

    assert (only_message().status, only_message().error_code) == (Status.EXPIRED, "validity_over")


@pytest.mark.parametrize("status", [Status.HELD, Status.UNKNOWN, Status.SENT])
def test_what_may_have_left_does_not_expire(status):
    MessageFactory(status=status, expires_at=now() - timedelta(seconds=1))

    sweeper.sweep()

    assert only_message().status == status


def test_sent_without_a_receipt_for_three_days_is_marked():
    MessageFactory(status=Status.SENT, sent_at=now() - timedelta(hours=73))
    MessageFactory(status=Status.SENT, sent_at=now() - timedelta(hours=71))

    sweeper.sweep()

    assert Message.objects.filter(receipt_overdue=True, status=Status.SENT).count() == 1


def test_answers_are_forgotten_after_their_time():
    client = ClientFactory()
    IdempotencyKey.objects.create(client=client, key="old", fingerprint=b"", expires_at=now() - timedelta(seconds=1))
    IdempotencyKey.objects.create(client=client, key="new", fingerprint=b"", expires_at=now() + timedelta(days=1))

    sweeper.sweep()

    assert IdempotencyKey.objects.get().key == "new"


def test_more_than_one_group_is_moved_in_one_round():
    MessageFactory.create_batch(sweeper.GROUP + 5, client=ClientFactory(), expires_at=now() - timedelta(seconds=1))

    sweeper.sweep()

    assert not Message.objects.exclude(status=Status.EXPIRED).exists()


def test_more_than_one_group_of_answers_is_forgotten_in_one_round():
    client, past = ClientFactory(), now() - timedelta(seconds=1)
    old = [
        IdempotencyKey(client=client, key=str(number), fingerprint=b"", expires_at=past)
        for number in range(2 * sweeper.GROUP)
    ]
    IdempotencyKey.objects.bulk_create(old)

    sweeper.sweep()

    assert not IdempotencyKey.objects.exists()


def test_a_round_ends_in_time_however_much_there_is(monkeypatch):
    monkeypatch.setattr(sweeper, "STEP", 0.0)
    expired = [MessageFactory.build(client=ClientFactory(), expires_at=now() - timedelta(seconds=1)) for _ in range(3)]
    Message.objects.bulk_create(expired)
    monkeypatch.setattr(sweeper, "GROUP", 1)
    client = ClientFactory()
    IdempotencyKey.objects.bulk_create(
        IdempotencyKey(client=client, key=str(n), expires_at=now() - timedelta(seconds=1)) for n in range(3)
    )

    sweeper.sweep()

    assert Message.objects.filter(status=Status.EXPIRED).count() == 1
    assert IdempotencyKey.objects.count() == 2


def test_lane_with_due_work_is_named_though_its_hint_was_lost():
    MessageFactory(message_class="otp")
    AttemptFactory(
        message=MessageFactory(status=Status.UNKNOWN),
        status=AttemptStatus.UNKNOWN,
        resolve_at=now() - timedelta(seconds=1),
    )

    assert sweeper.waiting() == {"otp", "events"}


def test_it_never_offers_anything(settings):
    ProviderFactory(price="0.04")
    MessageFactory()

    sweeper.sweep()

    assert not Attempt.objects.exists()


def test_periodic_work_runs_when_due_and_a_failure_stops_nobody(settings, caplog):
    settings.PERIODIC = [(f"{__name__}.broken", 60), (f"{__name__}.counted", 0.0), (f"{__name__}.rare", 60)]
    ran.clear()
    periodic = sweeper.Periodic()

    periodic.run()
    periodic.run()

    assert ran == ["counted", "rare", "counted"]
    assert "broken" in caplog.text


ran: list[str] = []


def broken():
    raise RuntimeError


def counted():
    ran.append("counted")


def rare():
    ran.append("rare")
