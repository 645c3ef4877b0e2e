"""Bad input through the whole door: over real sockets, and with whatever a machine can think of."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.local.web import command
from messaging.clients import issue_key
from messaging.drafts import FIELDS
from messaging.drain import Drain
from messaging.models import Message
from tests.conftest import ROOT, free_ports
from tests.factories import ClientFactory, ProviderFactory
from tests.messaging.door import GOOD, URL, contents, nothing_stored

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=8,
)
ANY_BODY = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def token():
    ProviderFactory(slug="carrier-a", price="0.045")
    return issue_key(ClientFactory())


class Web:
    """The door as it runs in production: a granian process."""

    def __init__(self, **environment: str) -> None:
        self.port = free_ports(1)
        self.process = subprocess.Popen(
            [sys.executable, *command(self.port)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("granian does not answer")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def send(self, head: str, body: bytes = b"", *, hang_up: bool = False) -> tuple[int, bytes]:
        """Writes a request as it stands, and reads the answer even where the server stopped listening."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            with suppress(OSError):
                sock.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n" + body)
            if hang_up:
                sock.shutdown(socket.SHUT_WR)
            found = b""
            with suppress(OSError):
                while part := sock.recv(65536):
                    found += part
        head_of_answer, _, content = found.partition(b"\r\n\r\n")
        return int(head_of_answer[9:12] or 0), content


@pytest.fixture
def web(transactional_db):
    found = Web(DATABASE_URL=_url(), SNAPSHOT_MAX_AGE="0.1")
    yield found
    found.stop()


def _url() -> str:
    place = connection.settings_dict
    return f"postgresql://{place['USER']}:{place['PASSWORD']}@{place['HOST']}:{place['PORT']}/{place['NAME']}"


def head(token: str, *lines: str) -> str:
    fixed = [f"POST {URL} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", "Connection: close"]
    return "\n".join([*fixed, "Content-Type: application/json", *lines, ""])


def chunks(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


def code_of(answer: tuple[int, bytes]) -> tuple[int, str]:
    status, content = answer
    body = json.loads(content)
    assert body.get("status", status) in (status, "queued")
    return status, body.get("code", "")


def test_bodies_over_a_real_socket(web, token):
    body = json.dumps(GOOD).encode()
    big = b'{"text": "' + b"x" * 5_000_000 + b'"}'

    with nothing_stored():
        refused = [
            code_of(web.send(head(token, f"Content-Length: {len(big)}"), big)),
            code_of(web.send(head(token, "Transfer-Encoding: chunked"), chunks(big, 60_000))),
            code_of(web.send(head(token, f"Content-Length: {len(body) - 3}"), body)),
            code_of(web.send(head(token), b"")),
        ]
        cut_off = [
            code_of(web.send(head(token, f"Content-Length: {len(body) + 3}"), body, hang_up=True)),
            code_of(web.send(head(token, "Transfer-Encoding: chunked"), chunks(body, 7)[:-5], hang_up=True)),
        ]
        malformed = [
            web.send(head(token, f"Content-Length: {length}"), body)[0] for length in ("abc", "-1", "1, 2", "9" * 30)
        ]
    taken = [
        web.send(head(token, f"Content-Length: {len(body)}"), body)[0],
        web.send(head(token, "Transfer-Encoding: chunked"), chunks(body, 7))[0],
    ]

    assert refused == [
        (413, "body_too_large"),
        (413, "body_too_large"),
        (400, "invalid_json"),
        (400, "invalid_json"),
    ]
    assert cut_off == [(400, "bad_request")] * 2
    assert malformed == [400, 400, 400, 400]
    assert taken == [202, 202]
    assert Message.objects.count() == 2


ODD_REQUESTS = [
    ("TRACE /live", 405, "method_not_allowed"),
    ("OPTIONS /api/v1/messages", 405, "method_not_allowed"),
    ("PROPFIND /api/schema/", 405, "method_not_allowed"),
    ("DELETE /api/docs/", 405, "method_not_allowed"),
    ("OPTIONS /nothing", 404, "not_found"),
    ("TRACE /", 404, "not_found"),
    ("GET /%00", 404, "not_found"),
    ("GET /api/v1/messages/%00%FF", 404, "not_found"),
    ("GET /api/v1/messages/%zz", 404, "not_found"),
    ("GET /receipts/%2e%2e/%2e%2e", 404, "not_found"),
    ("GET //live", 404, "not_found"),
    ("GET /api/schema/?format=%00", 422, "validation_failed"),
    ("GET /api/schema/?" + "&".join(f"a{n}=1" for n in range(1100)), 400, "bad_request"),
    ("GET /api/v1/messages?status=" + "x" * 60_000, 422, "validation_failed"),
    ("GET /api/v1/messages?%zz=%ff", 422, "validation_failed"),
]
ODD_HEADERS = [
    ("Authorization: Bearer \xff\xfe", 401, "invalid_api_key"),
    ("Authorization: Basic Og==", 401, "invalid_api_key"),
    ("Idempotency-Key: \xff", 401, "invalid_api_key"),
    ("Accept: text/html;q=\xff, */*;q=nonsense", 401, "invalid_api_key"),
    ("Content-Encoding: br", 401, "invalid_api_key"),
    ("Expect: 200-maybe", 401, "invalid_api_key"),
    ("X-HTTP-Method-Override: DELETE", 401, "invalid_api_key"),
    ("X-Request-ID: " + "x" * 20_000, 401, "invalid_api_key"),
]


def test_odd_requests_are_answered_with_a_problem(web, token):
    rest = f" HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {token}\nConnection: close\n"

    answers = [(start, *code_of(web.send(start + rest))) for start, _, _ in ODD_REQUESTS]

    assert answers == ODD_REQUESTS


def test_odd_headers_are_answered_with_a_problem(web):
    start = f"GET {URL} HTTP/1.1\nHost: 127.0.0.1\n"

    answers = [(line, *code_of(web.send(f"{start}{line}\nConnection: close\n"))) for line, _, _ in ODD_HEADERS]

    assert answers == ODD_HEADERS


def test_head_is_get_without_the_body(web, token):
    for path in ("/live", "/api/schema/", URL):
        status, body = web.send(
            f"HEAD {path} HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {token}\nConnection: close\n"
        )

        assert (status, body) == (200, b"")


def test_the_process_outlives_clients_that_hang_up(web, token):
    for lines, body in (("Content-Length: 100", b'{"to'), ("Transfer-Encoding: chunked", b"ff\r\n{")):
        with socket.create_connection(("127.0.0.1", web.port)) as sock:
            sock.sendall(head(token, lines).replace("\n", "\r\n").encode() + b"\r\n" + body)
            time.sleep(0.1)

    body = json.dumps(GOOD).encode()
    assert web.send(head(token, f"Content-Length: {len(body)}"), body)[0] == 202


def test_the_caller_is_known_by_its_address(web):
    ProviderFactory(price="0.045")
    near, far = (issue_key(ClientFactory(), cidrs=[cidr]) for cidr in ("127.0.0.0/8", "10.0.0.0/8"))
    body = json.dumps(GOOD).encode()

    answers = [web.send(head(token, f"Content-Length: {len(body)}"), body) for token in (near, far)]

    assert [code_of(answer) for answer in answers] == [(202, ""), (403, "address_not_allowed")]


def test_a_process_without_its_database_says_so():
    web = Web(DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/none")
    token = "mx_live_" + "a" * 12 + "_" + "x" * 43
    get = "GET {} HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n"

    try:
        answers = [
            web.send(get.format("/live"))[0],
            code_of(web.send(get.format("/ready"))),
            code_of(web.send(head(token, "Content-Length: 2"), b"{}")),
        ]
    finally:
        web.stop()

    assert answers == [200, (503, "unavailable"), (503, "unavailable")]


@pytest.mark.django_db
@given(body=JSON)
@ANY_BODY
def test_any_json_is_refused_as_the_callers_fault(api, body):
    answer = api.post(URL, json.dumps(body), content_type="application/json")

    assert 400 <= answer.status_code < 500, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert not Message.objects.exists()


@pytest.mark.django_db
@given(name=st.sampled_from(sorted(FIELDS)), value=JSON, key=st.none() | st.text(st.characters(codec="latin-1")))
@ANY_BODY
def test_any_value_in_any_field_is_taken_or_refused(api, name, value, key):
    if not Message.objects.exists():
        ProviderFactory(price="0.045")
    before = Message.objects.count()
    headers = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}

    answer = api.post(URL, json.dumps({**GOOD, name: value}), content_type="application/json", **headers)

    assert answer.status_code == 202 or 400 <= answer.status_code < 500, answer.content
    assert Message.objects.count() - before == (
        answer.status_code == 202 and not answer.has_header("Idempotency-Replayed")
    )


@pytest.mark.django_db
@given(body=st.binary(max_size=300))
@ANY_BODY
def test_any_bytes_are_refused(api, body):
    answer = api.generic("POST", URL, body, content_type="application/json")

    assert 400 <= answer.status_code < 500
    assert not Message.objects.exists()


@pytest.mark.django_db
@given(query=st.dictionaries(st.sampled_from(["status", "to", "reference", "cursor", "limit"]), st.text(), min_size=1))
@ANY_BODY
def test_any_query_is_answered_or_refused(api, query):
    answer = api.get(URL, query)

    assert answer.status_code in (200, 422), answer.content


@pytest.mark.django_db
@given(path=st.text(st.characters(codec="utf-8", exclude_characters="?#"), max_size=50))
@ANY_BODY
def test_any_path_is_answered_or_refused(api, path):
    answer = api.get(f"{URL}/{path}")

    assert answer.status_code in (301, 404), answer.content


@pytest.fixture
def every_log_line(caplog, lines):
    caplog.set_level(logging.DEBUG)
    for name in ("config", "messaging", "providers", "routing", "django"):
        caplog.set_level(logging.DEBUG, logger=name)
    return lines


NUMBER, WORDS = "+380671234567", "Rosebud 483920"
LEAK = re.compile(r"67\D*123\D*45\D*67|Rosebud|483920|9876543210")


@pytest.mark.django_db
def test_logs_of_refusals_have_neither_numbers_nor_texts(api, client_row, every_log_line):
    ProviderFactory(price="0.045")
    client_row.templates.create(name="greeting", text="Hello {name}")
    good = {"to": NUMBER, "text": WORDS}

    for body in (
        {**good, "to": NUMBER + "9" * 9},
        {**good, "text": WORDS + "\x00"},
        {**good, "reference": NUMBER * 20, "metadata": {NUMBER: NUMBER + "\x00"}},
        {**good, NUMBER: WORDS},
        {**good, "to": "+919876543210"},
        {"to": NUMBER, "template": "greeting", "params": {WORDS: NUMBER}},
        {"to": NUMBER, "template": WORDS},
    ):
        assert api.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="key-1").status_code == 422
        assert api.post(URL, body, format="json").status_code == 422
    api.post(URL, f'{{"to": "{NUMBER}", "text": "{WORDS}"', content_type="application/json")
    api.get(URL, {"to": NUMBER + "x", "reference": WORDS})
    api.get(f"{URL}/{NUMBER}")
    api.post(f"/receipts/{NUMBER}", {"to": NUMBER})

    assert not LEAK.search(every_log_line.text)


@pytest.mark.django_db(transaction=True)
def test_logs_of_a_whole_life_have_neither_numbers_nor_texts(api, carriers, every_log_line):
    refusing = ProviderFactory(slug="refusing", price="0.01")  # nobody listens there
    ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.04")
    drain = Drain("transactional")
    drain.start()

    message = api.post(URL, {"to": NUMBER, "text": WORDS, "reference": NUMBER}, format="json").json()["id"]
    deadline = time.monotonic() + 20
    while not Message.objects.filter(status="sent").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    drain.stop()
    drain.join(20)
    attempts = api.get(f"{URL}/{message}").json()["attempts"]

    assert [attempt["status"] for attempt in attempts] == ["not_sent", "accepted"]
    told = [(line["provider"], line["message_id"]) for line in every_log_line.of("attempt")]
    assert told == [(refusing.slug, message), ("carrier-a", message)]
    assert not LEAK.search(every_log_line.text)


@pytest.mark.django_db
def test_the_proof_of_nothing_stored_sees_a_change(api):
    before = contents()
    ProviderFactory(price="0.045")
    stocked = contents()

    api.post(URL, GOOD, format="json")

    assert before != stocked != contents()
