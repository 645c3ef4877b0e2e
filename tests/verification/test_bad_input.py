"""Bad input: every field of every call, wrong in every way, is a documented problem, and nothing is stored."""

import json
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from messaging.errors import InvalidRequest
from messaging.idempotency import KEY
from messaging.models import Message
from tests.factories import ProviderFactory
from tests.messaging.corpus import JSON
from tests.messaging.door import assert_problem, nothing_stored
from tests.verification import corpus
from tests.verification.phone import NUMBER, PAYMENT, URL, check, code_of, only, start, wrong_for
from verification import drafts
from verification.models import Challenge, Profile

pytestmark = pytest.mark.django_db
ANY = hypothesis(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def _enough(settings):
    """Room for every start and guess of a test: limits are not what it is about."""
    settings.VERIFY_LIMITS = dict.fromkeys(settings.VERIFY_LIMITS, 10**6)
    ProviderFactory(slug="carrier-a", price="0.04")


@pytest.fixture
def reference(api, client_row):
    Profile.objects.create(client=client_row, purpose="login", max_checks=10)
    return start(api)


def post(api, path, body, **headers):
    return api.post(f"{URL}{path}", json.dumps(body), content_type="application/json", **headers)


def taken(reader, body):
    try:
        reader(body)
    except InvalidRequest:
        return False
    return True


def split(reader, bodies):
    """(those that the reader takes, the others)"""
    return [body for body in bodies if taken(reader, body)], [body for body in bodies if not taken(reader, body)]


def test_every_start_is_taken_or_refused_with_its_reason(api):
    right, wrong = split(drafts.read_start, corpus.STARTS)

    with nothing_stored():
        answers = [post(api, "", body) for body in wrong]
    others = [post(api, "", body) for body in right]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "validation_failed")}
    assert {201, 422} <= {answer.status_code for answer in others} <= {201, 403, 422}
    assert Challenge.objects.count() == [answer.status_code for answer in others].count(201) == Message.objects.count()


def test_every_check_is_taken_or_refused_and_only_what_is_taken_counts(api, reference):
    right, wrong = split(drafts.read_check, corpus.CHECKS)

    with nothing_stored():
        answers = [post(api, f"/{reference}/check", body) for body in wrong]
    others = [post(api, f"/{reference}/check", body) for body in right]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "validation_failed")}
    assert {(answer.status_code, answer.json()["valid"]) for answer in others} == {(200, False)}
    assert only().status == "locked"


def test_every_redeeming_is_taken_or_refused_and_nothing_is_stored(api, reference):
    right, wrong = split(drafts.read_redeem, corpus.REDEEMS)

    with nothing_stored():
        answers = [post(api, "/redeem", body) for body in wrong]
        others = [post(api, "/redeem", body) for body in right]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "validation_failed")}
    assert {(answer.status_code, answer.json()["code"]) for answer in others} == {(404, "not_found")}


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("to", None, "required"),
        ("to", 380671234567, "wrong_type"),
        ("to", "+999123456789", "not_possible"),
        ("purpose", "", "empty"),
        ("purpose", "Login", "bad_format"),
        ("purpose", True, "wrong_type"),
        ("purpose", "x" * 101, "too_long"),
        ("purpose", "transfer", "unknown_purpose"),
        ("profile", "other", "unknown_profile"),
        ("profile", "", "bad_format"),
        ("locale", "../en", "bad_format"),
        ("locale", "en\x00", "bad_character"),
        ("client_ip", "fe80::1%eth0", "bad_format"),
        ("client_ip", "", "bad_format"),
        ("client_ip", 1, "wrong_type"),
        ("device_id", "\ud800", "bad_character"),
        ("device_id", ["x"], "wrong_type"),
        ("context", None, "wrong_type"),
        ("sendr", "x", "unknown_field"),
    ],
)
def test_a_wrong_field_of_a_start_is_named(api, name, value, code):
    with nothing_stored():
        answer = post(api, "", {**corpus.START, name: value})

    assert_problem(answer, 422, "validation_failed", (name, code))


@pytest.mark.parametrize("amount", corpus.WRONG_AMOUNTS)
def test_what_is_no_amount(api, amount):
    with nothing_stored():
        answer = post(api, "", {**corpus.START, "purpose": "payment", "context": {**PAYMENT, "amount": amount}})

    code = "too_long" if len(amount) > 100 else "bad_format"
    assert_problem(answer, 422, "validation_failed", ("context.amount", code))


@pytest.mark.parametrize("payee", corpus.WRONG_PAYEES)
def test_what_must_not_stand_in_an_sms_as_payee(api, payee):
    with nothing_stored():
        answer = post(api, "", {**corpus.START, "purpose": "payment", "context": {**PAYMENT, "payee": payee}})

    assert_problem(answer, 422, "validation_failed", ("context.payee", "bad_format"))


@pytest.mark.parametrize("payee", corpus.PAYEES)
def test_payees_in_any_alphabet_stand_in_the_text_as_they_are(api, payee):
    start(api, purpose="payment", context={**PAYMENT, "payee": payee})

    assert payee in Message.objects.get().text


def test_part_of_a_context_cannot_be_shown(api):
    for context, missing in (
        ({"payee": "Olena K."}, ["context.amount", "context.currency"]),
        ({"amount": "1", "currency": "EUR"}, ["context.payee"]),
    ):
        with nothing_stored():
            answer = post(api, "", {**corpus.START, "context": context})

        assert_problem(answer, 422, "validation_failed", *[(name, "missing_parameter") for name in missing])


def test_all_mistakes_are_told_at_once(api):
    body = {"to": 1, "purpose": "", "context": {"amount": "0", "fee": 1}, "client_ip": "x", "x": 1}

    answer = post(api, "", body)

    fields = [error["field"] for error in answer.json()["errors"]]
    assert fields == ["client_ip", "context.amount", "context.currency", "context.fee", "purpose", "to", "x"]


def test_an_address_is_counted_in_its_one_form(api):
    for address in ("::ffff:203.0.113.7", "203.0.113.7"):
        post(api, "", {**corpus.START, "client_ip": address})

    assert set(Challenge.objects.values_list("ip", flat=True)) == {"203.0.113.7"}


@pytest.mark.parametrize(
    "other", [other for other in corpus.CONTEXTS if taken(drafts.read_check, {**corpus.CHECK, "context": other})]
)
def test_another_context_looks_like_a_wrong_code(api, other):
    reference = start(api, purpose="payment", context=PAYMENT)
    code, wrong = code_of(reference), wrong_for(reference)
    same = {**other, "amount": plain(other)} == PAYMENT

    guessed = check(api, reference, wrong, purpose="payment", context=PAYMENT)
    bound = check(api, reference, code, purpose="payment", context=other)

    assert bound.json()["valid"] is same
    if not same:
        assert bound.json() == {**guessed.json(), "attempts_left": 3}


def plain(given):
    return f"{Decimal(given['amount']):.2f}" if "amount" in given else None


@pytest.mark.parametrize("to", ["+380671234567", "+380671234568"])
def test_nothing_tells_whether_a_number_is_known(api, to):
    start(api)

    answer = post(api, "", {**corpus.START, "to": to})

    assert answer.status_code == 201
    assert set(answer.json()) == {"reference", "status", "expires_at", "resend_at", "to_masked"}


# --- what is not in a field -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/{reference}/check", "/redeem"])
@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/json", 400, "invalid_json"),
        (b"{", "application/json", 400, "invalid_json"),
        (b'{"purpose": "a", "purpose": "b"}', "application/json", 400, "invalid_json"),
        (b"[" * 60_000, "application/json", 400, "invalid_json"),
        (b'{"code": NaN}', "application/json", 400, "invalid_json"),
        (b"\xff", "application/json", 400, "invalid_json"),
        (b"x" * 65_537, "application/json", 413, "body_too_large"),
        (b"code=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    ],
)
def test_bodies_that_are_none(api, reference, path, body, content_type, status, code):
    with nothing_stored():
        answer = api.generic("POST", URL + path.format(reference=reference), body, content_type=content_type)

    assert_problem(answer, status, code)


@pytest.mark.parametrize("path", ["", "/{reference}/check", "/{reference}/resend", "/redeem"])
@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ключ", '"' + "x" * 256 + '"', "a\x7f"])
def test_keys_that_are_none(api, reference, path, key):
    assert not KEY.fullmatch(key)
    bodies = {"": corpus.START, "/redeem": corpus.REDEEM}

    with nothing_stored():
        answer = post(api, path.format(reference=reference), bodies.get(path, corpus.CHECK), HTTP_IDEMPOTENCY_KEY=key)

    assert_problem(answer, 422, "validation_failed", ("Idempotency-Key", "bad_format"))


@pytest.mark.parametrize("call", ["resend", "cancel"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff" * 1000, b"[" * 60_000])
def test_a_body_that_is_not_read_cannot_be_wrong(api, reference, call, body):
    Challenge.objects.update(resend_at=only().created_at)

    answer = api.generic("POST", f"{URL}/{reference}/{call}", body, content_type="text/plain")

    assert answer.status_code in (200, 202), answer.content


@pytest.mark.parametrize(
    "reference",
    [
        "A" * 22,
        "A" * 21,
        "A" * 23,
        "-",
        "%00",
        "%ff%fe",
        "ä" * 22,
        "😀" * 22,
        "' OR 1=1 --",
        "A" * 21 + "%0a",
        "x" * 3000,
    ],
)
def test_references_that_are_none(api, reference):
    start(api)
    with nothing_stored():
        answers = [
            api.get(f"{URL}/{reference}"),
            check(api, reference, "123456"),
            api.post(f"{URL}/{reference}/resend"),
            api.post(f"{URL}/{reference}/cancel"),
        ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not_found")] * 4
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods(api, reference, method):
    paths = ["", "/redeem", f"/{reference}/check", f"/{reference}/resend", f"/{reference}/cancel"]

    with nothing_stored():
        answers = [api.generic(method, URL + path) for path in paths]

    assert [answer.status_code for answer in answers] == [405] * 5


# --- whatever a machine can think of --------------------------------------------------------------


@given(body=corpus.bodies(corpus.START, corpus.START_VALUES))
@ANY
def test_any_start_is_answered_or_refused(api, body):
    before = Challenge.objects.count()

    answer = post(api, "", body)

    assert answer.status_code == 201 or 400 <= answer.status_code < 500, answer.content
    assert Challenge.objects.count() - before == (answer.status_code == 201)


@given(body=corpus.bodies(corpus.CHECK, corpus.CHECK_VALUES), token=JSON)
@ANY
def test_any_check_and_any_token_are_answered_or_refused(api, body, token):
    known = Challenge.objects.values_list("reference", flat=True).first() or start(api)

    answers = [post(api, f"/{known}/check", body), post(api, "/redeem", {**corpus.REDEEM, "token": token})]

    assert answers[0].status_code in (200, 400, 422), answers[0].content
    assert answers[1].status_code in (400, 404, 422), answers[1].content


@given(path=st.text(st.characters(codec="utf-8", exclude_characters="?#"), min_size=1, max_size=40))
@ANY
def test_any_path_is_answered_or_refused(api, path):
    answer = api.get(f"{URL}/{path}")

    assert answer.status_code in (301, 404, 405), answer.content


def test_the_number_is_in_no_problem(api):
    for body in ({"to": NUMBER, "purpose": "nothing"}, {"to": NUMBER + "9" * 9, "purpose": "login"}):
        assert "671234567" not in post(api, "", body).text
