import json
import time
import uuid
from datetime import datetime, timedelta

import pytest
from django.db import connection
from rest_framework.test import APIClient

from messaging.clients import issue_key
from messaging.models import Message, Receipt
from messaging.states import AttemptStatus, Status
from tests.factories import AttemptFactory, ClientFactory, MessageFactory, ProviderFactory
from tests.messaging.door import GOOD, URL, assert_problem, contents, nothing_stored, receipt, signed

pytestmark = pytest.mark.django_db
UNKNOWN = "01a203fa-86af-750f-af8e-fb2b0c19d31d"


@pytest.fixture
def provider(db):
    return ProviderFactory(slug="carrier-a", price="0.045")


@pytest.fixture
def post(api, provider):
    return lambda data: api.post(URL, data, format="json")


# --- POST -------------------------------------------------------------------------------------------


def test_an_accepted_message_is_answered_and_stored(post, client_row):
    answer = post({**GOOD, "sender": "MEXAR", "reference": "order-1", "metadata": {"order": "1"}})

    assert answer.status_code == 202
    assert answer["Content-Type"] == "application/json"
    body = answer.json()
    message = Message.objects.get()
    created_at = datetime.fromisoformat(body.pop("created_at"))
    assert datetime.fromisoformat(body.pop("expires_at")) == created_at + timedelta(hours=4)
    assert body == {
        "id": str(message.id),
        "status": "queued",
        "to": "+380671234567",
        "class": "transactional",
        "country": "UA",
        "sender": "MEXAR",
        "encoding": "gsm7",
        "segments": 1,
        "estimated_cost": {"amount": "0.045000", "currency": "EUR"},
        "max_price": None,
        "reference": "order-1",
        "metadata": {"order": "1"},
        "possible_duplicate": False,
    }
    assert (message.client_id, message.text, message.status) == (client_row.id, GOOD["text"], Status.QUEUED)


def test_what_post_and_get_say_of_a_message_agrees(post, api):
    told = post({**GOOD, "text": "Привіт €", "reference": "a", "metadata": {"b": "ї"}}).json()

    shown = api.get(f"{URL}/{told['id']}").json()

    assert {name: shown[name] for name in told} == told


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"to": "+38067"}, "validation_failed", ("to", "not_possible")),
        ({"text": ""}, "validation_failed", ("text", "empty")),
        ({"text": "x\x00"}, "validation_failed", ("text", "bad_character")),
        ({"reference": "\ud800"}, "validation_failed", ("reference", "bad_character")),
        ({"metadata": {"\udfff": "x"}}, "validation_failed", ("metadata.?", "bad_name")),
        ({"validity_seconds": 1}, "validation_failed", ("validity_seconds", "out_of_range")),
        ({"hidden": 1}, "validation_failed", ("hidden", "unknown_field")),
        ({"to": "+919876543210"}, "no_route", None),
    ],
)
def test_a_refused_message_is_told_why_and_not_stored(api, provider, changes, code, field):
    # Escaped by hand: the test client's own encoder refuses lone surrogates.
    body = json.dumps({**GOOD, **changes})

    with nothing_stored():
        answer = api.post(URL, body, content_type="application/json")

    assert_problem(answer, 422, code, *filter(None, [field]))


@pytest.mark.parametrize(
    ("name", "params", "field"),
    [
        ("nothing", {}, ("template", "unknown_template")),
        ("greeting", {}, ("params.name", "missing_parameter")),
        ("greeting", {"name": "a", "age": "1"}, ("params.age", "unknown_parameter")),
        ("greeting", {"name": "\ud800"}, ("params.name", "bad_character")),
        ("greeting", {"name": "x" * 1530}, ("params", "too_long")),
        ("only", {"name": " "}, ("params", "empty")),
    ],
)
def test_a_template_that_cannot_be_filled_in(api, provider, client_row, name, params, field):
    client_row.templates.create(name="greeting", text="Hello {name}")
    client_row.templates.create(name="only", text="{name}")
    body = json.dumps({"to": GOOD["to"], "template": name, "params": params})

    with nothing_stored():
        answer = api.post(URL, body, content_type="application/json")

    assert_problem(answer, 422, "validation_failed", field)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/json", 400, "invalid_json"),
        (b"{", "application/json", 400, "invalid_json"),
        (b'{"to": "+380671234567", "to": "+380671234568", "text": "a"}', "application/json", 400, "invalid_json"),
        (b'{"text": "\xff"}', "application/json", 400, "invalid_json"),
        (b"[" * 60_000, "application/json", 400, "invalid_json"),
        (b"to=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"x" * 65_537, "application/json", 413, "body_too_large"),
        (b"x" * 5_000_000, "application/json", 413, "body_too_large"),
        (b"[]", "application/json", 422, "validation_failed"),
        (b'"text"', "application/json", 422, "validation_failed"),
        (b"null", "application/json", 422, "validation_failed"),
    ],
)
@pytest.mark.parametrize("key", [None, "key-1"])
def test_a_body_that_cannot_be_read(api, provider, body, content_type, status, code, key):
    headers = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}

    with nothing_stored():
        answer = api.generic("POST", URL, body, content_type=content_type, **headers)

    assert_problem(answer, status, code)


@pytest.mark.parametrize("key", ["", " ", "a b", "ключ", "k" * 256, "\x00", "a\nb", '"' + "k" * 256 + '"', "é"])
def test_an_idempotency_key_that_is_none(api, provider, key):
    with nothing_stored():
        answer = api.post(URL, GOOD, format="json", HTTP_IDEMPOTENCY_KEY=key)

    assert_problem(answer, 422, "validation_failed", ("Idempotency-Key", "bad_format"))


def test_no_provider_at_all(api):
    with nothing_stored():
        answer = api.post(URL, GOOD, format="json")

    assert_problem(answer, 422, "no_route")


# --- GET one ----------------------------------------------------------------------------------------


def test_a_message_with_every_attempt_in_order(api, client_row, provider):
    message = MessageFactory(client=client_row, status=Status.SENT, possible_duplicate=True)
    AttemptFactory(message=message, provider=provider, seq=2, status=AttemptStatus.ACCEPTED, cost="0.045")
    AttemptFactory(message=message, provider=provider, seq=1, status=AttemptStatus.REJECTED, error_code="no_route")

    body = api.get(f"{URL}/{message.id}").json()

    assert body["possible_duplicate"] is True
    first, second = body["attempts"]
    assert (first["provider"], first["status"], first["error_code"]) == ("carrier-a", "rejected", "no_route")
    assert (second["status"], second["cost"], second["finished_at"]) == ("accepted", "0.045000", None)
    assert "text" not in body


def test_another_clients_message_answers_exactly_like_an_unknown_one(api):
    foreign = MessageFactory()

    theirs, nobodys = api.get(f"{URL}/{foreign.id}"), api.get(f"{URL}/{UNKNOWN}")

    assert_problem(theirs, 404, "not_found")
    assert (theirs.content, dict(theirs.items())) == (nobodys.content, dict(nobodys.items()))


@pytest.mark.parametrize(
    "path",
    [
        f"{URL}/1",
        f"{URL}/{UNKNOWN}x",
        f"{URL}/{UNKNOWN}/",
        f"{URL}/{UNKNOWN}/nothing",
        f"{URL}/",
        f"{URL}/%00",
        f"{URL}/%ED%A0%80",
        f"{URL}/%FF",
        f"{URL}/+380671234567",
        "/api/v1/nothing",
        "/api/",
        "/api/v2/messages",
        "/receipts/",
        "/",
        "/nothing",
        "/.env",
        "/administration",
        "/api/schema",
        "/" + "x" * 5000,
    ],
)
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("debug", [False, True])
def test_an_unknown_address_is_a_problem_too(api, path, method, debug, settings):
    settings.DEBUG = debug

    answer = api.generic(method.upper(), path, b"{}", content_type="application/json")

    assert_problem(answer, 404, "not_found")


# --- GET many ---------------------------------------------------------------------------------------


def test_pages_are_complete_and_newest_first(api, client_row):
    mine = [MessageFactory(client=client_row).id for _ in range(7)]
    MessageFactory()

    seen, cursor = [], ""
    for _ in range(4):
        page = api.get(URL, {"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen.append([row["id"] for row in page["results"]])
        cursor = page["next_cursor"]

    assert [len(ids) for ids in seen] == [2, 2, 2, 1]
    assert [uuid.UUID(row) for ids in seen for row in ids] == sorted(mine, reverse=True)
    assert cursor is None


def test_a_full_last_page_has_no_next(api, client_row):
    MessageFactory.create_batch(2, client=client_row)

    assert api.get(URL, {"limit": 2}).json()["next_cursor"] is None


def test_a_message_that_comes_while_paging_moves_nothing(api, client_row):
    MessageFactory.create_batch(3, client=client_row)
    first = api.get(URL, {"limit": 2}).json()

    MessageFactory(client=client_row)
    second = api.get(URL, {"limit": 2, "cursor": first["next_cursor"]}).json()

    assert len(second["results"]) == 1
    assert not {row["id"] for row in second["results"]} & {row["id"] for row in first["results"]}


def test_a_page_of_another_clients_position_shows_ones_own_only(api, client_row):
    mine = MessageFactory(client=client_row)
    other = ClientFactory()
    MessageFactory.create_batch(3, client=other)
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(other)}")
    cursor = http.get(URL, {"limit": 1}).json()["next_cursor"]

    page = api.get(URL, {"cursor": cursor}).json()

    assert [row["id"] for row in page["results"]] == [str(mine.id)]


@pytest.mark.parametrize(
    "query",
    [
        {"status": "held"},
        {"reference": "order-1"},
        {"reference": "order-1", "status": "held"},
        {"to": "+380671111111"},
        {"to": "+38 (067) 111-11-11"},
    ],
)
def test_filters(api, client_row, query):
    wanted = MessageFactory(client=client_row, status=Status.HELD, reference="order-1", to="+380671111111")
    MessageFactory(client=client_row)
    MessageFactory(status=Status.HELD, reference="order-1", to="+380671111111")

    page = api.get(URL, query).json()

    assert [row["id"] for row in page["results"]] == [str(wanted.id)]


def test_a_list_has_the_attempts_at_a_constant_number_of_queries(api, client_row, django_assert_max_num_queries):
    for message in MessageFactory.create_batch(5, client=client_row):
        AttemptFactory(message=message)
    api.get(URL)

    with django_assert_max_num_queries(3):
        page = api.get(URL).json()

    assert [len(row["attempts"]) for row in page["results"]] == [1] * 5


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=gone", ("status", "bad_choice")),
        ("status=", ("status", "bad_choice")),
        ("status=%00", ("status", "bad_choice")),
        ("to=", ("to", "not_a_number")),
        ("to=%2B380671234567%00", ("to", "not_a_number")),
        ("to=380671234567", ("to", "not_e164")),
        ("to=+380671234567", ("to", "not_a_number")),  # a plus that was not escaped is a space
        ("reference=", ("reference", "bad_format")),
        ("reference=a%00b", ("reference", "bad_format")),
        ("reference=" + "x" * 101, ("reference", "bad_format")),
        ("cursor=", ("cursor", "bad_format")),
        ("cursor=garbage", ("cursor", "bad_format")),
        ("cursor=" + "%21" * 22, ("cursor", "bad_format")),
        ("cursor=" + "%D1%97" * 22, ("cursor", "bad_format")),
        ("cursor=" + "A" * 23, ("cursor", "bad_format")),
        ("limit=", ("limit", "out_of_range")),
        ("limit=0", ("limit", "out_of_range")),
        ("limit=-1", ("limit", "out_of_range")),
        ("limit=201", ("limit", "out_of_range")),
        ("limit=0000000500", ("limit", "out_of_range")),
        ("limit=1.5", ("limit", "out_of_range")),
        ("limit=%D9%A5", ("limit", "out_of_range")),  # an Arabic digit
        ("limit=" + "1" * 5000, ("limit", "out_of_range")),
        ("limit=1&limit=2", ("limit", "repeated")),
        ("stauts=held", ("stauts", "unknown_field")),
        ("format=xml", ("format", "unknown_field")),
        ("%00=1", ("\x00", "unknown_field")),
    ],
)
def test_a_query_that_cannot_be_read_shows_nothing(api, query, field):
    answer = api.get(f"{URL}?{query}")

    assert_problem(answer, 422, "validation_failed", field)


def test_bytes_that_are_no_text_match_nothing(api, client_row):
    MessageFactory(client=client_row, reference="a")

    assert api.get(f"{URL}?reference=%ED%A0%80").json()["results"] == []


def test_a_query_of_thousands_of_parameters(api):
    answer = api.get(f"{URL}?{'&'.join(f'p{n}=1' for n in range(2000))}")

    assert_problem(answer, 400, "bad_request")


# --- methods and formats ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", URL, "GET, HEAD, POST"),
        ("DELETE", URL, "GET, HEAD, POST"),
        ("OPTIONS", URL, "GET, HEAD, POST"),
        ("TRACE", URL, "GET, HEAD, POST"),
        ("MADE-UP", URL, "GET, HEAD, POST"),
        ("POST", f"{URL}/{UNKNOWN}", "GET, HEAD"),
        ("PATCH", f"{URL}/{UNKNOWN}", "GET, HEAD"),
        ("GET", "/receipts/carrier-a", "POST"),
        ("OPTIONS", "/receipts/carrier-a", "POST"),
        ("POST", "/live", "GET, HEAD"),
        ("OPTIONS", "/ready", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_there(api, provider, method, path, allowed):
    with nothing_stored():
        answer = api.generic(method, path, b"{}", content_type="application/json")

    assert_problem(answer, 405, "method_not_allowed")
    assert answer["Allow"] == allowed


@pytest.mark.parametrize("path", [URL, "/live", "/ready"])
def test_head_answers_without_a_body(api, path):
    answer = api.head(path)

    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense", "*/*", "application/json; indent=9"])
def test_there_is_one_format_whatever_is_asked_for(api, accept):
    answer = api.get(URL, HTTP_ACCEPT=accept)

    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")


def test_a_foreign_host_is_a_problem(api):
    answer = api.get(URL, HTTP_HOST="evil.example")

    assert_problem(answer, 400, "bad_request")


# --- health -----------------------------------------------------------------------------------------


def test_live_and_ready():
    http = APIClient()

    assert http.get("/live").json() == {"status": "ok"}
    assert http.get("/ready").json() == {"status": "ok", "database": "ok"}


@pytest.fixture
def no_database(transactional_db):
    """The connection is lost, and nobody listens where a new one would go."""
    connection.close()
    port, connection.settings_dict["PORT"] = connection.settings_dict["PORT"], 1
    yield
    connection.close()
    connection.settings_dict["PORT"] = port


@pytest.mark.parametrize("method", ["get", "post", "get one", "ready", "receipt", "with key"])
def test_without_the_database_callers_are_told_to_ask_again(api, provider, method, request):
    api.get(URL)  # the tables in memory are filled
    body, timestamp = b"{}", str(int(time.time()))
    request.getfixturevalue("no_database")

    match method:
        case "get":
            answer = api.get(URL)
        case "post":
            answer = api.post(URL, GOOD, format="json")
        case "with key":
            answer = api.post(URL, GOOD, format="json", HTTP_IDEMPOTENCY_KEY="key-1")
        case "get one":
            answer = api.get(f"{URL}/{UNKNOWN}")
        case "ready":
            answer = api.get("/ready")
        case _:
            answer = deliver(body=body, timestamp=timestamp)

    assert_problem(answer, 503, "unavailable")
    assert answer["Retry-After"] == "2"


def test_without_the_database_the_process_is_still_alive(no_database):
    assert APIClient().get("/live").status_code == 200


# --- receipts ---------------------------------------------------------------------------------------


def deliver(path="/receipts/carrier-a", *, body=None, token="secret-token", timestamp=None, **headers):
    """A receipt as the simulated carrier signs it."""
    body = receipt() if body is None else body
    found = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in signed(body, token, timestamp).items()}
    return APIClient().generic("POST", path, body, content_type="application/json", **(found | headers))


def test_a_signed_receipt_is_stored_once(provider):
    reference, body = uuid.uuid4(), receipt()

    answers = [deliver(f"/receipts/carrier-a/{reference.hex}", body=body) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    stored = Receipt.objects.get()
    assert (stored.provider_id, stored.our_reference, stored.status) == (provider.id, reference, "delivered")
    assert stored.provider_reference == "their-1"


def test_a_signed_receipt_cannot_be_turned_to_another_attempt_by_its_address(provider):
    body = receipt(reference=uuid.uuid4().hex)

    answer = deliver(f"/receipts/carrier-a/{uuid.uuid4().hex}", body=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_receipt")
    assert not Receipt.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ({"token": "another"}, 401, "bad_signature"),
        ({"timestamp": "1"}, 401, "bad_signature"),
        ({"timestamp": "99999999999"}, 401, "bad_signature"),
        ({"HTTP_X_CARRIER_SIGNATURE": ""}, 401, "bad_signature"),
        ({"HTTP_X_CARRIER_SIGNATURE": "\xff"}, 401, "bad_signature"),
        ({"body": b""}, 400, "unreadable_receipt"),
        ({"body": b"[]"}, 400, "unreadable_receipt"),
        ({"body": b"{"}, 400, "unreadable_receipt"),
        ({"body": b"[" * 60_000}, 400, "unreadable_receipt"),
        ({"body": receipt(id="\x00")}, 400, "unreadable_receipt"),
        ({"body": receipt(at="yesterday")}, 400, "unreadable_receipt"),
        ({"body": b"x" * 65_537}, 413, "body_too_large"),
        ({"path": "/receipts/nobody"}, 404, "not_found"),
    ],
)
def test_a_receipt_that_is_not_taken_leaves_nothing(provider, arguments, status, code):
    with nothing_stored():
        answer = deliver(**arguments)

    assert_problem(answer, status, code)


@pytest.mark.django_db(transaction=True)
def test_a_receipt_with_a_price_that_no_column_takes(provider):
    with nothing_stored():
        answer = deliver(body=receipt(price="1e30", currency="EUR"))

    assert_problem(answer, 400, "unreadable_receipt")


@pytest.mark.parametrize("length", ["abc", "²", "-1"])
def test_a_receipt_with_a_length_that_is_no_number(provider, length):
    with nothing_stored():
        answer = deliver(CONTENT_LENGTH=length)

    assert_problem(answer, 400, "invalid_json")


def test_a_receipt_of_foreign_words_is_stored_clean(provider):
    deliver(body=receipt(status="weird\x00\ud800", error_code="x" * 500, reference="not ours"))

    stored = Receipt.objects.get()
    assert (stored.status, stored.our_reference) == ("unknown", None)
    assert "\x00" not in stored.provider_status


def test_a_disabled_provider_still_reports(provider):
    provider.enabled = False
    provider.save()

    assert deliver().status_code == 204


def test_a_provider_whose_credentials_cannot_be_read_is_unknown(provider):
    type(provider).objects.update(credentials=b"garbage")

    assert_problem(deliver(), 404, "not_found")


def test_what_a_query_reads_leaves_everything_as_it_was(api, client_row):
    message = MessageFactory(client=client_row)
    before = contents()

    for path in (URL, f"{URL}/{message.id}", "/live", "/ready", f"{URL}/{UNKNOWN}"):
        api.get(path)

    assert contents() == before
