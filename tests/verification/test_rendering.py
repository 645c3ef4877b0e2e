"""Code and text meet in the worker: each attempt's code is right, closed challenges are not sent, nothing is stored."""

import json
import re
from datetime import timedelta

import pytest

from messaging import reconcile, sweeper
from messaging.models import Attempt, Message
from messaging.states import AttemptStatus, Status
from providers.outcomes import Ambiguous, Unavailable
from providers.sql import rows
from tests.factories import ProviderFactory
from tests.messaging.stages import accepted, claim, claim_one, now, settle
from tests.messaging.wire import ACCEPTED, Wire
from tests.verification.phone import URL, check, code_of, start
from verification.models import Challenge, CodeAttempt, Profile

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def providers(db):
    return [ProviderFactory(slug=f"carrier-{name}", price=f"0.0{n}") for n, name in enumerate("abcd", start=4)]


@pytest.fixture
def per_attempt(client_row):
    """Ten digits: the last three of 10^10 codes are right."""
    return Profile.objects.create(
        client=client_row, purpose="login", code_length=10, code_per_attempt=True, max_checks=10
    )


def code_in(offer):
    (code,) = re.findall(r"\b\d{6,10}\b", json.loads(offer.call.request.body)["text"])
    return code


def silence():
    """No receipt comes for as long as the profile waits."""
    past = now() - timedelta(minutes=4)
    Message.objects.update(sent_at=past)
    Attempt.objects.filter(status="accepted").update(finished_at=past)
    sweeper.sweep()


def by_four(settings):
    """Four providers take it, one after the other, and none of them reports."""
    settings.MAX_ATTEMPTS = 9
    offers = []
    for number in range(4):
        offers.append(claim_one("otp"))
        settle(offers[-1], accepted(f"their-{number}"))
        silence()
    return offers


def attempts():
    return list(Attempt.objects.order_by("seq").values_list("provider__slug", "status"))


def test_next_provider_sends_the_same_code_after_a_silence(api):
    reference = start(api)
    first = claim_one("otp")
    settle(first, accepted())
    silence()

    second = claim_one("otp")
    settle(second, accepted("their-2"))

    assert code_in(first) == code_in(second)
    assert attempts() == [("carrier-a", "superseded"), ("carrier-b", "accepted")]
    assert check(api, reference, code_in(second)).json()["valid"] is True


def test_challenge_that_is_closed_needs_no_second_provider(api):
    reference = start(api)
    offer = claim_one("otp")
    settle(offer, accepted())
    check(api, reference, code_in(offer))

    silence()

    assert attempts() == [("carrier-a", "accepted")]
    assert not Message.objects.get().possible_duplicate


def test_challenge_that_closes_between_silence_and_the_next_provider_ends_its_message_as_sent(api):
    reference = start(api)
    offer = claim_one("otp")
    settle(offer, accepted())
    silence()
    assert Message.objects.get().status == Status.QUEUED
    check(api, reference, code_in(offer))

    assert claim("otp") == []

    assert (Message.objects.get().status, Message.objects.get().error_code) == (Status.SENT, "challenge_closed")


@pytest.mark.parametrize("close", ["cancelled", "late"])
def test_closed_challenge_is_not_sent(api, close):
    reference = start(api)
    if close == "late":
        Challenge.objects.update(expires_at=Challenge.objects.get().created_at)
    else:
        api.post(f"{URL}/{reference}/cancel")

    assert claim("otp") == []

    assert Message.objects.get().status == Status.CANCELLED
    assert not Attempt.objects.exists()


def test_generation_that_was_not_sent_is_wrong(api, per_attempt):
    reference = start(api)
    claim_one("otp")

    for generation in (0, 2, 3):
        assert check(api, reference, code_of(reference, generation)).json()["valid"] is False


def test_challenge_whose_key_is_gone_stops_nobody_else(api, lines):
    start(api)
    Challenge.objects.update(kid=99)
    start(api, to="+380671234568")

    offer = claim_one("otp")

    assert code_in(offer)
    assert sorted(Message.objects.values_list("status", flat=True)) == [Status.QUEUED, Status.SENDING]
    assert len(lines.of("a text could not be rendered")) == 1


def test_code_is_in_no_table_and_no_log_after_the_send(api, client_row, lines):
    Profile.objects.create(client=client_row, purpose="login", code_length=10)
    start(api)
    offer = claim_one("otp")
    settle(offer, Ambiguous("connection_lost"))
    tables = rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")

    stored = " ".join(row[0] for (name,) in tables for row in rows(f'SELECT t::text FROM "{name}" t'))  # noqa: S608

    assert Message.objects.get().text in stored
    assert code_in(offer) not in re.findall(r"\d+", stored)
    assert code_in(offer) not in lines.text
    assert code_in(offer) not in repr(offer)


class TestCodePerAttempt:
    def test_every_attempt_has_its_own_and_the_last_three_are_right(self, api, per_attempt, settings):
        reference = start(api)
        codes = [code_in(offer) for offer in by_four(settings)]

        fourth_last = check(api, reference, codes[0]).json()
        third_last = check(api, reference, codes[1]).json()

        assert len(set(codes)) == 4
        assert list(CodeAttempt.objects.order_by("generation").values_list("generation", flat=True)) == [1, 2, 3, 4]
        assert (fourth_last["valid"], third_last["valid"]) == (False, True)
        assert Challenge.objects.get().verified_generation == 2

    @pytest.mark.parametrize("which", [2, 3])
    def test_later_ones_are_right_too(self, api, per_attempt, settings, which):
        reference = start(api)
        offers = by_four(settings)

        assert check(api, reference, code_in(offers[which])).json()["valid"] is True

    def test_what_was_surely_not_sent_takes_no_place(self, api, per_attempt):
        reference = start(api)
        arrived = claim_one("otp")
        settle(arrived, accepted())
        silence()
        lost = []
        for _ in range(3):
            lost.append(claim_one("otp"))
            settle(lost[-1], Unavailable("connection_refused"))

        unsent = check(api, reference, code_in(lost[-1])).json()
        sent = check(api, reference, code_in(arrived)).json()

        assert (unsent["valid"], sent["valid"]) == (False, True)

    def test_generation_tells_which_providers_code_arrived(self, api, per_attempt):
        reference = start(api)
        first = claim_one("otp")
        settle(first, accepted())
        silence()
        settle(claim_one("otp"), accepted("their-2"))

        check(api, reference, code_in(first))

        arrived = CodeAttempt.objects.get(generation=Challenge.objects.get().verified_generation)
        assert arrived.attempt_id == first.attempt_id

    def test_a_second_post_of_one_attempt_keeps_its_code(self, api, per_attempt, providers):
        wire = Wire()
        providers[0].resolve, providers[0].base_url = "key", wire.url
        providers[0].save()
        start(api)
        offer = claim_one("otp")
        settle(offer, Ambiguous("connection_lost"))
        Attempt.objects.update(resolve_at=now())
        wire.answer = lambda *request: ACCEPTED

        reconcile.run()
        wire.stop()

        ((*_, body),) = wire.requests
        assert body == offer.call.request.body
        assert CodeAttempt.objects.get().generation == 1
        assert Attempt.objects.get().status == AttemptStatus.ACCEPTED

    def test_attempt_that_could_not_be_rendered_uses_up_no_generation(self, api, per_attempt):
        start(api)
        Challenge.objects.update(kid=99)

        claim("otp")

        assert Challenge.objects.get().generation == 0
        assert not CodeAttempt.objects.exists()
