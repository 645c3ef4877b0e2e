"""Start, check, resend, cancel: the life of one challenge through its door."""

from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.test import APIClient

from messaging.clients import issue_key
from messaging.models import Event, Message
from tests.factories import ClientFactory, ProviderFactory
from tests.verification.phone import NUMBER, PAYMENT, URL, challenge_of, check, code_of, only, start, wrong_for
from verification import profiles
from verification.models import Challenge, Profile

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def provider(db):
    return ProviderFactory(slug="carrier-a", price="0.04")


def make_late(reference):
    Challenge.objects.filter(reference=reference).update(expires_at=only().created_at - timedelta(seconds=1))


def test_start_answers_with_a_reference_and_a_masked_number(api):
    answer = api.post(URL, {"to": NUMBER, "purpose": "login"}, format="json")

    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert set(body) == {"reference", "status", "expires_at", "resend_at", "to_masked"}
    assert (body["status"], body["to_masked"]) == ("pending", "+380******567")
    assert len(body["reference"]) == 22


def test_start_hands_in_a_message_that_has_no_code(api):
    reference = start(api)

    message = Message.objects.get()
    assert (message.message_class, message.renderer, message.segments) == ("otp", "code", 1)
    assert "{code}" in message.text
    assert code_of(reference) not in message.text


def test_right_code_verifies_and_gives_a_token(api):
    reference = start(api)

    body = check(api, reference, code_of(reference)).json()

    assert (body["valid"], body["status"], body["attempts_left"]) == (True, "verified", 0)
    assert body["result_token"].startswith(reference)


def test_code_is_read_as_people_type_it(api):
    reference = start(api)
    code = code_of(reference)

    assert check(api, reference, f" {code[:3]}-{code[3:]} ").json()["valid"] is True


def test_wrong_code_counts_and_the_last_one_locks(api):
    reference = start(api)
    wrong = wrong_for(reference)

    answers = [check(api, reference, wrong).json() for _ in range(6)]

    assert [answer["attempts_left"] for answer in answers] == [4, 3, 2, 1, 0, 0]
    assert [answer["status"] for answer in answers] == ["pending"] * 4 + ["locked"] * 2
    assert only().seed is None


def test_right_code_comes_too_late_for_a_locked_challenge(api):
    reference = start(api)
    code, wrong = code_of(reference), wrong_for(reference)
    for _ in range(5):
        check(api, reference, wrong)

    assert check(api, reference, code).json() == {
        "reference": reference,
        "valid": False,
        "status": "locked",
        "attempts_left": 0,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "login"},
        {"context": {**PAYMENT, "amount": "250.01"}},
        {"context": {**PAYMENT, "currency": "USD"}},
        {"context": {**PAYMENT, "payee": "Somebody Else"}},
        {"context": {}},
    ],
)
def test_other_purpose_or_context_looks_like_a_wrong_code(api, change):
    reference = start(api, purpose="payment", context=PAYMENT)
    given = {"purpose": "payment", "context": PAYMENT}

    wrong = check(api, reference, wrong_for(reference), **given).json()
    bound = check(api, reference, code_of(reference), **{**given, **change}).json()

    assert {**wrong, "attempts_left": 3} == bound
    assert check(api, reference, code_of(reference), **given).json()["valid"] is True


def test_same_amount_written_otherwise_is_the_same(api):
    reference = start(api, purpose="payment", context=PAYMENT)

    body = check(api, reference, code_of(reference), purpose="payment", context={**PAYMENT, "amount": "0250.000"})

    assert body.json()["valid"] is True


def test_payment_has_eight_digits_and_needs_its_context(api):
    reference = start(api, purpose="payment", context=PAYMENT)
    answer = api.post(URL, {"to": NUMBER, "purpose": "payment", "context": {"payee": "X"}}, format="json")

    assert len(code_of(reference)) == 8
    assert answer.status_code == 422
    assert [e["field"] for e in answer.json()["errors"]] == ["context.amount", "context.currency"]


def test_code_is_used_once(api):
    reference = start(api)
    code = code_of(reference)
    check(api, reference, code)

    body = check(api, reference, code).json()

    assert (body["valid"], body["status"]) == (False, "used")
    assert "result_token" not in body


def test_repeat_of_the_check_that_succeeded_is_answered_the_same(api):
    reference = start(api)
    code = code_of(reference)
    body, key = {"code": code, "purpose": "login"}, {"HTTP_IDEMPOTENCY_KEY": "one"}

    first = api.post(f"{URL}/{reference}/check", body, format="json", **key)
    again = api.post(f"{URL}/{reference}/check", body, format="json", **key)

    assert again.json() == first.json()
    assert again.json()["valid"] is True


def test_code_is_worth_nothing_after_the_time(api):
    reference = start(api)
    code = code_of(reference)
    make_late(reference)

    body = check(api, reference, code).json()

    assert (body["valid"], body["status"]) == (False, "expired")


def test_newer_start_closes_the_older_one(api):
    older = start(api)
    code = code_of(older)

    newer = start(api)

    assert check(api, older, code).json()["status"] == "cancelled"
    assert check(api, newer, code_of(newer)).json()["valid"] is True
    assert list(Event.objects.filter(subject=older).values_list("type", flat=True)) == ["verification.cancelled"]


def test_other_purposes_live_side_by_side(api):
    first, second = start(api), start(api, purpose="signup")

    assert check(api, first, code_of(first)).json()["valid"] is True
    assert check(api, second, code_of(second), purpose="signup").json()["valid"] is True


@pytest.mark.parametrize("reference", ["A" * 22, "x", "ä" * 22, "%00", "A" * 500])
def test_unknown_and_malformed_references_are_not_found(api, reference):
    answers = [
        api.get(f"{URL}/{reference}"),
        check(api, reference, "123456"),
        api.post(f"{URL}/{reference}/resend"),
        api.post(f"{URL}/{reference}/cancel"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert len({answer.content for answer in answers}) == 1


def test_what_is_another_clients_does_not_exist(api):
    reference = start(api)
    other = APIClient()
    other.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(ClientFactory())}")

    answer = check(other, reference, code_of(reference))

    assert answer.content == check(other, "A" * 22, "123456").content
    assert only().checks == 0


def test_resend_waits_for_its_cooldown(api):
    reference = start(api)

    answer = api.post(f"{URL}/{reference}/resend")

    assert (answer.status_code, answer.json()["code"]) == (429, "resend_too_early")
    assert 25 <= int(answer["Retry-After"]) <= 30


def test_resend_sends_the_same_code_and_leaves_the_time(api):
    reference = start(api)
    before, code = challenge_of(reference), code_of(reference)
    Challenge.objects.update(resend_at=before.created_at)

    answer = api.post(f"{URL}/{reference}/resend")

    assert answer.status_code == 202, answer.content
    after = challenge_of(reference)
    assert (after.expires_at, after.sends, code_of(reference)) == (before.expires_at, 2, code)
    assert 55 <= (after.resend_at - before.created_at).total_seconds() <= 65
    assert Message.objects.count() == 2


def test_message_before_a_resend_is_not_waited_for_any_more(api):
    reference = start(api)
    Challenge.objects.update(resend_at=only().created_at)

    api.post(f"{URL}/{reference}/resend")

    assert list(Message.objects.order_by("id").values_list("failover_after", flat=True)) == [None, 20]


def test_sends_end_with_the_profile(api, client_row):
    Profile.objects.create(client=client_row, purpose="login", max_sends=2)
    reference = start(api)
    codes = []
    for _ in range(2):
        Challenge.objects.update(resend_at=only().created_at)
        codes.append(api.post(f"{URL}/{reference}/resend").status_code)

    assert codes == [202, 409]


@pytest.mark.parametrize(("left", "detail"), [(-1, "It is expired."), (1, "It is about to end.")])
def test_resend_at_the_end_is_refused(api, left, detail):
    reference = start(api)
    end = datetime.now(UTC) + timedelta(seconds=left)
    Challenge.objects.update(expires_at=end, resend_at=only().created_at)

    answer = api.post(f"{URL}/{reference}/resend")

    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (409, "not_pending", detail)
    assert Message.objects.count() == 1


def test_cancel_ends_it_and_a_repeat_changes_nothing(api):
    reference = start(api)
    code = code_of(reference)

    answers = [api.post(f"{URL}/{reference}/cancel") for _ in range(2)]

    assert [(a.status_code, a.json()["status"]) for a in answers] == [(200, "cancelled")] * 2
    assert check(api, reference, code).json()["status"] == "cancelled"
    assert Event.objects.filter(type="verification.cancelled").count() == 1


def test_what_is_verified_is_not_cancelled(api):
    reference = start(api)
    check(api, reference, code_of(reference))

    answer = api.post(f"{URL}/{reference}/cancel")

    assert (answer.status_code, answer.json()["code"]) == (409, "not_pending")


def test_token_is_redeemed_once_by_any_service_that_holds_it(api):
    reference = start(api, purpose="payment", context=PAYMENT)
    token = check(api, reference, code_of(reference), purpose="payment", context=PAYMENT).json()["result_token"]
    other = APIClient()
    other.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(ClientFactory())}")
    body = {"token": token, "purpose": "payment"}

    wrong = other.post(f"{URL}/redeem", {**body, "purpose": "login"}, format="json")
    first = other.post(f"{URL}/redeem", body, format="json")
    second = other.post(f"{URL}/redeem", body, format="json")

    assert wrong.status_code == 404
    assert first.status_code == 200, first.content
    assert first.json()["context"] == PAYMENT
    assert (second.status_code, second.json()["code"]) == (409, "already_redeemed")


def test_forged_token_is_unknown(api):
    reference = start(api)
    token = check(api, reference, code_of(reference)).json()["result_token"]
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")

    answer = api.post(f"{URL}/redeem", {"token": forged, "purpose": "login"}, format="json")

    assert answer.status_code == 404


def test_repeat_of_a_start_is_answered_the_same_whatever_its_profile_has_become(api, client_row):
    body, key = {"to": NUMBER, "purpose": "login"}, {"HTTP_IDEMPOTENCY_KEY": "one"}
    first = api.post(URL, body, format="json", **key)
    Profile.objects.create(client=client_row, purpose="login", enabled=False)
    profiles.profiles.forget()

    again = api.post(URL, body, format="json", **key)

    assert (again.status_code, again.json(), again["Idempotency-Replayed"]) == (201, first.json(), "true")
    assert api.post(URL, body, format="json").status_code == 422


def test_start_is_repeated_safely_under_its_key(api):
    answers = [
        api.post(URL, {"to": NUMBER, "purpose": "login"}, format="json", HTTP_IDEMPOTENCY_KEY="one") for _ in range(2)
    ]

    assert answers[0].json() == answers[1].json()
    assert answers[1]["Idempotency-Replayed"] == "true"
    assert Challenge.objects.count() == 1
    assert Message.objects.count() == 1
