import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import connection
from rest_framework.test import APIClient

from messaging import tasks
from messaging.clients import issue_key
from messaging.models import Event, IdempotencyKey, Message, Suppression
from tests.factories import ProviderFactory
from tests.messaging.door import GOOD, URL, assert_problem, nothing_stored

pytestmark = pytest.mark.django_db
BATCH = f"{URL}/batch"
MANY = [{**GOOD, "reference": f"order-{n}"} for n in range(3)]


@pytest.fixture(autouse=True)
def provider(db):
    return ProviderFactory(price="0.045")


@pytest.fixture
def post(api):
    def post(items, **headers):
        return api.post(BATCH, json.dumps({"messages": items}), content_type="application/json", **headers)

    return post


def bearer(token):
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return http


# --- items ------------------------------------------------------------------------------------------


def test_what_is_right_is_stored_and_every_item_is_answered_in_its_place(post):
    answer = post([MANY[0], {**GOOD, "to": "x"}, MANY[1], 7, {**GOOD, "to": "+919876543210"}, MANY[2]])

    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["rejected"]) == (3, 3)
    assert [result["index"] for result in body["results"]] == [0, 1, 2, 3, 4, 5]
    ids = [body["results"][place]["id"] for place in (0, 2, 5)]
    assert [(str(message.id), message.reference) for message in Message.objects.order_by("id")] == [
        (ids[0], "order-0"),
        (ids[1], "order-1"),
        (ids[2], "order-2"),
    ]
    codes = {result["index"]: result["error"]["code"] for result in body["results"] if "error" in result}
    assert codes == {1: "validation_failed", 3: "validation_failed", 4: "no_route"}
    assert set(Event.objects.values_list("subject", "type")) == {(id, "message.accepted") for id in ids}


@pytest.mark.parametrize(
    "item",
    [
        {**GOOD, "to": "+38067", "text": "", "class": 1, "hidden": 1},
        {**GOOD, "to": "+919876543210"},
        {**GOOD, "to": "+380671234599"},
        {"to": GOOD["to"], "template": "nothing"},
        {**GOOD, "reference": "\ud800"},
        [GOOD],
        None,
        {},
    ],
)
def test_a_wrong_item_has_the_problem_that_it_would_have_alone(api, post, item):
    Suppression.objects.create(msisdn="+380671234599", reason="opted_out")

    with nothing_stored():
        alone = api.post(URL, json.dumps(item), content_type="application/json").json()
        batch = post([item])

    assert batch.status_code == 202
    assert batch.json() == {"accepted": 0, "rejected": 1, "results": [{"index": 0, "error": alone}]}


def test_a_right_item_is_stored_as_it_would_be_alone(api, post, client_row):
    client_row.templates.create(name="greeting", text="Hello {name}")
    item: dict = {"to": "+380 67 123 45 67", "template": "greeting", "params": {"name": "Олена"}, "class": "bulk"}
    item |= {"sender": "MEXAR", "validity_seconds": 60, "reference": "a", "metadata": {"b": "ї"}}

    alone = api.post(URL, item, format="json").json()["id"]
    among_others = post([MANY[0], item]).json()["results"][1]["id"]

    varying = ("id", "created_at", "expires_at", "not_before")
    first, second = [
        {name: value for name, value in found.items() if name not in varying}
        for found in Message.objects.filter(pk__in=[alone, among_others]).values()
    ]
    assert first == second


def test_a_thousand_are_stored_in_one_statement(post, django_assert_max_num_queries):
    post([GOOD])

    with django_assert_max_num_queries(3):  # at most the versions of two tables beside it
        body = post([GOOD] * 1000).json()

    assert (body["accepted"], body["rejected"]) == (1000, 0)
    ids = [result["id"] for result in body["results"]]
    assert ids == sorted(ids)
    assert Message.objects.count() == Event.objects.count() == 1001


def test_an_otp_needs_its_scope_and_the_others_do_not(client_row):
    http = bearer(issue_key(client_row, scopes=["send"]))

    body = http.post(BATCH, {"messages": [{**GOOD, "class": "otp"}, GOOD]}, format="json").json()

    assert (body["results"][0]["error"]["status"], body["results"][0]["error"]["code"]) == (403, "missing_scope")
    assert str(Message.objects.get().id) == body["results"][1]["id"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key", [None, "key-1"])
def test_every_lane_that_has_work_is_woken(post, key):
    broker = tasks.ACTORS["bulk"].broker
    broker.flush_all()

    post(
        [{**GOOD, "class": "bulk"}, {**GOOD, "class": "otp"}, {**GOOD, "class": "transactional", "to": ""}],
        **({"HTTP_IDEMPOTENCY_KEY": key} if key else {}),
    )

    broker.queues["bulk"].get(timeout=5)
    broker.queues["otp"].get(timeout=5)
    assert broker.queues["transactional"].empty()


# --- the batch itself -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("messages", "required")]),
        ({"messages": None}, [("messages", "required")]),
        ({"messages": []}, [("messages", "empty")]),
        ({"messages": [GOOD] * 1001}, [("messages", "too_many")]),
        ({"messages": {"0": GOOD}}, [("messages", "wrong_type")]),
        ({"messages": "x"}, [("messages", "wrong_type")]),
        ({"messages": [GOOD], "class": "bulk"}, [("class", "unknown_field")]),
        ({"message": [GOOD]}, [("message", "unknown_field"), ("messages", "required")]),
        ([GOOD], [("", "wrong_type")]),
        (None, [("", "wrong_type")]),
    ],
)
@pytest.mark.parametrize("key", [None, "key-1"])
def test_a_batch_that_is_no_list_of_messages(api, body, errors, key):
    headers = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}

    with nothing_stored():
        answer = api.post(BATCH, json.dumps(body), content_type="application/json", **headers)

    assert_problem(answer, 422, "validation_failed", *errors)


def test_a_key_without_the_scope_send(client_row):
    http = bearer(issue_key(client_row, scopes=["read", "otp"]))

    with nothing_stored():
        answer = http.post(BATCH, {"messages": [GOOD]}, format="json")

    assert_problem(answer, 403, "missing_scope")


def test_without_a_key(provider):
    with nothing_stored():
        answer = APIClient().post(BATCH, {"messages": [GOOD]}, format="json")

    assert_problem(answer, 401, "invalid_api_key")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options"])
def test_a_batch_is_only_posted(api, method):
    answer = getattr(api, method)(BATCH)

    assert_problem(answer, 405, "method_not_allowed")
    assert answer["Allow"] == "POST"


@pytest.mark.parametrize(("over", "status"), [(0, 202), (1, 413)])
def test_a_body_may_have_four_megabytes(api, over, status):
    body = json.dumps({"messages": [GOOD]}).encode().ljust(4 * 1024**2 + over)

    answer = api.generic("POST", BATCH, body, content_type="application/json")

    assert answer.status_code == status


def test_a_body_over_the_limit_is_refused_unread(api):
    class Untouchable(io.RawIOBase):
        def read(self, size=-1):
            raise AssertionError("the body was read")

    with nothing_stored():
        answer = api.post(
            BATCH,
            {"messages": [GOOD]},
            format="json",
            **{"CONTENT_LENGTH": str(settings.BATCH_BODY_LIMIT + 1), "wsgi.input": Untouchable()},
        )

    assert_problem(answer, 413, "body_too_large")


# --- Idempotency-Key --------------------------------------------------------------------------------


def test_a_repeat_of_a_batch_gets_the_first_answer(post):
    items = [*MANY, {**GOOD, "to": "x"}]
    first = post(items, HTTP_IDEMPOTENCY_KEY="key-1")

    with nothing_stored():
        second = post(items, HTTP_IDEMPOTENCY_KEY="key-1")

    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    assert (second.status_code, second.json()) == (202, first.json())


def test_a_batch_in_which_nothing_was_right_is_replayed_too(post):
    first = post([{}], HTTP_IDEMPOTENCY_KEY="key-1")

    again = post([{}], HTTP_IDEMPOTENCY_KEY="key-1")
    corrected = post([GOOD], HTTP_IDEMPOTENCY_KEY="key-1")

    assert (again.json(), again["Idempotency-Replayed"]) == (first.json(), "true")
    assert_problem(corrected, 422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MANY, MANY[:2]),
        (MANY, MANY[::-1]),
        ([GOOD, {"to": "\ud800"}], [GOOD, {"to": "\ud801"}]),
        ([GOOD, {"to": 10**30}], [GOOD, GOOD, {"to": 10**30}]),
        ([GOOD, json.loads("[" * 300 + "]" * 300)], [{**GOOD, "text": "b"}, json.loads("[" * 300 + "]" * 300)]),
    ],
    ids=["fewer", "order", "surrogate", "integer", "nesting"],
)
def test_another_batch_under_the_same_key_is_refused(post, one, other):
    assert post(one, HTTP_IDEMPOTENCY_KEY="key-1").status_code == 202

    with nothing_stored():
        answer = post(other, HTTP_IDEMPOTENCY_KEY="key-1")

    assert_problem(answer, 422, "idempotency_mismatch")


def test_the_same_body_is_another_request_at_another_address(api, post):
    post([GOOD], HTTP_IDEMPOTENCY_KEY="key-1")

    with nothing_stored():
        answer = api.post(URL, {"messages": [GOOD]}, format="json", HTTP_IDEMPOTENCY_KEY="key-1")

    assert_problem(answer, 422, "idempotency_mismatch")


@pytest.mark.django_db(transaction=True)
def test_parallel_repeats_of_a_batch_store_it_once(client_row):
    token = issue_key(client_row)
    start = threading.Barrier(10)

    def send():
        start.wait(20)
        try:
            return bearer(token).post(BATCH, {"messages": MANY}, format="json", HTTP_IDEMPOTENCY_KEY="key-1")
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        answers = [found.result() for found in [pool.submit(send) for _ in range(10)]]

    assert {answer.status_code for answer in answers} == {202}
    assert len({json.dumps(answer.json(), sort_keys=True) for answer in answers}) == 1
    assert sum(answer.get("Idempotency-Replayed") == "true" for answer in answers) == 9
    assert (Message.objects.count(), Event.objects.count(), IdempotencyKey.objects.count()) == (3, 3, 1)
