"""A check that comes twice, and one with a bad key of its own."""

import threading

import psycopg
import pytest
from django.db import connection, transaction

from messaging.models import Message, uuid7
from providers.sql import rows
from tests.factories import ProviderFactory
from tests.fleet import wait_for
from tests.verification.phone import PAYMENT, URL, check, code_of, only, start, wrong_for
from verification import checking
from verification.models import Challenge

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def provider(db):
    return ProviderFactory(slug="carrier-a", price="0.04")


def check_once(api, reference: str, key: str, **body):
    return api.post(f"{URL}/{reference}/check", body, format="json", HTTP_IDEMPOTENCY_KEY=key)


@pytest.mark.parametrize(
    "change",
    [{"code": "00000000"}, {"purpose": "login"}, {"context": {**PAYMENT, "amount": "250.01"}}, {"context": {}}],
)
def test_other_words_under_the_key_of_a_success_are_no_repeat(api, change):
    reference = start(api, purpose="payment", context=PAYMENT)
    said = {"code": code_of(reference), "purpose": "payment", "context": PAYMENT}
    assert check_once(api, reference, "key-1", **said).json()["valid"] is True

    other = check_once(api, reference, "key-1", **said | change)
    again = check_once(api, reference, '"key-1"', **said)

    assert (other.json()["valid"], other.json()["status"]) == (False, "used")
    assert "result_token" not in other.json()
    assert (again.json()["valid"], again["Idempotency-Replayed"]) == (True, "true")


def test_wrong_guesses_under_one_key_all_count(api):
    reference = start(api)
    wrong = wrong_for(reference)

    left = [check_once(api, reference, "key-1", code=wrong, purpose="login").json()["attempts_left"] for _ in range(3)]

    assert left == [4, 3, 2]


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "ключ"])
def test_bad_key_is_refused_and_counts_as_no_guess(api, key):
    reference = start(api)

    answer = check_once(api, reference, key, code=wrong_for(reference), purpose="login")

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert only().checks == 0


def test_success_leaves_nothing_that_tells_the_code(api):
    reference = start(api)
    code = code_of(reference)

    check_once(api, reference, "key-1", code=code, purpose="login")

    row = only()
    assert (row.seed, len(row.checked_by)) == (None, 32)


@pytest.mark.parametrize("right", [True, False])
def test_check_without_the_key_counts_as_no_guess_and_is_right_once_it_is_back(api, settings, right):
    """While a fleet gets a new key some processes do not have it yet."""
    reference = start(api)
    code, keys = code_of(reference), settings.OTP_KEYS
    settings.OTP_KEYS = keys.replace("1:", "2:")

    away = check(api, reference, code if right else code[::-1] + "0")
    unknown = check(api, "A" * 22, code)
    settings.OTP_KEYS = keys
    back = check(api, reference, code)

    assert (away.status_code, away.json()["code"], away["Retry-After"]) == (503, "key_away", "5")
    assert unknown.status_code == 404
    assert (back.json()["valid"], only().checks) == (True, 0)


@pytest.mark.parametrize("statement", [checking._RIGHT, checking._WRONG])
def test_check_never_walks_the_pending_challenges_for_one(api, statement):
    """With statistics of a quiet hour an index of the pending ones looks cheaper than the one of ids."""
    api.post(f"{URL}/{start(api)}/cancel")
    words = dict.fromkeys(("generation", "salt", "key", "token_seconds", "failures", "limits"))

    with transaction.atomic():
        rows(CLOSED_ONES)
        rows("ANALYZE verification_challenge")
        plan = rows(f"EXPLAIN {statement}", {**words, "rows": "[]", "id": uuid7(), "client": uuid7()})
        transaction.set_rollback(True)  # the statistics would be those of all tests after it

    assert "verification_challenge_pkey" in str(plan)
    assert "challenge_expiry" not in str(plan)


@pytest.mark.parametrize("right", [True, False])
def test_check_is_two_statements_and_no_transaction_around_them(api, monkeypatch, right):
    reference = start(api)
    code = code_of(reference) if right else wrong_for(reference)
    check(api, reference, wrong_for(reference))  # what a process reads once is read
    trips = []
    wait = psycopg.Connection.wait

    def counted(*args):
        trips.append(1)
        return wait(*args)

    monkeypatch.setattr(psycopg.Connection, "wait", counted)

    answer = check(api, reference, code)

    assert (answer.json()["valid"], len(trips)) == (right, 2)


@pytest.mark.parametrize("right", [True, False])
def test_message_that_a_worker_holds_is_not_waited_for_before_the_check_is_kept(api, right):
    """The worker of a code per attempt holds the message and waits for the challenge."""
    reference = start(api)
    Challenge.objects.update(max_checks=1)
    code = code_of(reference) if right else wrong_for(reference)
    holds, may_go_on = threading.Event(), threading.Event()

    def work():
        with transaction.atomic():
            rows("SELECT id FROM messaging_message FOR UPDATE")
            holds.set()
            may_go_on.wait(10)
            rows("UPDATE verification_challenge SET generation = generation + 1")
        connection.close()

    def ask():
        check(api, reference, code)
        connection.close()

    worker, asking = threading.Thread(target=work), threading.Thread(target=ask)
    worker.start()
    holds.wait(10)
    asking.start()
    wait_for(lambda: only().status != "pending", 10)
    may_go_on.set()
    worker.join(10)
    asking.join(10)

    assert only().generation == 1
    assert Message.objects.get().failover_after is None


CLOSED_ONES = """
INSERT INTO verification_challenge (id, reference, client_id, purpose, "to", country, locale, status, kid, code_length,
  code_per_attempt, max_checks, max_sends, created_at, expires_at, resend_at, closed_at)
SELECT uuidv7(), left(md5(n::text), 22), client_id, purpose, "to", country, locale, status, kid, code_length,
  code_per_attempt, max_checks, max_sends, created_at, expires_at, resend_at, closed_at
FROM verification_challenge, generate_series(1, 5000) n
"""
