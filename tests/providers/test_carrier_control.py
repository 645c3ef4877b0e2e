"""The control port: its API, and the page that a person sees."""

import http.client
import json
import re
import urllib.error
from typing import Any
from urllib.parse import urlsplit

import pytest

from providers.simulator.background import Background


def ask(
    running: Background, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(running.control).netloc, timeout=5)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def send(running: Background, slug: str = "carrier-a", **fields: Any) -> int:
    body = {"to": "+380501234567", "text": "hi", "sender": "Mexar", "reference": "r1", "validity": 300, **fields}
    connection = http.client.HTTPConnection(urlsplit(running.url(slug)).netloc, timeout=5)
    headers = {"Authorization": f"Bearer {slug}-token", "Idempotency-Key": body["reference"]}
    connection.request("POST", "/v1/messages", json.dumps(body), headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def test_carriers_are_described(running: Background) -> None:
    send(running)

    described = running.call("GET", "/api/carriers")["carriers"]

    assert [(carrier["slug"], carrier["mode"]) for carrier in described] == [
        ("carrier-a", "key"),
        ("carrier-b", "lookup"),
        ("carrier-c", "none"),
    ]
    assert described[0]["counts"] == {"accepted": 1}
    assert all(carrier["listening"] for carrier in described)
    assert "token" not in described[0]


def test_plan_is_replaced_as_a_whole(running: Background) -> None:
    running.faults("carrier-a", {"fault": "throttle"}, {"fault": "receipt_never"})

    answer = running.call("PUT", "/api/carriers/carrier-a/faults", [{"fault": "latency", "seconds": 2, "count": 3}])

    assert answer["faults"] == [{"fault": "latency", "seconds": 2.0, "count": 3}]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/carriers/carrier-a/faults", b'[{"fault": "explode"}]', 400, "rule 1: fault must be one of"),
        ("/api/carriers/carrier-a/faults", b"{", 400, "the body is not JSON"),
        ("/api/carriers/carrier-z/faults", b"[]", 404, "there are carrier-a, carrier-b, carrier-c"),
        ("/api/carriers/carrier-a", b"[]", 404, "nothing at this address"),
    ],
)
def test_bad_plan_is_refused_with_the_reason(
    running: Background, path: str, body: bytes, status: int, words: str
) -> None:
    running.faults("carrier-a", {"fault": "throttle"})

    answered, _, answer = ask(running, "PUT", path, body)

    assert (answered, words in json.loads(answer)["error"]["message"]) == (status, True)
    assert running.call("GET", "/api/carriers")["carriers"][0]["faults"] == [{"fault": "throttle", "seconds": 1.0}]


def test_ledger_is_asked_by_reference_number_carrier_and_place(running: Background) -> None:
    send(running, reference="r1")
    send(running, "carrier-b", reference="r2", to="+4915112345678")
    send(running, reference="r3")

    def seqs(query: str) -> list[int]:
        return [entry["seq"] for entry in running.call("GET", f"/api/ledger?{query}")["entries"]]

    assert seqs("reference=r2") == [2]
    assert seqs("to=%2B4915112345678") == [2]
    assert seqs("carrier=carrier-a") == [1, 3]
    assert seqs("after=1&limit=1") == [2]
    assert running.call("GET", "/api/ledger?limit=0") == {"entries": [], "last": 3}


def test_summary_finds_duplicates_across_carriers(running: Background) -> None:
    send(running, reference="r1")
    send(running, reference="r1")
    send(running, "carrier-b", reference="r2")

    by_text = running.call("GET", "/api/ledger/summary?by=text")
    by_reference = running.call("GET", "/api/ledger/summary")

    assert (by_text["accepted"], by_text["sent"], by_text["duplicates"], by_text["replays"]) == (2, 1, 1, 1)
    assert by_text["repeated"][0]["carriers"] == ["carrier-a", "carrier-b"]
    assert (by_reference["sent"], by_reference["duplicates"]) == (2, 0)
    assert running.call("GET", "/api/ledger/summary?by=text&carrier=carrier-b")["duplicates"] == 0


@pytest.mark.parametrize("query", ["ledger?after=x", "ledger?limit=-1", "ledger/summary?by=mood", "inbox?limit=1e3"])
def test_bad_question_is_refused(running: Background, query: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        running.call("GET", f"/api/{query}")

    with caught.value as refusal:
        assert refusal.code == 400


def test_reset_forgets_everything(running: Background) -> None:
    send(running)
    running.faults("carrier-b", {"fault": "refuse"})

    running.call("POST", "/api/reset")

    described = running.call("GET", "/api/carriers")["carriers"]
    assert [(carrier["counts"], carrier["faults"], carrier["listening"]) for carrier in described] == [
        ({}, [], True)
    ] * 3
    assert running.ledger() == []
    assert running.call("GET", "/api/inbox") == {"messages": []}
    send(running)
    assert [entry["event"] for entry in running.ledger()] == ["accepted"]


def test_page_of_another_site_cannot_change_anything(running: Background) -> None:
    host = urlsplit(running.control).netloc

    foreign = ask(running, "POST", "/api/reset", Origin="https://evil.example")
    own = ask(running, "POST", "/api/reset", Origin=f"http://{host}")

    assert (foreign[0], own[0]) == (403, 200)


def test_stream_tells_of_messages_and_receipts(running: Background) -> None:
    connection = http.client.HTTPConnection(urlsplit(running.control).netloc, timeout=5)
    connection.request("GET", "/api/stream")
    response = connection.getresponse()

    def event() -> Any:
        while not (line := response.readline()).startswith(b"data: "):
            assert line, "the stream has ended"
        return json.loads(line[6:])

    first = event()
    send(running)
    second = event()
    third = event()
    response.close()
    connection.close()

    assert response.headers["Content-Type"] == "text/event-stream"
    assert (first["messages"], first["reset"]) == ([], True)
    assert [message["text"] for message in second["messages"]] == ["hi"]
    assert second["carriers"][0]["counts"]["accepted"] == 1
    assert [receipt["status"] for receipt in third["messages"][0]["receipts"]] == ["delivered"]


def test_page_needs_nothing_from_elsewhere_and_no_inline_code(running: Background) -> None:
    status, headers, page = ask(running, "GET", "/")
    text = page.decode()
    files = re.findall(r'(?:src|href)="([^"]+)"', text)

    answers = [ask(running, "GET", path)[0] for path in files]

    assert status == 200
    assert sorted(set(files)) == ["/favicon.svg", "/inbox.css", "/inbox.js"]
    assert set(answers) == {200}
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", text) is None


@pytest.mark.parametrize("path", ["/../config.py", "/carriers.toml", "/api", "/api/nothing"])
def test_nothing_else_is_served(running: Background, path: str) -> None:
    assert ask(running, "GET", path)[0] == 404
