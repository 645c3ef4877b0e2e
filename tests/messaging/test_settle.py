"""Settle: the one table of outcomes, and who may write."""

import threading
from datetime import timedelta

import pytest
from django.db import connection

from messaging import delivery, receipts, sweeper
from messaging.delivery import Outcomes
from messaging.models import Attempt, Event, Message, Receipt, Suppression
from messaging.states import AttemptStatus, Status
from providers import health
from providers.models import ProviderHealth, ProviderThroughput
from providers.outcomes import (
    Accepted,
    Ambiguous,
    GateRefused,
    ReceiptStatus,
    Rejected,
    Scope,
    Throttled,
    Unavailable,
)
from providers.transport import OWN_FAULTS
from providers.types import ParsedReceipt
from tests.factories import ClientFactory, MessageFactory, ProviderFactory
from tests.messaging.door import store_receipts
from tests.messaging.stages import accepted, claim, claim_one, now, only_attempt, only_message, settle

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider(db):
    return ProviderFactory(slug="cheap", price="0.04")


TABLE = [
    (Accepted("their-1"), AttemptStatus.ACCEPTED, Status.SENT),
    (Rejected(Scope.NUMBER, "dead"), AttemptStatus.REJECTED, Status.FAILED),
    (Rejected(Scope.ROUTE, "no_sender"), AttemptStatus.REJECTED, Status.QUEUED),
    (Rejected(Scope.ACCOUNT, "balance"), AttemptStatus.REJECTED, Status.QUEUED),
    (Throttled("slow_down", 3.0), AttemptStatus.NOT_SENT, Status.QUEUED),
    (Unavailable("connection_refused"), AttemptStatus.NOT_SENT, Status.QUEUED),
    (GateRefused(), AttemptStatus.NOT_SENT, Status.QUEUED),
    (Ambiguous("read_timeout"), AttemptStatus.UNKNOWN, Status.UNKNOWN),
]


@pytest.mark.parametrize(
    ("outcome", "attempt_status", "status"), TABLE, ids=lambda v: getattr(v, "code", None) or str(v)
)
def test_outcome_moves_attempt_and_message(provider, outcome, attempt_status, status):
    MessageFactory()
    offer = claim_one()

    settle(offer, outcome)

    assert (only_attempt().status, only_message().status) == (attempt_status, status)
    assert only_message().lease_until is None


def test_accepted_keeps_what_the_provider_said(provider):
    MessageFactory()

    settle(claim_one(), Accepted("their-7", price="0.0710", currency="USD", segments=2))

    attempt = only_attempt()
    assert (attempt.provider_reference, str(attempt.cost), attempt.currency) == ("their-7", "0.071000", "USD")
    assert attempt.segments == 2
    assert only_message().sent_at is not None
    assert Event.objects.get().data["provider"] == "cheap"


@pytest.mark.parametrize(
    ("outcome", "cost"),
    [(accepted(), "0.120000"), (Unavailable("refused"), "None"), (Rejected(Scope.ROUTE, "no"), "None")],
    ids=["accepted", "unavailable", "rejected"],
)
def test_only_what_was_taken_costs(provider, outcome, cost):
    MessageFactory(segments=3)

    settle(claim_one(), outcome)

    assert str(only_attempt().cost) == cost


def test_refused_route_is_barred_and_spends_the_allowance(provider):
    MessageFactory()

    settle(claim_one(), Rejected(Scope.ROUTE, "no_sender"))

    assert (only_message().barred, only_message().tried, only_message().spent) == ([provider.pk], [], 1)


def test_unavailable_provider_is_left_for_this_round_only(provider):
    MessageFactory()

    settle(claim_one(), Unavailable("connection_refused"))

    assert (only_message().barred, only_message().tried, only_message().spent) == ([], [provider.pk], 0)
    assert only_message().not_before <= now()


def test_gate_refusal_is_nobodys_fault(provider):
    """Rule (b): queued again at once, no health row, none of the allowance, the provider stays a candidate."""
    MessageFactory()

    settle(claim_one(), GateRefused())

    message = only_message()
    assert (message.tried, message.barred, message.spent) == ([], [], 0)
    assert message.not_before <= now()
    assert not ProviderHealth.objects.exists()
    assert claim_one().route.id == provider.pk


@pytest.mark.parametrize(
    ("outcome", "free"),
    [
        (GateRefused(), True),
        (Rejected(Scope.ROUTE, "no_sender"), True),
        (Rejected(Scope.NUMBER, "dead"), True),
        (Unavailable("out_of_resources"), True),
        (Throttled("slow_down", 30.0), False),
        (Unavailable("connection_refused"), False),
        (Ambiguous("read_timeout"), False),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_probe_that_proves_nothing_leaves_its_place_to_the_next(provider, outcome, free):
    ProviderHealth.objects.create(
        provider=provider, country="UA", state=ProviderHealth.State.OPEN, opened_at=now() - timedelta(seconds=60)
    )
    MessageFactory()
    probe = claim_one()
    health.forget()

    settle(probe, outcome, wide=True)

    assert probe.probe
    assert health.board(fresh=True).may_probe(provider.pk, "UA") == health.win_probe(provider.pk, "UA") == free


def test_what_was_no_probe_leaves_the_probe_alone(provider):
    MessageFactory()
    straggler = claim_one()
    ProviderHealth.objects.create(
        provider=provider,
        country="UA",
        state=ProviderHealth.State.HALF_OPEN,
        opened_at=now(),
        probe_at=now() + timedelta(seconds=60),
    )

    settle(straggler, GateRefused())

    assert not health.win_probe(provider.pk, "UA")


@pytest.mark.parametrize("code", sorted(OWN_FAULTS))
@pytest.mark.parametrize("kind", [Unavailable, Ambiguous])
def test_fault_of_our_own_does_not_count_against_the_provider(provider, kind, code):
    MessageFactory()

    settle(claim_one(), kind(code), wide=True)

    assert not ProviderHealth.objects.exists()


def test_throttled_lowers_the_rate_and_is_no_failure(provider):
    MessageFactory()

    settle(claim_one(), Throttled("slow_down", 3.0))

    row = ProviderThroughput.objects.get()
    assert now() + timedelta(seconds=1) < row.paused_until < now() + timedelta(seconds=4)
    assert not ProviderHealth.objects.exists()


@pytest.mark.parametrize(("message_class", "expected"), [("otp", ["dear"]), ("transactional", []), ("bulk", [])])
def test_class_decides_whether_to_wait_for_a_throttled_provider(provider, message_class, expected):
    ProviderFactory(slug="dear", price="0.90")
    MessageFactory(message_class=message_class)

    settle(claim_one(message_class), Throttled("slow_down", 3.0))

    assert [offer.route.slug for offer in claim(message_class)] == expected


def test_opted_out_number_is_suppressed(provider):
    message = MessageFactory()

    settle(claim_one(), Rejected(Scope.NUMBER, "opted_out", opted_out=True))

    assert Suppression.objects.get().msisdn == message.to


def test_ambiguous_is_told_and_never_claimed_again(provider):
    MessageFactory()

    settle(claim_one(), Ambiguous("read_timeout"))

    assert claim() == []
    assert Event.objects.get().type == "message.unknown"
    assert only_attempt().resolve_at is not None


class TestLostLease:
    """A worker whose attempt was declared lost cannot write, except for the evidence of its own acceptance."""

    @pytest.fixture
    def lost(self, provider):
        MessageFactory()
        offer = claim_one()
        Message.objects.update(lease_until=now() - timedelta(seconds=60))
        assert sweeper.lost_leases() == {"events"}
        assert (only_message().status, only_attempt().status) == (Status.UNKNOWN, AttemptStatus.UNKNOWN)
        return offer

    @pytest.mark.parametrize(
        "outcome",
        [
            Unavailable("refused"),
            Ambiguous("timeout"),
            Rejected(Scope.NUMBER, "dead"),
            Throttled("slow"),
            GateRefused(),
        ],
        ids=lambda outcome: type(outcome).__name__,
    )
    def test_late_outcome_writes_nothing(self, lost, outcome):
        before = Attempt.objects.values().get(), Message.objects.values().get()

        settle(lost, outcome)

        assert (Attempt.objects.values().get(), Message.objects.values().get()) == before

    def test_late_acceptance_is_evidence(self, lost):
        settle(lost, accepted("their-9"))

        assert (only_message().status, only_attempt().status) == (Status.SENT, AttemptStatus.ACCEPTED)
        assert only_attempt().provider_reference == "their-9"

    def test_late_acceptance_of_a_superseded_attempt_keeps_its_cost_and_admits_the_duplicate(self, lost):
        Attempt.objects.update(status=AttemptStatus.SUPERSEDED)
        Message.objects.update(status=Status.QUEUED)

        settle(lost, Accepted("their-9", price="0.05", currency="EUR"))

        assert only_attempt().status == AttemptStatus.SUPERSEDED
        assert only_attempt().provider_reference == "their-9"
        assert (only_message().status, only_message().possible_duplicate) == (Status.QUEUED, True)


class TestEarlyReceipt:
    """A receipt may come before our own commit of the acceptance."""

    def test_receipt_of_an_open_attempt_is_stored_not_applied(self, provider):
        MessageFactory()
        offer = claim_one()
        store_receipts(provider.pk, [_delivered(offer)])

        receipts.apply_due()

        assert (only_attempt().status, only_message().status) == (AttemptStatus.INTENT, Status.SENDING)
        assert Receipt.objects.get().applied_at is None

    def test_settle_applies_it(self, provider):
        MessageFactory()
        offer = claim_one()
        store_receipts(provider.pk, [_delivered(offer)])

        settle(offer, accepted())

        assert (only_attempt().status, only_message().status) == (AttemptStatus.DELIVERED, Status.DELIVERED)
        assert [event.type for event in Event.objects.order_by("sequence")] == ["message.sent", "message.delivered"]

    def test_early_receipt_of_another_provider_is_not_taken(self, provider):
        MessageFactory()
        offer = claim_one()
        store_receipts(ProviderFactory().pk, [_delivered(offer)])

        settle(offer, accepted())

        assert (only_attempt().status, only_message().status) == (AttemptStatus.ACCEPTED, Status.SENT)

    def test_receipt_proves_what_a_lost_answer_could_not(self, provider):
        MessageFactory()
        offer = claim_one()
        store_receipts(provider.pk, [_delivered(offer)])

        settle(offer, Ambiguous("read_timeout"))

        assert (only_attempt().status, only_message().status) == (AttemptStatus.DELIVERED, Status.DELIVERED)


def test_group_is_written_in_one_go(provider):
    MessageFactory.create_batch(30, client=ClientFactory())
    offers = claim()

    delivery.settle([Outcomes(offer, Accepted(f"their-{n}"), False) for n, offer in enumerate(offers)])

    assert Message.objects.filter(status=Status.SENT).count() == 30
    assert Attempt.objects.filter(status=AttemptStatus.ACCEPTED).values("provider_reference").distinct().count() == 30


@pytest.mark.django_db(transaction=True)
def test_settle_receipts_and_sweeper_never_deadlock():
    """Rule (c): every grouped transaction locks its messages first, in id order."""
    provider = ProviderFactory(slug="cheap", price="0.04")
    client = ClientFactory()
    errors: list[BaseException] = []

    def run(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    for _ in range(6):
        MessageFactory.create_batch(60, client=client)
        offers = claim()
        store_receipts(provider.pk, [_delivered(offer) for offer in offers])
        Message.objects.filter(status=Status.SENDING).update(lease_until=now() - timedelta(seconds=60))
        backwards = [Outcomes(offer, accepted(str(offer.attempt_id)), False) for offer in reversed(offers)]
        work = [
            lambda group=backwards: delivery.settle(group),
            receipts.apply_due,
            sweeper.lost_leases,
            receipts.apply_due,
        ]
        threads = [threading.Thread(target=run, args=(one,)) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    Receipt.objects.update(apply_at=now())
    receipts.apply_due()
    receipts.apply_due()

    assert errors == []
    assert not Message.objects.exclude(status=Status.DELIVERED).exists()


def _delivered(offer):
    return ParsedReceipt(ReceiptStatus.DELIVERED, "delivered", our_reference=offer.our_reference.hex)
