"""What the worker makes of a stored template: a text, or nothing where nothing may be sent."""

import pytest

from messaging.models import Attempt, Message
from tests.factories import ProviderFactory
from tests.messaging.stages import claim
from tests.verification.phone import check, code_of, start
from verification.models import Challenge, CodeAttempt, Profile

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def provider(db):
    return ProviderFactory(slug="carrier-a", price="0.04")


def texts(offers) -> list[str]:
    return [offer.call.request.body.decode() for offer in offers]


def test_code_is_in_what_goes_to_the_provider_alone(api):
    reference = start(api)

    (text,) = texts(claim("otp"))

    assert code_of(reference) in text
    assert "{code}" in Message.objects.get().text
    assert not CodeAttempt.objects.exists()


@pytest.mark.parametrize("close", ["verified", "late", "cancelled"])
def test_closed_challenge_is_not_sent(api, close):
    reference = start(api)
    if close == "verified":
        check(api, reference, code_of(reference))
    elif close == "late":
        Challenge.objects.update(expires_at=Challenge.objects.get().created_at)
    else:
        api.post(f"/api/v1/verifications/{reference}/cancel")

    offers = claim("otp")

    assert offers == []
    assert list(Message.objects.values_list("status", "error_code")) == [("cancelled", "challenge_closed")]
    assert not Attempt.objects.exists()


def test_challenge_whose_key_is_gone_stops_nobody_else(api, settings, lines):
    lost = start(api)
    settings.OTP_KEYS = settings.OTP_KEYS.replace("1:", "2:")
    kept = start(api, to="+380671234568")

    (text,) = texts(claim("otp"))

    assert code_of(kept) in text
    assert Message.objects.get(status="cancelled").code.challenge.reference == lost
    (line,) = lines.of("OTP_KEYS lacks the key of a pending challenge")
    assert line["key_id"] == 1


def test_each_attempt_has_a_code_of_its_own_where_the_profile_says_so(api, client_row):
    Profile.objects.create(client=client_row, purpose="login", code_per_attempt=True)
    reference = start(api)

    (text,) = texts(claim("otp"))

    assert code_of(reference, generation=1) in text
    assert list(CodeAttempt.objects.values_list("generation", flat=True)) == [1]
    assert check(api, reference, code_of(reference, generation=1)).json()["valid"] is True
    assert Challenge.objects.get().verified_generation == 1


def test_generation_that_was_not_sent_is_wrong(api, client_row):
    Profile.objects.create(client=client_row, purpose="login", code_per_attempt=True)
    reference = start(api)
    claim("otp")

    for generation in (0, 2, 3):
        assert check(api, reference, code_of(reference, generation)).json()["valid"] is False


def test_last_three_generations_are_right(api, client_row):
    Profile.objects.create(client=client_row, purpose="login", code_per_attempt=True)
    reference = start(api)
    Challenge.objects.update(generation=5)

    old = [check(api, reference, code_of(reference, generation)).json()["valid"] for generation in (1, 2)]
    right = check(api, reference, code_of(reference, generation=3)).json()["valid"]

    assert (old, right) == ([False, False], True)
