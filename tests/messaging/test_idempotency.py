import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import F
from rest_framework.test import APIClient

from messaging import storing
from messaging.clients import issue_key
from messaging.models import Event, IdempotencyKey, Message
from providers.sql import rows
from tests.factories import ClientFactory, ProviderFactory
from tests.messaging.door import GOOD, URL, assert_problem, nothing_stored

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def provider(transactional_db):
    return ProviderFactory(price="0.045")


@pytest.fixture
def post(api):
    return lambda data, key, **extra: api.post(URL, data, format="json", HTTP_IDEMPOTENCY_KEY=key, **extra)


def test_fifty_parallel_posts_make_one_message(client_row):
    token = issue_key(client_row)
    start = threading.Barrier(50)

    def post():
        http = APIClient()
        start.wait(20)
        try:
            return http.post(
                URL, GOOD, format="json", HTTP_IDEMPOTENCY_KEY="key-1", HTTP_AUTHORIZATION=f"Bearer {token}"
            )
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        answers = [found.result() for found in [pool.submit(post) for _ in range(50)]]

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({str(sorted(answer.json().items(), key=str)) for answer in answers}) == 1
    assert sum(answer.get("Idempotency-Replayed") == "true" for answer in answers) == 49
    assert (Message.objects.count(), Event.objects.count(), IdempotencyKey.objects.count()) == (1, 1, 1)


def test_a_repeat_gets_the_first_answer(post):
    first = post(GOOD, "key-1")
    Message.objects.update(status="sent")

    second = post(GOOD, "key-1")

    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    assert (second.status_code, second.json()) == (first.status_code, first.json())


def test_the_order_of_names_does_not_make_another_request(post):
    post({"to": GOOD["to"], "text": "a", "metadata": {"a": "1", "b": "2"}}, "key-1")

    again = post({"metadata": {"b": "2", "a": "1"}, "text": "a", "to": GOOD["to"]}, "key-1")

    assert again["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("change", [{"text": "Another"}, {"to": "+380671234568"}, {"reference": ""}, {"hidden": 1}])
def test_another_request_under_the_same_key_is_refused(post, change):
    post(GOOD, "key-1")

    with nothing_stored():
        answer = post({**GOOD, **change}, "key-1")

    assert_problem(answer, 422, "idempotency_mismatch")


@pytest.mark.parametrize("body", ['{"text": "\\ud800"}', '{"to": ' + "9" * 30 + "}", '{"a":' * 300 + "1" + "}" * 300])
def test_another_request_that_cannot_be_written_is_refused_too(api, post, body):
    post(GOOD, "key-1")

    with nothing_stored():
        known = api.post(URL, body, content_type="application/json", HTTP_IDEMPOTENCY_KEY="key-1")
        fresh = api.post(URL, body, content_type="application/json", HTTP_IDEMPOTENCY_KEY="key-2")

    assert_problem(known, 422, "idempotency_mismatch")
    assert_problem(fresh, 422, "validation_failed")


def test_the_quoted_and_the_bare_form_are_one_key(post):
    first = post(GOOD, '"key-1"').json()

    again = post(GOOD, "key-1")

    assert (again.json(), again["Idempotency-Replayed"]) == (first, "true")


@pytest.mark.parametrize(
    "key", ["k", "k" * 255, '"' + "k" * 255 + '"', "!#$%&'()*+,-./:;<=>?@[]^_`{|}~", '"', '""', 'a"b']
)
def test_every_visible_character_makes_a_key(post, key):
    assert post(GOOD, key).status_code == 202
    assert post(GOOD, key)["Idempotency-Replayed"] == "true"


def test_a_refused_request_does_not_burn_its_key(post):
    with nothing_stored():
        refused = post({**GOOD, "text": ""}, "key-1")

    taken = post(GOOD, "key-1")

    assert_problem(refused, 422, "validation_failed", ("text", "empty"))
    assert taken.status_code == 202
    assert "Idempotency-Replayed" not in taken


def test_another_clients_key_is_another_key(post):
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(ClientFactory())}")

    mine = post(GOOD, "key-1").json()["id"]
    theirs = http.post(URL, {**GOOD, "text": "Theirs"}, format="json", HTTP_IDEMPOTENCY_KEY="key-1")

    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine


def test_without_a_key_every_request_is_a_message(api):
    ids = {api.post(URL, GOOD, format="json").json()["id"] for _ in range(2)}

    assert len(ids) == 2


def test_what_would_be_refused_by_now_is_still_replayed(post, provider, settings):
    settings.SNAPSHOT_MAX_AGE = 0
    first = post(GOOD, "key-1").json()
    provider.enabled = False
    provider.save()
    Message.objects.all().delete()

    again = post(GOOD, "key-1")
    fresh = post(GOOD, "key-2")

    assert (again.status_code, again.json()) == (202, first)
    assert_problem(fresh, 422, "no_route")


def test_a_first_request_that_is_still_running(post, client_row, monkeypatch):
    monkeypatch.setattr(storing, "LOCK_WAIT", "200ms")
    held, release = threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic():
                rows(
                    "INSERT INTO messaging_idempotencykey (client_id, key, fingerprint, expires_at) "
                    "VALUES (%(client)s, 'key-1', '\\x00', now() + interval '1 day')",
                    {"client": client_row.pk},
                )
                held.set()
                release.wait(20)
                transaction.set_rollback(True)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    started = time.monotonic()

    running = post(GOOD, "key-1")
    waited = time.monotonic() - started
    release.set()
    thread.join(20)
    afterwards = post(GOOD, "key-1")

    assert_problem(running, 409, "idempotency_in_progress")
    assert running["Retry-After"] == "1"
    assert 0.15 < waited < 3
    assert afterwards.status_code == 202
    assert "Idempotency-Replayed" not in afterwards


def test_an_answer_is_kept_for_a_week(post):
    post(GOOD, "key-1")

    key = IdempotencyKey.objects.annotate(created_at=F("expires_at") - timedelta(days=7)).get()

    assert abs(key.created_at - Message.objects.get().created_at) < timedelta(seconds=5)
