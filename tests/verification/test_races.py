"""However many come at once: five wrong guesses, one success, one pending challenge, one final state, one event."""

from collections import Counter
from collections.abc import Callable

import pytest
from django.db import connection
from django.http import HttpResponse
from rest_framework.test import APIClient

from messaging.clients import issue_key
from messaging.models import Attempt, Event, Message
from tests.factories import ClientFactory, ProviderFactory
from tests.fleet import wait_for
from tests.messaging.stages import accepted, claim, settle
from tests.verification.parallel import together
from tests.verification.phone import URL, check, code_of, only, start, wrong_for
from verification import limits, maintenance
from verification.models import Bucket, Challenge, CodeAttempt, Profile

pytestmark = pytest.mark.django_db(transaction=True)

Call = Callable[[], HttpResponse]


@pytest.fixture(autouse=True)
def provider(db, unlimited):
    return ProviderFactory(slug="carrier-a", price="0.04")


@pytest.fixture
def http(client_row) -> Callable[[], APIClient]:
    return keyed(client_row)


def keyed(client_row) -> Callable[[], APIClient]:
    """A client of its own for each thread."""
    token = issue_key(client_row)

    def made() -> APIClient:
        found = APIClient()
        found.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return found

    return made


def guess(http, reference: str, code: str) -> Call:
    return lambda: check(http(), reference, code)


def post(http, path: str) -> Call:
    return lambda: http().post(f"{URL}/{path}")


def closing_events(reference: str) -> list[str]:
    return list(Event.objects.filter(subject=reference).values_list("type", flat=True))


def is_ready_for_a_resend() -> None:
    Challenge.objects.update(resend_at=only().created_at)


def test_two_hundred_wrong_guesses_count_five_and_lock(http):
    reference = start(http())
    wrong = wrong_for(reference)

    answers = together([guess(http, reference, wrong)] * 200)

    assert {answer.status_code for answer in answers} == {200}
    bodies = [answer.json() for answer in answers]
    assert sorted(body["attempts_left"] for body in bodies if body["attempts_left"]) == [1, 2, 3, 4]
    assert Counter(body["status"] for body in bodies) == {"pending": 4, "locked": 196}
    assert (only().checks, only().status, only().seed) == (5, "locked", None)
    assert closing_events(reference) == ["verification.locked"]


def test_fifty_right_guesses_have_one_success(http):
    reference = start(http())
    code = code_of(reference)

    bodies = [answer.json() for answer in together([guess(http, reference, code)] * 50)]

    assert Counter((body["valid"], body["status"]) for body in bodies) == {(True, "verified"): 1, (False, "used"): 49}
    assert sum("result_token" in body for body in bodies) == 1
    assert (only().checks, only().seed) == (0, None)
    assert closing_events(reference) == ["verification.verified"]


def test_repeats_of_one_check_under_its_key_all_have_its_token(http):
    reference = start(http())
    body = {"code": code_of(reference), "purpose": "login"}

    def once():
        return http().post(f"{URL}/{reference}/check", body, format="json", HTTP_IDEMPOTENCY_KEY="key-1")

    answers = together([once] * 30)

    assert len({answer.json()["result_token"] for answer in answers}) == 1
    assert sum(answer.get("Idempotency-Replayed") == "true" for answer in answers) == 29
    assert closing_events(reference) == ["verification.verified"]


@pytest.mark.parametrize("round_", range(5))
def test_right_and_wrong_guesses_end_in_one_state(http, round_):
    reference = start(http())
    code, wrong = code_of(reference), wrong_for(reference)

    answers = together([guess(http, reference, code), *[guess(http, reference, wrong)] * 7] * 4, threads=32)

    valid = sum(answer.json()["valid"] for answer in answers)
    row = only()
    assert (row.status, valid) in {("verified", 1), ("locked", 0)}
    assert row.checks == 5 if row.status == "locked" else row.checks < 5
    assert closing_events(reference) == [f"verification.{row.status}"]


def test_wrong_guesses_over_several_challenges_of_a_number_count_exactly_the_limit(http, settings):
    """The guess that finds the limit full closes its challenge, and is counted there only."""
    settings.VERIFY_LIMITS = {**settings.VERIFY_LIMITS, "failed_hour": 10}
    owners = [http, *(keyed(ClientFactory()) for _ in range(2))]
    references = [start(owner()) for owner in owners]
    Challenge.objects.update(max_checks=100)
    guesses = [guess(owner, one, wrong_for(one)) for owner, one in zip(owners, references, strict=True)]

    answers = together(guesses * 20, threads=30)

    assert {answer.status_code for answer in answers} == {200}
    assert Bucket.objects.get(kind="failed", span=limits.HOUR).n == 10
    assert {(row.status, row.reason) for row in Challenge.objects.all()} == {("locked", "too_many_failures")}
    assert sum(row.checks for row in Challenge.objects.all()) == 10 + 3
    assert all(closing_events(one) == ["verification.locked"] for one in references)


def test_fifty_starts_for_one_number_leave_one_pending(http):
    references = together([lambda: start(http())] * 50)

    assert len(set(references)) == 50
    (left,) = Challenge.objects.filter(status="pending").values_list("reference", flat=True)
    for reference in set(references) - {left}:
        assert closing_events(reference) == ["verification.cancelled"]
    assert closing_events(left) == []
    assert Challenge.objects.filter(status="cancelled", reason="newer_start", seed=None).count() == 49


def test_starts_under_one_key_are_one_start(http):
    def once():
        body = {"to": "+380671234567", "purpose": "login"}
        return http().post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="key-1")

    answers = together([once] * 20)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["reference"] for answer in answers}) == 1
    assert (Challenge.objects.count(), Message.objects.count()) == (1, 1)


def test_one_of_many_resends_passes(http):
    reference = start(http())
    is_ready_for_a_resend()

    answers = together([post(http, f"{reference}/resend")] * 20)

    assert Counter(answer.status_code for answer in answers) == {202: 1, 429: 19}
    assert (only().sends, Message.objects.count()) == (2, 2)


def test_token_is_redeemed_once(http):
    reference = start(http())
    token = check(http(), reference, code_of(reference)).json()["result_token"]

    def redeem():
        return http().post(f"{URL}/redeem", {"token": token, "purpose": "login"}, format="json")

    answers = together([redeem] * 30)

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 29}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"already_redeemed"}


@pytest.mark.parametrize("round_", range(5))
def test_resend_beside_the_right_code(http, round_):
    reference = start(http())
    code = code_of(reference)
    is_ready_for_a_resend()

    again, right = together([post(http, f"{reference}/resend"), guess(http, reference, code)])

    assert right.json()["valid"] is True
    assert again.status_code in (202, 409)
    assert Message.objects.count() == (2 if again.status_code == 202 else 1)
    assert closing_events(reference) == ["verification.verified"]


@pytest.mark.parametrize("round_", range(5))
def test_cancel_beside_the_right_code_has_one_winner(http, round_):
    reference = start(http())
    code = code_of(reference)

    cancels_and_guesses = [post(http, f"{reference}/cancel"), guess(http, reference, code)] * 8
    answers = together(cancels_and_guesses)

    status = only().status
    cancels = {answer.status_code for answer in answers[::2]}
    valid = sum(answer.json()["valid"] for answer in answers[1::2])
    assert (status, cancels, valid) in [("cancelled", {200}, 0), ("verified", {409}, 1)]
    assert closing_events(reference) == [f"verification.{status}"]


def test_expiry_beside_starts_and_checks_closes_each_once(http):
    references = [start(http(), to=f"+38067123456{digit}") for digit in range(10)]
    codes = [code_of(reference) for reference in references]
    Challenge.objects.update(expires_at=Challenge.objects.earliest("created_at").created_at)

    works = [guess(http, reference, code) for reference, code in zip(references, codes, strict=True)]
    works += [lambda digit=digit: start(http(), to=f"+38067123456{digit}") for digit in range(10)]
    together([*works, *[maintenance.expire] * 5])

    for reference in references:
        assert closing_events(reference) in (["verification.expired"], ["verification.cancelled"])


def drained(times: int = 1) -> Callable[[], None]:
    """A worker: claims what is due and has it accepted."""

    def work() -> None:
        for _ in range(times):
            for offer in claim("otp", limit=5):
                settle(offer, accepted(str(offer.attempt_id)))

    return work


def is_drained() -> bool:
    """A message may have been put off for a moment, since its provider has a rate."""
    drained()()
    return not Message.objects.filter(status__in=("queued", "sending")).exists()


@pytest.mark.parametrize("round_", range(3))
def test_worker_that_renders_beside_resends_checks_and_cancels_never_deadlocks(http, client_row, round_):
    """A claim holds messages and then changes challenges; a check changes its challenge and then messages."""
    Profile.objects.create(client=client_row, purpose="login", code_per_attempt=True, cooldowns=[1], max_sends=10)
    references = [start(http(), to=f"+38067123456{digit}") for digit in range(10)]
    Challenge.objects.update(resend_at=Challenge.objects.earliest("created_at").created_at)
    before = deadlocks()

    works = []
    for number, reference in enumerate(references):
        works += [post(http, f"{reference}/resend"), guess(http, reference, "0"), drained(5)]
        works += [post(http, f"{reference}/cancel") if number % 3 == 0 else guess(http, reference, "1")]
    answers = [answer for answer in together(works) if answer is not None]
    wait_for(is_drained)

    assert deadlocks() == before
    assert {answer.status_code for answer in answers} <= {200, 202, 409}
    assert CodeAttempt.objects.count() == Attempt.objects.count()


def test_two_workers_with_two_messages_of_the_same_challenges_never_deadlock(http, client_row):
    Profile.objects.create(client=client_row, purpose="login", code_per_attempt=True, cooldowns=[1], max_sends=10)
    references = [start(http(), to=f"+38067123456{digit}") for digit in range(10)]
    for _ in range(6):
        Challenge.objects.update(resend_at=Challenge.objects.earliest("created_at").created_at)
        for reference in references:
            assert http().post(f"{URL}/{reference}/resend").status_code == 202
    shuffle_due()
    before = deadlocks()

    together([drained(4)] * 8)
    wait_for(is_drained)

    assert deadlocks() == before
    assert set(Challenge.objects.filter(reference__in=references).values_list("generation", flat=True)) == {7}


def shuffle_due() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE messaging_message SET not_before = clock_timestamp() - random() * interval '9 seconds'")


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])
