"""A message that one provider took goes on to the next: in silence, or when it is told that it does not arrive."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction

from messaging import cancellation, receipts, sweeper, tally, tasks
from messaging.errors import AlreadyLeft
from messaging.models import Attempt, Event, Message, Suppression
from messaging.states import AttemptStatus, Status
from providers import health
from providers.models import Provider, ProviderHealth
from providers.outcomes import ReceiptStatus, Rejected, Scope, Unavailable
from providers.types import ParsedReceipt
from routing.snapshot import tables
from tests.conftest import caller_for
from tests.factories import AttemptFactory, MessageFactory, ProviderFactory
from tests.messaging.door import store_receipts
from tests.messaging.stages import accepted, claim, claim_one, now, only_message, settle
from tests.messaging.truth import assert_tally_is_exact

pytestmark = pytest.mark.django_db

DELIVERED, UNDELIVERED, EXPIRED = ReceiptStatus.DELIVERED, ReceiptStatus.UNDELIVERED, ReceiptStatus.EXPIRED


@pytest.fixture
def cheap(db):
    return ProviderFactory(slug="cheap", price="0.04")


@pytest.fixture
def dear(db):
    return ProviderFactory(slug="dear", price="0.05")


def sent(**fields):
    """A message with a code that its provider has just taken."""
    message = MessageFactory(message_class="otp", **{"failover_after": 20, **fields})
    tally.recount()  # the factory does not count
    settle(claim_one("otp"), accepted())
    return message


def grow_old(seconds=21):
    past = now() - timedelta(seconds=seconds)
    Message.objects.update(sent_at=past)
    Attempt.objects.filter(status="accepted").update(finished_at=past)


def hear(status, provider="cheap", **fields):
    attempt = Attempt.objects.get(provider__slug=provider)
    store_receipts(
        attempt.provider_id, [ParsedReceipt(status, status, our_reference=attempt.our_reference.hex, **fields)]
    )
    return receipts.apply_due()


def attempts():
    found = Attempt.objects.order_by("seq").values_list("provider__slug", "status")
    return [(slug, str(status)) for slug, status in found]


class TestSilence:
    def test_message_goes_on_to_the_next_provider_and_is_marked(self, cheap, dear):
        sent()
        grow_old()

        lanes = sweeper.sweep()
        offer = claim_one("otp")
        settle(offer, accepted("their-2"))

        assert "otp" in lanes
        assert attempts() == [("cheap", "superseded"), ("dear", "accepted")]
        assert (only_message().status, only_message().possible_duplicate) == (Status.SENT, True)
        assert [event.data["possible_duplicate"] for event in Event.objects.order_by("sequence")] == [False, True]
        assert_tally_is_exact()

    def test_not_before_its_time(self, cheap, dear):
        sent()
        grow_old(18)

        sweeper.sweep()

        assert (only_message().status, attempts()) == (Status.SENT, [("cheap", "accepted")])

    def test_second_provider_has_the_same_time(self, cheap, dear):
        ProviderFactory(slug="dearest", price="0.06")
        sent()
        grow_old()
        sweeper.sweep()
        settle(claim_one("otp"), accepted("their-2"))

        sweeper.sweep()

        assert attempts() == [("cheap", "superseded"), ("dear", "accepted")]

    def test_only_messages_that_want_it(self, cheap, dear):
        sent(failover_after=None)
        grow_old(3600)

        sweeper.sweep()

        assert only_message().status == Status.SENT

    def test_stored_receipt_that_is_not_applied_yet_is_a_word(self, cheap, dear):
        sent()
        grow_old()
        reference = Attempt.objects.get().our_reference.hex
        store_receipts(cheap.id, [ParsedReceipt(DELIVERED, "delivered", our_reference=reference)])

        sweeper.sweep()

        assert attempts() == [("cheap", "accepted")]

    def test_late_receipt_of_the_first_delivers(self, cheap, dear):
        sent()
        grow_old()
        sweeper.sweep()
        settle(claim_one("otp"), accepted("their-2"))

        hear(DELIVERED)

        assert (only_message().status, attempts()[0]) == (Status.DELIVERED, ("cheap", "superseded"))

    def test_allowance_is_that_of_providers_which_took_it(self, cheap, settings):
        settings.MAX_ATTEMPTS = 3
        for number in range(4):
            ProviderFactory(slug=f"other-{number}", price="0.05")
        sent()

        for _ in range(5):
            grow_old()
            sweeper.sweep()
            for offer in claim("otp"):
                settle(offer, accepted(f"their-{offer.route.slug}"))

        assert [status for _, status in attempts()] == ["superseded", "superseded", "accepted"]
        assert (only_message().status, only_message().failover_after) == (Status.SENT, None)

    def test_never_past_its_validity(self, cheap, dear):
        sent()
        grow_old()
        Message.objects.update(expires_at=now())

        sweeper.sweep()

        assert (only_message().status, only_message().failover_after) == (Status.SENT, None)
        assert attempts() == [("cheap", "accepted")]

    def test_without_another_provider_it_stays_sent_and_is_looked_at_again(self, cheap):
        sent()
        grow_old()

        sweeper.sweep()

        assert (only_message().status, only_message().failover_after) == (Status.SENT, 40)
        assert not only_message().possible_duplicate

    def test_provider_whose_breaker_is_open_is_no_other(self, cheap, dear):
        sent()
        grow_old()
        ProviderHealth.objects.create(provider=dear, country="", state="open", probe_at=now() + timedelta(minutes=1))
        health.forget()

        sweeper.sweep()

        assert attempts() == [("cheap", "accepted")]

    def test_those_nobody_else_can_take_do_not_stand_before_the_others(self, cheap, dear, monkeypatch):
        monkeypatch.setattr(sweeper, "GROUP", 1)
        sent(tried=[dear.id])
        sent()
        grow_old()

        sweeper.sweep()

        assert list(Message.objects.order_by("id").values_list("status", flat=True)) == ["sent", "queued"]


class TestUndelivered:
    @pytest.mark.parametrize("word", [UNDELIVERED, EXPIRED])
    def test_message_goes_on_unmarked(self, cheap, dear, word):
        sent()

        _, lanes = hear(word, error_code="30003")
        settle(claim_one("otp"), accepted("their-2"))

        assert lanes == {"otp"}
        assert attempts() == [("cheap", word), ("dear", "accepted")]
        assert (only_message().status, only_message().possible_duplicate) == (Status.SENT, False)
        assert_tally_is_exact()

    def test_its_lane_is_woken(self, cheap, dear, monkeypatch):
        hinted: list[str] = []
        monkeypatch.setattr("messaging.tasks.hint", hinted.append)
        sent()
        reference = Attempt.objects.get().our_reference.hex
        store_receipts(cheap.id, [ParsedReceipt(UNDELIVERED, "no", our_reference=reference)])

        tasks.apply_receipts()

        assert hinted == ["otp"]

    def test_receipt_that_came_before_the_answer_too(self, cheap, dear):
        MessageFactory(message_class="otp", failover_after=20)
        offer = claim_one("otp")
        store_receipts(cheap.id, [ParsedReceipt(UNDELIVERED, "no", our_reference=offer.our_reference.hex)])

        settle(offer, accepted())

        assert claim_one("otp").route.slug == "dear"

    def test_delivered_in_the_same_group_wins(self, cheap, dear):
        sent()
        reference = Attempt.objects.get().our_reference.hex
        words = [ParsedReceipt(word, word, our_reference=reference) for word in (UNDELIVERED, DELIVERED)]
        store_receipts(cheap.id, words)

        receipts.apply_due()

        assert only_message().status == Status.DELIVERED

    @pytest.mark.parametrize(
        ("fields", "most"),
        [({"failover_after": None}, 3), ({"expires_at": 0}, 3), ({}, 1), ({"tried": "dear"}, 3)],
        ids=["not wanted", "validity over", "allowance used up", "nobody left"],
    )
    def test_otherwise_it_ends_undelivered(self, cheap, dear, settings, fields, most):
        sent()
        if "expires_at" in fields:
            fields = {"expires_at": now()}
        if "tried" in fields:
            fields = {"tried": [dear.id]}
        Message.objects.update(**{"spent": 0, **fields})
        settings.MAX_ATTEMPTS = most

        hear(UNDELIVERED, error_code="30003")

        assert (only_message().status, only_message().error_code) == (Status.UNDELIVERED, "30003")
        assert claim("otp") == []

    def test_person_who_has_opted_out_is_not_written_to_again(self, cheap, dear):
        sent()

        hear(UNDELIVERED, opted_out=True)

        assert only_message().status == Status.UNDELIVERED


class TestHonestEnd:
    """Queued again, and nobody takes it: failed, expired and cancelled would say that it never left."""

    @pytest.fixture
    def silent(self, cheap, dear):
        """Nothing was heard of it from `cheap`; now it waits for `dear`."""
        message = sent()
        grow_old()
        sweeper.sweep()
        assert only_message().status == Status.QUEUED
        return message

    @pytest.fixture
    def refused(self, cheap, dear):
        """`cheap` could not bring it; now it waits for `dear`."""
        message = sent()
        hear(UNDELIVERED)
        assert only_message().status == Status.QUEUED
        return message

    def ends(self, status):
        assert only_message().status == status
        assert claim("otp") == []
        hear(DELIVERED)
        assert only_message().status == Status.DELIVERED
        assert_tally_is_exact()

    def bar_all(self):
        Message.objects.update(barred=list(Provider.objects.values_list("id", flat=True)))
        claim("otp")

    def opt_out(self):
        Suppression.objects.create(msisdn=only_message().to, reason="opted_out")
        claim("otp")

    def dead_number(self):
        settle(claim_one("otp"), Rejected(Scope.NUMBER, "invalid_number"))

    def run_out(self):
        Message.objects.update(expires_at=now())
        claim("otp")

    def run_out_unclaimed(self):
        Message.objects.update(expires_at=now())
        sweeper.sweep()

    def use_up(self):
        Message.objects.update(spent=99)
        claim("otp")

    ENDS = ["bar_all", "opt_out", "dead_number", "run_out", "run_out_unclaimed", "use_up"]

    @pytest.mark.parametrize("end", ENDS)
    def test_in_silence_it_goes_back_to_sent(self, silent, end):
        getattr(self, end)()

        self.ends(Status.SENT)

    @pytest.mark.parametrize("end", ENDS)
    def test_told_undelivered_it_ends_undelivered(self, refused, end):
        getattr(self, end)()

        self.ends(Status.UNDELIVERED)

    def test_back_in_sent_it_is_left_in_peace(self, silent):
        self.use_up()
        grow_old(3600)

        sweeper.sweep()

        assert (only_message().status, only_message().failover_after) == (Status.SENT, None)

    def test_silence_then_a_late_word_that_it_will_not_arrive(self, silent):
        hear(UNDELIVERED)

        self.use_up()

        assert only_message().status == Status.UNDELIVERED

    def test_second_provider_that_is_down_is_tried_until_the_validity_ends(self, silent):
        settle(claim_one("otp"), Unavailable("connection_refused"))
        claim("otp")

        self.run_out_unclaimed()

        self.ends(Status.SENT)

    @pytest.mark.parametrize("again", ["silent", "refused"])
    def test_it_cannot_be_cancelled(self, request, again):
        message = request.getfixturevalue(again)

        with pytest.raises(AlreadyLeft):
            cancellation.cancel(caller_for(message.client), message.id)

        assert only_message().status == Status.QUEUED

    def test_superseded_in_doubt_it_is_held(self, cheap):
        message = MessageFactory(message_class="otp", possible_duplicate=True, expires_at=now())
        AttemptFactory(message=message, provider=cheap, status=AttemptStatus.SUPERSEDED, seq=1)

        sweeper.sweep()

        assert only_message().status == Status.HELD

    def test_one_that_nobody_has_taken_ends_as_ever(self, cheap):
        message = MessageFactory(message_class="otp", expires_at=now())
        AttemptFactory(message=message, provider=cheap, status=AttemptStatus.NOT_SENT, seq=1)

        sweeper.sweep()

        assert only_message().status == Status.EXPIRED


def test_provider_that_is_switched_off_is_no_other(cheap, dear):
    sent()
    grow_old()
    Provider.objects.filter(slug="dear").update(enabled=False)
    tables.forget()

    sweeper.sweep()

    assert attempts() == [("cheap", "accepted")]


@pytest.mark.django_db(transaction=True)
def test_message_that_a_receipt_is_about_to_move_is_left_to_it(cheap, dear):
    """The receipt names the provider's own reference: the sweeper cannot see it coming."""
    sent()
    grow_old()
    store_receipts(cheap.id, [ParsedReceipt(DELIVERED, "delivered", provider_reference="their-1")])
    applied, swept = threading.Event(), threading.Event()

    def apply():
        with transaction.atomic():
            receipts.apply_due()
            applied.set()
            swept.wait(3)
        connection.close()

    thread = threading.Thread(target=apply)
    thread.start()
    applied.wait(3)
    started = time.monotonic()
    lanes = sweeper.unheard()
    took = time.monotonic() - started
    swept.set()
    thread.join()

    assert (lanes, took < 1) == (set(), True)
    assert (attempts(), only_message().status) == ([("cheap", "delivered")], Status.DELIVERED)
    assert not only_message().possible_duplicate


def test_delivery_of_an_earlier_attempt_outweighs_another_refusal_in_its_group(cheap, dear):
    ProviderFactory(slug="dearest", price="0.06")
    sent()
    hear(UNDELIVERED)
    settle(claim_one("otp"), accepted("their-2"))
    for provider, word in ((cheap, DELIVERED), (dear, UNDELIVERED)):
        reference = Attempt.objects.get(provider=provider).our_reference.hex
        store_receipts(provider.id, [ParsedReceipt(word, word, our_reference=reference)])

    receipts.apply_due()

    assert only_message().status == Status.DELIVERED
