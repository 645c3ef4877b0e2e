"""The short way of the two hot calls gives the answers that Django's gives, and many at once share a commit."""

import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from messaging.clients import issue_key
from messaging.models import Event, IdempotencyKey, Message, Receipt
from providers.sql import rows
from tests.conftest import free_ports
from tests.factories import AttemptFactory, ClientFactory, ProviderFactory
from tests.fleet import Fleet
from tests.messaging.door import GOOD, URL, receipt, signed

pytestmark = pytest.mark.django_db(transaction=True)

CHANGING = {"x-request-id", "date"}


class Door:
    """A client of the web process. `odd`: a header that is there twice sends a request the ordinary way."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token

    def post(self, path: str, body: bytes, headers: dict[str, str], *, odd: bool) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.putrequest("POST", path)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                connection.putheader(name, value)
            for _ in range(2 * odd):
                connection.putheader("X-Odd", "1")
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()

    def send(self, data: object, *, odd: bool = False, **headers: str) -> tuple[int, dict[str, str], bytes]:
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self.post(URL, body, {**given, **headers}, odd=odd)


@pytest.fixture
def provider(transactional_db):
    return ProviderFactory(slug="carrier-a", price="0.045")


@pytest.fixture
def client_row(provider):
    return ClientFactory(scopes=["send", "read"])


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path, SNAPSHOT_MAX_AGE="0.1") as found:
        yield found


@pytest.fixture
def door(fleet, client_row):
    port = free_ports(1)
    fleet.web(port)
    return Door(port, issue_key(client_row))


def comparable(answer):
    status, headers, body = answer
    text = re.sub(rb'"(id|created_at|expires_at|request_id)":"[^"]*"', rb'"\1":""', body)
    return status, {name: value for name, value in headers.items() if name not in CHANGING}, text


REQUESTS = [
    pytest.param(GOOD, {}, 202, id="right"),
    pytest.param({**GOOD, "reference": "order-1", "metadata": {"a": "b"}}, {}, 202, id="with more"),
    pytest.param(GOOD, {"Idempotency-Key": "a key"}, 422, id="a bad key"),
    pytest.param({**GOOD, "to": "12"}, {}, 422, id="wrong"),
    pytest.param({**GOOD, "class": "otp"}, {}, 403, id="a scope is missing"),
    pytest.param(b"{", {}, 400, id="no JSON"),
    pytest.param(GOOD, {"Authorization": "Bearer no"}, 401, id="no key"),
    pytest.param(GOOD, {"Content-Type": "text/plain"}, 415, id="no type"),
    pytest.param(GOOD, {"Host": "elsewhere.example"}, 400, id="another host"),
    pytest.param(b'"' + b"x" * 70_000 + b'"', {}, 413, id="too long"),
]


def test_both_ways_answer_alike(door):
    for case in REQUESTS:
        data, headers, status = case.values
        short, ordinary = (door.send(data, odd=odd, **headers) for odd in (False, True))

        assert short[0] == status, case.id
        assert comparable(short) == comparable(ordinary), case.id


def test_a_key_is_one_key_on_both_ways(door):
    first = door.send(GOOD, **{"Idempotency-Key": "one"})
    again = [door.send(GOOD, odd=odd, **{"Idempotency-Key": "one"}) for odd in (False, True)]
    other = [comparable(door.send({**GOOD, "text": "x"}, odd=odd, **{"Idempotency-Key": "one"})) for odd in (0, 1)]

    assert [(answer[0], body_of(answer)) for answer in again] == [(202, body_of(first))] * 2
    assert all(headers["idempotency-replayed"] == "true" for _, headers, _ in again)
    assert comparable(again[0]) == comparable(again[1])
    assert other[0] == other[1]
    assert other[0][0] == 422
    assert Message.objects.count() == 1


def test_both_ways_write_the_same_line(door, fleet):
    for odd in (False, True):
        door.send(GOOD, odd=odd, **{"X-Request-ID": f"way-{odd}"})

    lines = [json.loads(line) for line in fleet.output.splitlines() if '"request_id":"way-' in line]
    assert len(lines) == 2
    short, ordinary = sorted(lines, key=lambda line: line.pop("request_id"))
    for line in lines:
        assert line.pop("duration_ms") > 0
        assert line.pop("message_id")
        line.pop("time")
    assert short == ordinary


def test_many_at_once_are_each_stored_once_and_share_commits(door, client_row):
    before = commits()

    def post(number):
        key = {"Idempotency-Key": f"key-{number // 2}"}  # each key twice
        return door.send({**GOOD, "reference": str(number // 2)}, **key)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(post, range(400)))

    assert {status for status, _, _ in answers} == {202}
    assert Message.objects.count() == Event.objects.count() == IdempotencyKey.objects.count() == 200
    ids = {
        body_of(answer)["reference"]: {body_of(a)["id"] for a in answers[2 * n : 2 * n + 2]}
        for n, answer in enumerate(answers[::2])
    }
    assert all(len(found) == 1 for found in ids.values())
    assert commits() - before < 380  # of 400 requests


def body_of(answer):
    return json.loads(answer[2])


def commits():
    rows("SELECT pg_stat_clear_snapshot()")
    ((count,),) = rows("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    return count


def test_a_wrong_one_among_many_costs_the_others_nothing(door):
    def post(number):
        return door.send({**GOOD, "to": "12"} if number % 5 == 0 else GOOD)[0]

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(post, range(100)))

    assert [statuses.count(202), statuses.count(422)] == [80, 20]
    assert Message.objects.count() == 80


def test_receipts_are_stored_on_both_ways_and_a_bad_signature_on_none(door, provider):
    attempts = [AttemptFactory(provider=provider) for _ in range(2)]

    def deliver(attempt, *, odd, **forged):
        path, body = f"/receipts/carrier-a/{attempt.our_reference.hex}", receipt(at="2026-11-28T01:00:00Z")
        return door.post(path, body, signed(body, **forged), odd=odd)

    good = [comparable(deliver(attempt, odd=odd)) for odd, attempt in enumerate(attempts)]
    twice = [comparable(deliver(attempts[0], odd=odd)) for odd in (False, True)]
    forged = [comparable(deliver(attempts[0], odd=odd, token="another")) for odd in (False, True)]

    assert good[0] == good[1] == twice[0] == twice[1]
    assert good[0][0] == 204
    assert forged[0] == forged[1]
    assert forged[0][0] == 401
    assert Receipt.objects.count() == 2
