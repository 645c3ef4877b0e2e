"""Receipts: late, repeated, disordered, for superseded attempts, and for nobody we know."""

import itertools
from datetime import timedelta
from decimal import Decimal

import pytest

from messaging import receipts
from messaging.models import Attempt, Event, Message, Receipt, Suppression
from messaging.states import AttemptStatus, Status
from providers.outcomes import ReceiptStatus
from providers.types import ParsedReceipt
from tests.factories import AttemptFactory, MessageFactory, ProviderFactory
from tests.messaging.door import store_receipts
from tests.messaging.stages import now, only_attempt, only_message

pytestmark = pytest.mark.django_db

SENT, DELIVERED = ReceiptStatus.SENT, ReceiptStatus.DELIVERED
UNDELIVERED, EXPIRED, UNKNOWN = ReceiptStatus.UNDELIVERED, ReceiptStatus.EXPIRED, ReceiptStatus.UNKNOWN


@pytest.fixture
def provider(db):
    return ProviderFactory(slug="cheap", price="0.04")


@pytest.fixture
def sent(provider):
    """A message that the provider accepted."""
    message = MessageFactory(status=Status.SENT)
    return AttemptFactory(
        message=message, provider=provider, status=AttemptStatus.ACCEPTED, provider_reference="their-1", seq=1
    )


def hear(attempt, status, word="", **fields):
    fields.setdefault("our_reference", attempt.our_reference.hex)
    store_receipts(attempt.provider_id, [ParsedReceipt(status, word or status, **fields)])
    receipts.apply_due()


def test_delivered_receipt_delivers(sent):
    hear(sent, DELIVERED)

    assert (only_attempt().status, only_message().status) == (AttemptStatus.DELIVERED, Status.DELIVERED)
    assert only_message().closed_at is not None
    assert Event.objects.get().type == "message.delivered"


def test_negative_receipt_closes_with_its_reason(sent):
    hear(sent, UNDELIVERED, error_code="30003")

    assert (only_message().status, only_message().error_code) == (Status.UNDELIVERED, "30003")
    assert only_attempt().error_code == "30003"


def test_expired_receipt_expires(sent):
    hear(sent, EXPIRED)

    assert (only_attempt().status, only_message().status) == (AttemptStatus.EXPIRED, Status.EXPIRED)


def test_provider_reference_finds_the_attempt_where_ours_is_missing(sent):
    hear(sent, DELIVERED, our_reference="", provider_reference="their-1")

    assert only_message().status == Status.DELIVERED


def test_repeated_receipt_is_stored_once(sent):
    for _ in range(3):
        hear(sent, DELIVERED)

    assert Receipt.objects.count() == 1
    assert Event.objects.count() == 1


@pytest.mark.parametrize("order", list(itertools.permutations([UNKNOWN, SENT, DELIVERED, UNDELIVERED])))
def test_every_order_ends_delivered(sent, order):
    for status in order:
        hear(sent, status)

    assert only_message().status == Status.DELIVERED
    assert only_attempt().receipt_status == DELIVERED


def test_all_orders_in_one_group_end_delivered(sent):
    parsed = [ParsedReceipt(s, s, our_reference=sent.our_reference.hex) for s in (UNDELIVERED, DELIVERED, SENT)]
    store_receipts(sent.provider_id, parsed)

    receipts.apply_due()

    assert only_message().status == Status.DELIVERED


def test_nothing_leaves_delivered(sent):
    hear(sent, DELIVERED)
    hear(sent, UNDELIVERED)

    assert only_message().status == Status.DELIVERED


@pytest.mark.parametrize("status", [Status.UNKNOWN, Status.HELD])
@pytest.mark.parametrize(
    ("word", "expected"),
    [(SENT, Status.SENT), (DELIVERED, Status.DELIVERED), (UNDELIVERED, Status.UNDELIVERED)],
)
def test_any_receipt_settles_a_doubt(provider, status, word, expected):
    attempt = AttemptFactory(
        message=MessageFactory(status=status), provider=provider, status=AttemptStatus.UNKNOWN, seq=1, resolve_at=now()
    )

    hear(attempt, word)

    assert only_message().status == expected
    assert only_attempt().resolve_at is None


@pytest.mark.parametrize("status", [Status.QUEUED, Status.FAILED, Status.EXPIRED, Status.UNDELIVERED, Status.SENT])
def test_delivered_receipt_of_a_superseded_attempt_lifts_the_message(provider, status):
    message = MessageFactory(status=status)
    attempt = AttemptFactory(message=message, provider=provider, status=AttemptStatus.SUPERSEDED, seq=1)

    hear(attempt, DELIVERED)

    assert only_message().status == Status.DELIVERED
    assert (only_attempt().status, only_attempt().receipt_status) == (AttemptStatus.SUPERSEDED, DELIVERED)


def test_negative_receipt_of_a_superseded_attempt_changes_nothing_but_the_attempt(provider):
    message = MessageFactory(status=Status.QUEUED)
    attempt = AttemptFactory(message=message, provider=provider, status=AttemptStatus.SUPERSEDED, seq=1)

    hear(attempt, UNDELIVERED)

    assert only_message().status == Status.QUEUED
    assert only_attempt().receipt_status == UNDELIVERED


@pytest.mark.parametrize(
    ("word", "status", "admitted"),
    [
        (SENT, Status.QUEUED, True),
        (DELIVERED, Status.SENT, True),
        (DELIVERED, Status.QUEUED, False),
        (UNDELIVERED, Status.SENT, False),
    ],
)
def test_receipt_of_an_attempt_proved_not_sent_admits_the_duplicate(provider, word, status, admitted):
    message = MessageFactory(status=status)
    attempt = AttemptFactory(message=message, provider=provider, status=AttemptStatus.NOT_SENT, seq=1)

    hear(attempt, word)

    assert only_message().possible_duplicate == admitted


def test_cancelled_message_stays_cancelled(provider):
    attempt = AttemptFactory(
        message=MessageFactory(status=Status.CANCELLED), provider=provider, status=AttemptStatus.SUPERSEDED, seq=1
    )

    hear(attempt, DELIVERED)

    assert only_message().status == Status.CANCELLED


def test_delivery_of_an_older_attempt_waits_while_another_is_open(provider):
    message = MessageFactory(status=Status.SENDING, lease_until=now() + timedelta(seconds=30))
    old = AttemptFactory(message=message, provider=provider, status=AttemptStatus.SUPERSEDED, seq=1)
    AttemptFactory(message=message, provider=provider, status=AttemptStatus.INTENT, seq=2)

    hear(old, DELIVERED)

    assert Message.objects.get().status == Status.SENDING
    assert Receipt.objects.get().applied_at is None


def test_receipt_nobody_knows_is_looked_for_again(provider):
    store_receipts(provider.pk, [ParsedReceipt(DELIVERED, "delivered", our_reference="ab" * 16)])

    receipts.apply_due()

    row = Receipt.objects.get()
    assert (row.applied_at, row.tries) == (None, 1)
    assert now() + timedelta(seconds=5) < row.apply_at < now() + timedelta(seconds=15)


def test_receipt_nobody_knows_is_given_up_after_three_days(provider):
    store_receipts(provider.pk, [ParsedReceipt(DELIVERED, "delivered", our_reference="ab" * 16)])
    Receipt.objects.update(received_at=now() - timedelta(hours=73))

    receipts.apply_due()

    assert Receipt.objects.get().applied_at is not None


def test_one_provider_cannot_report_on_anothers_attempt(sent):
    other = ProviderFactory(slug="other")
    store_receipts(other.pk, [ParsedReceipt(DELIVERED, "delivered", our_reference=sent.our_reference.hex)])

    receipts.apply_due()

    assert only_message().status == Status.SENT


def test_cost_without_a_currency_keeps_that_of_our_book(sent):
    Attempt.objects.update(currency="EUR")

    hear(sent, DELIVERED, price=Decimal("0.07"))

    assert (only_attempt().cost, only_attempt().currency) == (Decimal("0.07"), "EUR")


def test_cost_and_opt_out_are_taken_over(sent):
    hear(sent, UNDELIVERED, opted_out=True, price="0.0333", currency="USD", segments=3)

    attempt = Attempt.objects.get()
    assert (str(attempt.cost), attempt.currency, attempt.segments) == ("0.033300", "USD", 3)
    assert Suppression.objects.get().msisdn == sent.message.to
