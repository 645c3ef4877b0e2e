"""Unknown -> answer, per capability of the provider and per class of the message."""

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from messaging import reconcile, tasks
from messaging.models import Attempt, Event, Message
from messaging.states import AttemptStatus, Status
from providers.models import Provider
from providers.outcomes import Ambiguous
from routing.snapshot import tables
from tests.factories import AttemptFactory, ClientFactory, MessageFactory, ProviderFactory
from tests.messaging.stages import claim, claim_one, now, only_attempt, only_message, settle
from tests.messaging.wire import ACCEPTED

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _waits(settings):
    settings.RESOLVE_WAIT, settings.RECHECK_WAIT = 15, 10
    settings.RECEIPT_GRACE, settings.RECEIPT_GRACE_OTP = 60, 10


def doubt(provider, *, age=20.0, left=3600.0, message_class="transactional", **fields):
    """An attempt that may have gone out `age` seconds ago, due to be looked at."""
    started = now() - timedelta(seconds=age)
    message = MessageFactory(
        status=Status.UNKNOWN,
        attempt_count=1,
        message_class=message_class,
        expires_at=now() + timedelta(seconds=left),
    )
    return AttemptFactory(
        message=message,
        provider=provider,
        status=AttemptStatus.UNKNOWN,
        seq=1,
        started_at=started,
        resolve_at=now() - timedelta(seconds=1),
        **fields,
    )


def states():
    return only_attempt().status, only_message().status


class TestKey:
    """The provider honours our reference as a key: the same bytes may be posted again."""

    @pytest.fixture
    def provider(self, wire):
        return ProviderFactory(price="0.04", resolve="key", base_url=wire.url)

    def test_same_bytes_are_posted_again_and_the_answer_is_taken(self, provider, wire):
        wire.answer = lambda *request: None
        MessageFactory()
        offer = claim_one()
        first = offer.call.request
        settle(offer, Ambiguous("connection_lost"))
        Attempt.objects.update(resolve_at=now())
        wire.answer = lambda *request: ACCEPTED

        reconcile.run()

        ((method, path, headers, body),) = wire.requests
        assert (method, wire.url + path, body) == (first.method, first.url, first.body)
        assert headers["idempotency-key"] == offer.our_reference.hex
        assert states() == (AttemptStatus.ACCEPTED, Status.SENT)
        assert only_attempt().provider_reference == "their-1"
        assert not only_message().possible_duplicate

    @pytest.mark.parametrize("sender", ["", "FIRST"])
    def test_sender_that_staff_change_meanwhile_does_not_change_the_bytes(self, provider, wire, sender):
        Provider.objects.update(sender=sender)
        MessageFactory()
        offer = claim_one()
        settle(offer, Ambiguous("connection_lost"))
        Attempt.objects.update(resolve_at=now())
        Provider.objects.update(sender="SECOND")
        Message.objects.update(sender="THIRD")
        tables.forget()

        reconcile.run()

        ((*_, body),) = wire.requests
        assert body == offer.call.request.body
        assert json.loads(body)["sender"] == only_attempt().sender == sender

    def test_no_answer_again_is_asked_again_later(self, provider, wire):
        doubt(provider)
        wire.answer = lambda *request: None

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)
        assert only_attempt().resolve_at > now()
        assert only_attempt().resolve_lease_until < now()

    def test_refused_number_surely_did_not_go_out(self, provider, wire):
        doubt(provider)
        wire.answer = lambda *request: (422, {"error": {"code": "invalid_number", "message": "no such number"}})

        reconcile.run()

        assert states() == (AttemptStatus.NOT_SENT, Status.FAILED)
        assert only_message().error_code == "invalid_number"

    def test_refused_route_goes_to_the_next_provider(self, provider, wire):
        doubt(provider)
        wire.answer = lambda *request: (422, {"error": {"code": "sender_not_allowed", "message": "no"}})

        reconcile.run()

        assert states() == (AttemptStatus.NOT_SENT, Status.QUEUED)
        assert only_message().barred == [provider.pk]

    def test_undocumented_refusal_proves_nothing_about_the_first_post(self, provider, wire):
        doubt(provider)
        wire.answer = lambda *request: (422, {"error": {"code": "other_body", "message": "same key, other body"}})

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)

    def test_account_fault_proves_nothing_about_the_first_post(self, provider, wire):
        doubt(provider)
        wire.answer = lambda *request: (402, {"error": {"code": "out_of_balance", "message": "no credit"}})

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)

    def test_message_past_its_validity_is_not_posted_again_but_held(self, provider, wire):
        doubt(provider, age=120, left=-1)

        reconcile.run()

        assert wire.requests == []
        assert states() == (AttemptStatus.UNKNOWN, Status.HELD)

    def test_message_that_another_attempt_has_delivered_is_not_posted_again(self, provider, wire):
        doubt(provider)
        Message.objects.update(status=Status.DELIVERED)

        reconcile.run()

        assert wire.requests == []
        assert only_message().status == Status.DELIVERED

    def test_repeated_post_may_leave_only_while_the_key_is_honoured(self, provider):
        doubt(provider, age=86_399)
        routes = reconcile.tables.get().routes

        (found,) = reconcile._claim(["transactional"])
        call = reconcile._call(found, routes[provider.pk])

        assert call.gate - found.claimed < 1.01

    def test_answer_that_cannot_be_stored_proves_nothing_and_costs_nobody_else(self, provider, wire):
        status, body = ACCEPTED
        wire.answer = lambda *request: (status, {**body, "price": "1e30"} if b"odd" in request[3] else body)
        odd, other = doubt(provider), doubt(provider)
        Message.objects.filter(pk=odd.message_id).update(text="odd")

        reconcile.run()

        odd.refresh_from_db()
        other.refresh_from_db()
        assert odd.status == AttemptStatus.UNKNOWN
        assert odd.resolve_lease_until < now() < odd.resolve_at
        assert other.status == AttemptStatus.ACCEPTED

    def test_key_outside_its_window_is_not_used(self, provider, wire):
        doubt(provider, age=90_000)

        reconcile.run()

        assert wire.requests == []
        assert states() == (AttemptStatus.UNKNOWN, Status.HELD)


class TestLookup:
    """The provider can be asked for our reference; "not found" is proof only after its lag, and only twice."""

    @pytest.fixture
    def provider(self, wire):
        wire.answer = lambda *request: (200, {"messages": []})
        return ProviderFactory(price="0.04", resolve="lookup", lag=2, base_url=wire.url)

    def test_found_is_accepted(self, provider, wire):
        attempt = doubt(provider)
        found = {"id": "their-1", "reference": attempt.our_reference.hex, "status": "sent"}
        wire.answer = lambda *request: (200, {"messages": [found]})

        reconcile.run()

        ((method, path, _, _),) = wire.requests
        assert (method, attempt.our_reference.hex in path) == ("GET", True)
        assert states() == (AttemptStatus.ACCEPTED, Status.SENT)

    def test_found_delivered_is_delivered(self, provider, wire):
        attempt = doubt(provider)
        found = {"id": "their-1", "reference": attempt.our_reference.hex, "status": "delivered"}
        wire.answer = lambda *request: (200, {"messages": [found]})

        reconcile.run()

        assert states() == (AttemptStatus.DELIVERED, Status.DELIVERED)

    def test_not_found_once_is_asked_a_second_time(self, provider):
        doubt(provider)

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)
        assert only_attempt().not_found == 1
        assert now() + timedelta(seconds=8) < only_attempt().resolve_at < now() + timedelta(seconds=12)

    def test_not_found_twice_frees_the_message(self, provider):
        doubt(provider, not_found=1)

        reconcile.run()

        assert states() == (AttemptStatus.NOT_SENT, Status.QUEUED)
        assert only_message().not_before <= now()
        assert not only_message().possible_duplicate

    @pytest.mark.parametrize(("error_code", "expected"), [("read_timeout", "dear"), ("worker_lost", "cheap")])
    def test_freed_message_avoids_the_provider_that_lost_the_answer(self, provider, error_code, expected):
        providers = {"cheap": provider, "dear": ProviderFactory(price="0.90")}
        doubt(provider, not_found=1, error_code=error_code)

        reconcile.run()

        assert claim_one().route.id == providers[expected].pk

    def test_adapter_that_cannot_ask_holds_nobody_else_up(self, provider, wire):
        broken = ProviderFactory(price="0.04", resolve="lookup", base_url=wire.url)
        broken.set_credentials({})
        broken.save()
        doubt(broken)
        attempt = doubt(provider, not_found=1)

        reconcile.run()

        attempt.refresh_from_db()
        assert attempt.status == AttemptStatus.NOT_SENT
        assert not Attempt.objects.filter(resolve_lease_until__gt=now()).exists()

    def test_not_found_before_the_lag_is_over_is_no_proof(self, provider):
        doubt(provider, age=5, not_found=1)

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)

    def test_slow_look_up_makes_the_proof_wait(self, provider):
        provider.lag = 30
        provider.save()
        doubt(provider, age=40, not_found=1)

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)

    def test_broken_look_up_proves_nothing(self, provider, wire):
        wire.answer = lambda *request: (500, {"error": {"code": "internal", "message": ""}})
        doubt(provider, not_found=1, age=120)

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)

    def test_transactional_is_held_when_no_answer_came_for_three_days(self, provider, wire):
        wire.answer = lambda *request: (500, {})
        doubt(provider, age=73 * 3600, left=-1)

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.HELD)

    def test_otp_is_not_kept_waiting(self, provider, wire):
        wire.answer = lambda *request: (500, {})
        doubt(provider, age=11, message_class="otp")

        reconcile.run()

        assert states() == (AttemptStatus.SUPERSEDED, Status.QUEUED)


class TestPauses:
    """A question in vain tells nothing of the provider's state: it is put again soon, and less and less often."""

    @pytest.fixture
    def provider(self, wire):
        wire.answer = lambda *request: None
        return ProviderFactory(price="0.04", resolve="lookup", base_url=wire.url)

    @staticmethod
    def ask():
        """Puts the question now, as if its time had come; returns the pause after it, where it was in vain."""
        attempt = only_attempt()
        early = attempt.resolve_at - now()
        lease = attempt.resolve_lease_until
        Attempt.objects.update(resolve_at=now(), resolve_lease_until=lease and lease - early)
        reconcile.run()
        attempt = only_attempt()
        ended = attempt.resolve_lease_until
        return ended and (attempt.resolve_at - ended).total_seconds()

    @pytest.mark.parametrize("age", [20, 3 * 3600])
    def test_first_one_is_short_however_old_the_attempt_is(self, provider, age):
        doubt(provider, age=age)

        assert self.ask() == pytest.approx(2, abs=0.1)
        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)

    def test_each_is_twice_the_one_before_up_to_five_minutes(self, provider):
        doubt(provider)

        found = [self.ask() for _ in range(10)]

        assert found == pytest.approx([2, 4, 8, 16, 32, 64, 128, 256, 300, 300], rel=0.1)

    def test_answer_makes_the_next_one_short_again(self, provider, wire):
        doubt(provider)
        assert [self.ask() for _ in range(4)][-1] > 14
        wire.answer = lambda *request: (200, {"messages": []})
        assert self.ask() is None
        wire.answer = lambda *request: None

        assert self.ask() == pytest.approx(2, abs=0.1)
        assert only_attempt().not_found == 1

    @pytest.mark.parametrize("resolve", ["key", "lookup"])
    @pytest.mark.parametrize("status", [429, 503])
    def test_provider_that_asks_for_time_is_given_it(self, provider, wire, resolve, status):
        Provider.objects.update(resolve=resolve)
        tables.forget()
        doubt(provider)
        wire.answer = lambda *request: (status, {}, {"Retry-After": "25"})

        assert self.ask() == pytest.approx(25, abs=0.1)
        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)

    def test_wait_that_is_shorter_than_ours_or_comes_with_another_answer_counts_nothing(self, provider, wire):
        doubt(provider)
        wire.answer = lambda *request: (503, {}, {"Retry-After": "1"})
        assert self.ask() == pytest.approx(2, abs=0.1)
        wire.answer = lambda *request: (500, {}, {"Retry-After": "25"})

        assert self.ask() == pytest.approx(4, abs=0.1)

    def test_wait_ends_when_the_class_decides(self, provider, wire):
        """An otp goes out again at the end of its grace of 10 s."""
        doubt(provider, age=3, message_class="otp")
        wire.answer = lambda *request: (429, {}, {"Retry-After": "200"})

        assert self.ask() == pytest.approx(7, abs=0.3)

    def test_lease_that_its_worker_died_with_makes_none_longer(self, provider):
        died = now() - timedelta(seconds=1)
        doubt(provider, resolve_lease_until=died)
        Attempt.objects.update(resolve_at=died - timedelta(seconds=30))

        reconcile.run()

        attempt = only_attempt()
        assert attempt.resolve_at - attempt.resolve_lease_until < timedelta(seconds=3)

    def test_question_that_the_gate_refused_is_put_again_at_once(self, provider, wire, settings):
        settings.GATE = -1
        doubt(provider)

        reconcile.run()

        assert wire.requests == []
        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)
        assert only_attempt().resolve_at <= now()


def test_every_question_is_told_with_the_reason_for_no_answer(wire, lines):
    provider = ProviderFactory(price="0.04", resolve="lookup", base_url=wire.url)
    attempt = doubt(provider)
    found = {"id": "their-1", "reference": attempt.our_reference.hex, "status": "sent"}
    answers: list[Any] = [None, (500, {}), (200, {"messages": []}), (200, {"messages": [found]})]
    wire.answer = lambda *request: answers.pop(0)

    while answers:
        reconcile.run()
        Attempt.objects.update(resolve_at=now())

    told = lines.of("look-up")
    assert [(line["outcome"], line.get("code")) for line in told] == [
        ("Ambiguous", "connection_lost"),
        ("Undecided", "http_500"),
        ("NotFound", None),
        ("Found", None),
    ]
    assert {(line["attempt_id"], line["provider"]) for line in told} == {(str(attempt.pk), provider.slug)}


@pytest.mark.parametrize("resolve", ["none", "echo"])
class TestNobodyToAsk:
    @pytest.fixture
    def provider(self, wire, resolve):
        return ProviderFactory(price="0.04", resolve=resolve, base_url=wire.url)

    def test_transactional_waits_for_a_receipt_then_is_held(self, provider, wire):
        attempt = doubt(provider, age=30)

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)
        Attempt.objects.filter(pk=attempt.pk).update(started_at=now() - timedelta(seconds=61), resolve_at=now())
        reconcile.run()
        assert states() == (AttemptStatus.UNKNOWN, Status.HELD)
        assert only_attempt().resolve_at is None
        assert wire.requests == []
        assert Event.objects.get().type == "message.held"

    def test_otp_is_sent_again_by_another_provider_and_marked(self, provider, wire):
        other = ProviderFactory(price="0.90")
        doubt(provider, age=11, message_class="otp")

        reconcile.run()

        message = only_message()
        assert states() == (AttemptStatus.SUPERSEDED, Status.QUEUED)
        assert message.possible_duplicate
        assert claim_one("otp").route.id == other.pk

    def test_otp_goes_to_the_same_provider_again_where_there_is_no_other(self, provider):
        doubt(provider, age=11, message_class="otp")

        reconcile.run()

        assert claim("otp") == []  # the round is over; the next one begins after a pause
        assert only_message().status == Status.QUEUED
        Message.objects.update(not_before=now())
        assert claim_one("otp").route.id == provider.pk

    def test_last_of_the_allowance_is_held_and_not_called_failed(self, provider, settings):
        ProviderFactory(price="0.90")
        doubt(provider, age=11, message_class="otp")
        Message.objects.update(spent=settings.MAX_ATTEMPTS - 1)

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.HELD)

    def test_otp_past_its_validity_is_not_sent_again(self, provider):
        doubt(provider, age=11, left=-1, message_class="otp")

        reconcile.run()

        assert states()[0] == AttemptStatus.UNKNOWN


class TestList:
    """Twilio's way: found in a list by number and time is proof, not found is not."""

    @pytest.fixture
    def provider(self, wire):
        wire.answer = lambda *request: (200, {"messages": []})
        provider = ProviderFactory(price="0.04", adapter="twilio", base_url=wire.url)
        provider.set_credentials({"account_sid": "AC" + "a" * 32, "auth_token": "token"})
        provider.save()
        return provider

    def test_not_found_never_frees_the_message(self, provider, wire):
        doubt(provider, age=30, not_found=1)

        reconcile.run()

        assert len(wire.requests) == 1
        assert states() == (AttemptStatus.UNKNOWN, Status.UNKNOWN)

    def test_not_found_after_the_grace_is_held(self, provider):
        doubt(provider, age=61)

        reconcile.run()

        assert states() == (AttemptStatus.UNKNOWN, Status.HELD)

    def test_message_that_another_attempt_holds_is_not_found(self, provider, wire):
        attempt = doubt(provider, age=30)
        entry = {
            "sid": "SM" + "b" * 32,
            "to": attempt.message.to,
            "from": "MEXAR",
            "body": attempt.message.text,
            "direction": "outbound-api",
            "status": "sent",
            "date_created": attempt.started_at.strftime("%a, %d %b %Y %H:%M:%S +0000"),
            "date_sent": attempt.started_at.strftime("%a, %d %b %Y %H:%M:%S +0000"),
            "account_sid": "AC" + "a" * 32,
        }
        wire.answer = lambda *request: (200, {"messages": [entry], "next_page_uri": None})
        twin = AttemptFactory(
            provider=provider,
            status=AttemptStatus.ACCEPTED,
            provider_reference=entry["sid"],
            seq=1,
            message=MessageFactory(status=Status.SENT, to=attempt.message.to),
        )

        reconcile.run()

        assert Attempt.objects.get(pk=attempt.pk).status == AttemptStatus.UNKNOWN
        twin.delete()
        Attempt.objects.update(resolve_at=now())
        reconcile.run()
        assert Attempt.objects.get(pk=attempt.pk).status == AttemptStatus.ACCEPTED


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_ask_for_the_same_attempt(wire):
    provider = ProviderFactory(price="0.04", resolve="key", base_url=wire.url)
    client = ClientFactory()
    for number in range(20):
        message = MessageFactory(status=Status.UNKNOWN, client=client, text=f"text {number}")
        AttemptFactory(message=message, provider=provider, status=AttemptStatus.UNKNOWN, seq=1, resolve_at=now())
    reconcile.tables.get()

    def work():
        reconcile.run()
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(wire.requests) == 20
    assert Message.objects.filter(status=Status.SENT).count() == 20


@pytest.mark.django_db(transaction=True)
def test_code_does_not_wait_behind_a_campaign_of_doubts(wire, settings):
    settings.READ_TIMEOUT = 3.0
    provider = ProviderFactory(price="0.04", resolve="key", base_url=wire.url)
    for _ in range(3):
        doubt(provider, message_class="bulk")
    code = doubt(provider, message_class="otp", age=3)
    Message.objects.filter(message_class="bulk").update(text="campaign")
    wire.answer = lambda *request: time.sleep(4) if b"campaign" in request[3] else ACCEPTED

    tasks.start(["events"])
    time.sleep(1.5)
    found = Attempt.objects.get(pk=code.pk).status
    tasks.stop()

    assert found == AttemptStatus.ACCEPTED
