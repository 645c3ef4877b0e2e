"""Limits of a client: exact over threads and processes, by the clock of the database."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.db.models import F

from messaging import intake, quotas
from messaging.clients import issue_key
from messaging.errors import InvalidRequest, QuotaExceeded, RateLimited, Refusal
from messaging.models import IdempotencyKey, Message, Suppression, Usage
from providers.sql import rows
from tests.conftest import caller_for, free_ports
from tests.factories import ClientFactory, ProviderFactory
from tests.fleet import Fleet
from tests.messaging.door import GOOD, URL, assert_problem, nothing_stored

pytestmark = pytest.mark.django_db(transaction=True)
BATCH = f"{URL}/batch"


@pytest.fixture(autouse=True)
def provider(transactional_db):
    return ProviderFactory(price="0.045")


@pytest.fixture
def post(api):
    return lambda data=GOOD, url=URL, **headers: api.post(url, data, format="json", **headers)


@pytest.fixture
def short_day(monkeypatch):
    """Days of two seconds; the test begins with one."""
    monkeypatch.setattr(quotas, "DAY", 2)
    next_window(2)


def limited(client, **limits):
    for name, value in limits.items():
        setattr(client, name, value)
    client.save()
    return caller_for(client)


def database_time():
    ((moment,),) = rows("SELECT extract(epoch FROM clock_timestamp())::float8")
    return moment


def window(span):
    return int(database_time() // span)


def next_window(span):
    time.sleep(span - database_time() % span)


def accept(caller):
    """True for an accepted message, else the refusal."""
    try:
        return intake.accept(caller, GOOD).status == 202
    except Refusal as refusal:
        return refusal


def accept_many(caller, count):
    return Counter(type(accept(caller)) for _ in range(count))


def in_threads(work, count, threads=50):
    """What `count` calls give, begun together in so many threads."""
    start = threading.Barrier(threads)

    def run():
        try:
            start.wait(20)
            return [work() for _ in range(count // threads)]
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return [one for future in [pool.submit(run) for _ in range(threads)] for one in future.result()]


def used(client):
    return Usage.objects.get(client=client, span=quotas.DAY).used


# --- exact ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quota", [10, 200])
def test_of_300_parallel_messages_exactly_the_quota_is_accepted(client_row, quota):
    caller = limited(client_row, daily_quota=quota)

    found = in_threads(lambda: accept(caller), 300)

    assert Counter(map(type, found)) == {bool: quota, QuotaExceeded: 300 - quota}
    assert Message.objects.count() == quota


def test_a_transaction_beside_the_others_is_exact_too(client_row):
    caller = limited(client_row, daily_quota=10)

    def work():
        with transaction.atomic():
            return accept(caller)

    found = in_threads(lambda: accept(caller) if threading.get_native_id() % 2 else work(), 100)

    assert sum(one is True for one in found) == Message.objects.count() == 10


def test_processes_share_a_quota_and_all_of_it_is_reachable(client_row, tmp_path):
    limited(client_row, daily_quota=150)
    token, port = issue_key(client_row), free_ports(2)

    def post(number):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port + number % 2}{URL}",
            data=json.dumps(GOOD).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.status

    with Fleet(tmp_path, BROKER_URL="stub://") as fleet:
        for number in range(2):
            fleet.web(port + number)
        with ThreadPoolExecutor(8) as pool:
            found = Counter(pool.map(post, range(400)))

    assert found == {202: 150, 429: 250}
    assert Message.objects.count() == 150


def test_a_rate_is_never_exceeded_and_is_reached(client_row):
    caller = limited(client_row, rate_limit=40)
    next_window(1)
    first, end = window(1), time.monotonic() + 3.5

    def work():
        while time.monotonic() < end:
            accept(caller)

    in_threads(work, 4, threads=4)

    windows = window(1) - first + 1
    assert 40 * (windows - 1) <= Message.objects.count() <= 40 * windows
    assert windows >= 4


def test_most_messages_ask_no_row(client_row):
    caller = limited(client_row, daily_quota=10_000)

    accept(caller)
    first = used(client_row)
    accept_many(caller, quotas.BLOCK - 1)

    assert first == used(client_row) == quotas.BLOCK


def test_near_the_limit_nothing_is_kept_from_other_processes(client_row):
    caller = limited(client_row, daily_quota=10)
    accept_many(caller, 5)

    quotas.forget()  # as another process

    assert accept_many(caller, 6) == {bool: 5, QuotaExceeded: 1}


def test_a_process_that_is_gone_takes_no_more_than_its_block(client_row):
    caller = limited(client_row, daily_quota=1000)
    accept(caller)

    quotas.forget()

    assert accept_many(caller, 1000)[bool] >= 1000 - quotas.BLOCK


def test_without_limits_nothing_is_counted(caller):
    accept(caller)

    assert not Usage.objects.exists()
    assert not quotas._pools


# --- windows ----------------------------------------------------------------------------------------


def test_a_new_day_has_its_whole_quota(client_row, short_day):
    caller = limited(client_row, daily_quota=5)
    first = accept_many(caller, 6)

    next_window(2)

    assert first == accept_many(caller, 6) == {bool: 5, QuotaExceeded: 1}


def test_what_is_left_of_a_day_is_not_spent_in_the_next(client_row, short_day):
    caller = limited(client_row, daily_quota=100)
    accept(caller)

    next_window(2)

    assert accept_many(caller, 110)[bool] == 100


def test_a_clock_that_goes_back_hands_nothing_out_again(client_row):
    caller = limited(client_row, daily_quota=5)
    accept_many(caller, 3)
    Usage.objects.update(period=F("period") + 1)  # written by a clock that was a day ahead
    ahead = Usage.objects.get().period
    quotas.forget()

    assert accept_many(caller, 3) == {bool: 2, QuotaExceeded: 1}
    assert Usage.objects.get().period == ahead


def test_a_window_that_ends_unnoticed_takes_its_rest_along(client_row):
    caller = limited(client_row, daily_quota=100)
    accept(caller)
    Usage.objects.update(period=F("period") + 1, used=0)  # by another process, whose clock is ahead of this one's

    results = intake.accept_many(caller, [GOOD] * 120)

    assert sum(not isinstance(result, Refusal) for result in results) == used(client_row) == 100


def test_a_lease_is_renewed_before_the_clocks_drift_apart(client_row, monkeypatch):
    caller = limited(client_row, daily_quota=1000)
    monkeypatch.setattr(quotas, "KEEP", 0.05)
    accept(caller)
    time.sleep(0.1)

    accept(caller)

    assert used(client_row) <= 1 + quotas.BLOCK  # the first lease's rest was handed back


@pytest.mark.parametrize(("limits", "error"), [({"rate_limit": 2}, RateLimited), ({"daily_quota": 2}, QuotaExceeded)])
def test_waiting_as_long_as_retry_after_says_helps(client_row, short_day, limits, error):
    caller = limited(client_row, **limits)
    refused = [found for found in (accept(caller) for _ in range(5)) if found is not True]

    time.sleep(refused[-1].retry_after)

    assert type(refused[-1]) is error
    assert refused[-1].retry_after >= 1
    assert accept(caller) is True


def test_the_day_ends_at_midnight_utc(post, client_row):
    limited(client_row, daily_quota=1)
    post()

    refused = post()

    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert_problem(refused, 429, "quota_exceeded")
    assert 0 <= int(refused["Retry-After"]) - (midnight - now).total_seconds() < 5
    assert refused.json()["retry_after"] == int(refused["Retry-After"])


def test_who_has_no_quota_left_is_not_told_to_come_back_in_a_second(post, client_row):
    limited(client_row, daily_quota=1, rate_limit=1)
    post()

    assert_problem(post(), 429, "quota_exceeded")


# --- what counts ------------------------------------------------------------------------------------


def test_refused_messages_do_not_count(post, client_row):
    limited(client_row, daily_quota=1, rate_limit=1000)
    Suppression.objects.create(msisdn="+380671234599", reason="opted_out")

    for key in (None, "key-1"):
        headers = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
        for wrong in ({**GOOD, "text": ""}, {**GOOD, "to": "+919876543210"}, {**GOOD, "to": "+380671234599"}):
            assert post(wrong, **headers).status_code == 422

    assert [post().status_code for _ in range(2)] == [202, 429]


def test_a_wrong_message_is_told_what_is_wrong_with_it_at_the_limit_too(post, client_row):
    limited(client_row, daily_quota=1)
    post()

    assert_problem(post({**GOOD, "text": ""}), 422, "validation_failed", ("text", "empty"))


def test_replays_do_not_count_and_are_answered_at_the_limit(post, client_row):
    limited(client_row, daily_quota=2)
    first = post(HTTP_IDEMPOTENCY_KEY="key-1").json()

    replays = [post(HTTP_IDEMPOTENCY_KEY="key-1") for _ in range(3)]
    others = [post().status_code for _ in range(2)]
    late = post(HTTP_IDEMPOTENCY_KEY="key-1")

    assert [replay.json() for replay in [*replays, late]] == [first] * 4
    assert others == [202, 429]


def test_reads_quotes_and_cancels_do_not_count(api, post, client_row):
    limited(client_row, daily_quota=1)
    message = post({**GOOD, "class": "bulk"}).json()

    found = [
        api.post("/api/v1/quotes", {"to": GOOD["to"], "text": "x"}, format="json"),
        api.get(f"{URL}/{message['id']}"),
        api.post(f"{URL}/{message['id']}/cancel"),
    ]

    assert [answer.status_code for answer in found] == [200, 200, 200]
    assert used(client_row) == 1


def test_a_key_stays_free_when_its_message_was_refused(post, client_row, short_day):
    limited(client_row, daily_quota=1)
    post()

    refused = post(HTTP_IDEMPOTENCY_KEY="key-1")
    keys = IdempotencyKey.objects.count()
    next_window(2)
    accepted = post(HTTP_IDEMPOTENCY_KEY="key-1")

    assert_problem(refused, 429, "quota_exceeded")
    assert keys == 0
    assert accepted.status_code == 202
    assert "Idempotency-Replayed" not in accepted


def test_a_transaction_that_is_rolled_back_has_used_nothing(client_row):
    caller = limited(client_row, daily_quota=100)

    for _ in range(3):
        with transaction.atomic():
            accept_many(caller, 5)
            transaction.set_rollback(True)

    assert accept_many(caller, 110) == {bool: 100, QuotaExceeded: 10}


def test_what_may_have_been_stored_counts(client_row):
    caller = limited(client_row, daily_quota=3)

    with pytest.raises(ConnectionError), quotas.reserve(caller, 1):
        raise ConnectionError

    assert accept_many(caller, 3) == {bool: 2, QuotaExceeded: 1}


# --- batches ----------------------------------------------------------------------------------------


def batch(*items):
    return {"messages": list(items)}


def test_of_a_batch_what_fits_is_accepted_and_the_rest_says_why(post, client_row):
    limited(client_row, daily_quota=2)

    answer = post(batch({**GOOD, "text": ""}, GOOD, GOOD, GOOD, {}, GOOD), BATCH)

    body = answer.json()
    assert (answer.status_code, body["accepted"], body["rejected"]) == (202, 2, 4)
    codes = [result.get("error", {}).get("code", "accepted") for result in body["results"]]
    accepted = ["accepted"] * 2
    assert codes == [
        "validation_failed",
        *accepted,
        "quota_exceeded",
        "validation_failed",
        "quota_exceeded",
    ]
    assert 1 <= body["results"][3]["error"]["retry_after"] <= 86_400
    assert Message.objects.count() == 2


def test_a_batch_for_which_there_is_no_room_is_refused_as_a_whole(post, client_row):
    limited(client_row, daily_quota=1)
    post()

    with nothing_stored():
        refused = post(batch(GOOD, {}, GOOD), BATCH, HTTP_IDEMPOTENCY_KEY="key-1")

    assert_problem(refused, 429, "quota_exceeded")
    assert int(refused["Retry-After"]) >= 1


def test_a_batch_of_wrong_items_is_answered_at_the_limit_too(post, client_row):
    limited(client_row, daily_quota=1)
    post()

    answer = post(batch({}, {**GOOD, "text": ""}), BATCH)

    assert (answer.status_code, answer.json()["rejected"]) == (202, 2)


def test_a_batch_that_is_no_list_is_told_so(post, client_row):
    limited(client_row, daily_quota=1)

    assert_problem(post({"messages": 7}, BATCH), 422, "validation_failed", ("messages", "wrong_type"))


def test_wrong_items_of_a_batch_leave_their_places_to_other_processes(post, client_row):
    caller = limited(client_row, daily_quota=20)

    post(batch(*[{}] * 15, GOOD), BATCH)
    quotas.forget()

    assert accept_many(caller, 20)[bool] >= 19 - 20 // quotas.SHARE


def test_many_at_once_are_cut_in_their_order(client_row):
    caller = limited(client_row, rate_limit=1000, daily_quota=3)

    results = intake.accept_many(caller, [{}, GOOD, GOOD, GOOD, GOOD])

    assert [type(result).__name__ for result in results] == [InvalidRequest.__name__, *["UUID"] * 3, "QuotaExceeded"]


# --- changed limits ---------------------------------------------------------------------------------


def test_a_changed_limit_holds_within_the_age_of_the_snapshot(post, client_row, settings):
    settings.SNAPSHOT_MAX_AGE = 0.2
    limited(client_row, daily_quota=200)
    assert post().status_code == 202

    limited(client_row, daily_quota=1)
    time.sleep(0.25)
    lowered = post()
    limited(client_row, daily_quota=3)
    time.sleep(0.25)
    raised = [post().status_code for _ in range(3)]
    limited(client_row, daily_quota=None)
    time.sleep(0.25)

    assert_problem(lowered, 429, "quota_exceeded")
    assert raised == [202, 202, 429]
    assert post().status_code == 202


def test_a_limit_below_what_is_used_refuses_until_the_next_day(client_row, short_day):
    accept_many(limited(client_row, daily_quota=50), 20)

    caller = limited(client_row, daily_quota=10)
    refused = accept(caller)
    next_window(2)

    assert isinstance(refused, QuotaExceeded)
    assert accept_many(caller, 12)[bool] == 10


def test_clients_do_not_share_their_limits(client_row):
    one, other = limited(client_row, daily_quota=1), limited(ClientFactory(), daily_quota=1)

    assert [accept(one), accept(other)] == [True, True]
