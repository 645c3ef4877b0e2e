"""The carriers over real sockets: every fault as a client meets it, receipts as a receiver gets them."""

import hashlib
import hmac
import http.client
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

import pytest

from providers.simulator import receipts
from providers.simulator.background import Background, carriers
from providers.simulator.config import SimulatorConfig, load

BODY = {"to": "+380501234567", "text": "hi", "sender": "Mexar", "reference": "r1", "validity": 300}


def raw_post(path: str = "/v1/messages", slug: str = "carrier-a", **fields: Any) -> bytes:
    body = json.dumps({**BODY, **fields}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {slug}-token\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connect(running: Background, slug: str = "carrier-a") -> socket.socket:
    address = urlsplit(running.url(slug))
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=5)


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    response = http.client.HTTPResponse(sock)
    response.begin()
    return response.status, dict(response.getheaders()), response.read()


def exchange(running: Background, data: bytes, slug: str = "carrier-a") -> tuple[int, dict[str, str], bytes]:
    with connect(running, slug) as sock:
        sock.sendall(data)
        return read_answer(sock)


def post(running: Background, slug: str = "carrier-a", **fields: Any) -> tuple[int, dict[str, str], bytes]:
    return exchange(running, raw_post(slug=slug, **fields), slug)


def get(slug: str, reference: str = "r1") -> bytes:
    return f"GET /v1/messages?reference={reference} HTTP/1.1\r\nAuthorization: Bearer {slug}-token\r\n\r\n".encode()


def events(running: Background) -> list[str]:
    return [entry["event"] for entry in running.ledger()]


def wait_for(found: Callable[[], Any], seconds: float = 5.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return value


# --- connections --------------------------------------------------------------------------------------


def test_connection_is_used_again(running: Background) -> None:
    with connect(running) as sock:
        statuses = []
        for number in range(3):
            sock.sendall(raw_post(reference=f"r{number}"))
            statuses.append(read_answer(sock)[0])

    assert statuses == [202, 202, 202]


def test_request_may_come_in_single_bytes(running: Background) -> None:
    with connect(running) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw_post():
            sock.sendall(bytes([byte]))

        assert read_answer(sock)[0] == 202


def test_pipelined_requests_are_answered_in_order(running: Background) -> None:
    references = [f"r{number}" for number in range(50)]

    with connect(running) as sock:
        sock.sendall(b"".join(raw_post(reference=reference) for reference in references))
        answers = sock.makefile("rb")
        seen = []
        for _ in references:
            while (line := answers.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            seen.append(json.loads(answers.read(length))["reference"])
        answers.close()

    assert seen == references


def test_chunked_body_is_refused_and_the_connection_ends(running: Background) -> None:
    with connect(running) as sock:
        sock.sendall(b"POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        status, headers, _ = read_answer(sock)

        assert (status, headers["Connection"]) == (411, "close")
        assert sock.recv(10) == b""


# --- faults -------------------------------------------------------------------------------------------


def test_refuse_closes_the_port_and_open_connections_until_it_is_removed(running: Background) -> None:
    url = running.url("carrier-a")
    with connect(running) as kept:
        kept.sendall(raw_post())
        read_answer(kept)

        running.faults("carrier-a", {"fault": "refuse"})

        with pytest.raises(ConnectionResetError):
            kept.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(running)
    assert post(running, "carrier-b")[0] == 202

    running.faults("carrier-a")

    assert running.url("carrier-a") == url
    assert post(running)[0] == 202


def test_latency_delays_the_answer_of_an_accepted_message(running: Background) -> None:
    running.faults("carrier-a", {"fault": "latency", "seconds": 0.4})
    started = time.monotonic()

    with connect(running) as sock:
        sock.sendall(raw_post())
        wait_for(lambda: events(running) == ["accepted"], 0.3)
        status = read_answer(sock)[0]

    assert status == 202
    assert time.monotonic() - started >= 0.4


def test_throttle_says_when_to_come_again(running: Background) -> None:
    running.faults("carrier-a", {"fault": "throttle", "seconds": 3})

    status, headers, body = post(running)

    assert (status, headers["Retry-After"], json.loads(body)["error"]["code"]) == (429, "3", "throttled")


@pytest.mark.parametrize(("fault", "event"), [("drop_before_accept", "dropped"), ("drop_after_accept", "accepted")])
def test_drop_resets_the_connection(running: Background, fault: str, event: str) -> None:
    running.faults("carrier-a", {"fault": fault})

    with connect(running) as sock:
        sock.sendall(raw_post())
        with pytest.raises(ConnectionResetError):
            sock.recv(1)

    assert events(running) == [event]


@pytest.mark.parametrize("data", [raw_post(slug="carrier-b"), get("carrier-b")], ids=["post", "get"])
def test_read_and_close_ends_the_connection_in_order(running: Background, data: bytes) -> None:
    running.faults("carrier-b", {"fault": "read_and_close"})

    with connect(running, "carrier-b") as sock:
        sock.sendall(data)

        assert sock.recv(1) == b""
    assert len(events(running)) == 1
    assert "accepted" not in events(running)


@pytest.mark.parametrize(("fault", "event"), [("hang_before_accept", "dropped"), ("hang_after_accept", "accepted")])
def test_hang_never_answers(running: Background, fault: str, event: str) -> None:
    running.faults("carrier-a", {"fault": fault})

    with connect(running) as sock:
        sock.sendall(raw_post())
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)

    assert events(running) == [event]


def test_slow_bytes_come_one_by_one(running: Background) -> None:
    running.faults("carrier-a", {"fault": "slow_bytes", "seconds": 0.5})
    started = time.monotonic()

    with connect(running) as sock:
        sock.sendall(raw_post())
        first = sock.recv(1000, socket.MSG_PEEK)
        status, _, body = read_answer(sock)

    assert len(first) < 20
    assert (status, json.loads(body)["reference"]) == (202, "r1")
    assert 0.4 < time.monotonic() - started < 2


def test_server_errors_differ_in_what_was_accepted(running: Background) -> None:
    running.faults(
        "carrier-a", {"fault": "server_error_before_accept", "count": 1}, {"fault": "server_error_after_accept"}
    )

    statuses = [post(running, reference=reference)[0] for reference in ("r1", "r2")]

    assert statuses == [500, 500]
    assert events(running) == ["refused", "accepted"]


def test_wrong_json_comes_with_a_good_status(running: Background) -> None:
    running.faults("carrier-a", {"fault": "wrong_json"})

    status, _, body = post(running)

    assert status == 202
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_refused_message_reaches_nobody(running: Background) -> None:
    running.faults("carrier-a", {"fault": "out_of_balance", "count": 1}, {"fault": "reject", "code": "opted_out"})

    statuses = [post(running)[0], post(running)[0]]

    assert statuses == [402, 422]
    assert running.call("GET", "/api/inbox")["messages"] == []


def test_lookup_finds_a_message_whose_answer_was_lost() -> None:
    config = load()
    quick = replace(config.carriers[1], lag=0.3)

    with carriers(SimulatorConfig(1, (quick,))) as running:
        running.faults("carrier-b", {"fault": "drop_after_accept"})
        with pytest.raises(ConnectionResetError):
            post(running, "carrier-b")
        early = json.loads(exchange(running, get("carrier-b"), "carrier-b")[2])
        time.sleep(0.35)
        late = json.loads(exchange(running, get("carrier-b"), "carrier-b")[2])

    assert early == {"messages": []}
    assert [message["reference"] for message in late["messages"]] == ["r1"]


def test_ledger_file_outlives_the_process(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with carriers(ledger=ledger) as running:
        post(running)
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]

    with carriers(ledger=ledger) as again:
        inbox = again.call("GET", "/api/inbox")["messages"]

    assert [line["event"] for line in lines] == ["accepted"]
    assert [message["reference"] for message in inbox] == ["r1"]


# --- receipts -----------------------------------------------------------------------------------------


class Receiver:
    """Takes receipts and answers with the statuses it is told to, 200 when it was told none."""

    def __init__(self) -> None:
        self.got: Queue[tuple[float, dict[str, str], bytes, str]] = Queue()
        self.statuses: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.put((time.monotonic(), headers, body, self.path))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/receipts/carrier-a/r1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def take(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(self.got.get(timeout=5)[2]) for _ in range(count)]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_receipt_comes_signed_after_the_answer(running: Background, receiver: Receiver) -> None:
    accepted = json.loads(post(running, receipt_url=receiver.url + "?a=1")[2])

    _, headers, body, path = receiver.got.get(timeout=5)

    expected = hmac.new(b"carrier-a-token", headers["x-carrier-timestamp"].encode() + b"." + body, hashlib.sha256)
    assert headers["x-carrier-signature"] == expected.hexdigest()
    assert abs(int(headers["x-carrier-timestamp"]) - time.time()) < 5
    assert path == "/receipts/carrier-a/r1?a=1"
    receipt = json.loads(body)
    assert (receipt["id"], receipt["reference"], receipt["status"]) == (accepted["id"], "r1", "delivered")
    assert (receipt["error_code"], receipt["price"], receipt["currency"]) == ("", "0.0380", "EUR")
    sent = wait_for(lambda: running.ledger("event=receipt_sent"))
    assert (sent[0]["status"], sent[0]["http_status"], sent[0]["tries"]) == ("delivered", 200, 1)


def test_receipt_faults_reach_the_receiver(running: Background, receiver: Receiver) -> None:
    running.faults("carrier-b", {"fault": "receipt_disorder"}, {"fault": "receipt_duplicate"})

    post(running, "carrier-b", receipt_url=receiver.url)

    assert [receipt["status"] for receipt in receiver.take(4)] == ["delivered", "delivered", "sent", "sent"]


def test_negative_receipt_carries_its_code(running: Background, receiver: Receiver) -> None:
    running.faults("carrier-a", {"fault": "receipt_negative", "code": "absent"})

    post(running, receipt_url=receiver.url)

    [receipt] = receiver.take(1)
    assert (receipt["status"], receipt["error_code"]) == ("undelivered", "absent")


def test_receipt_that_is_not_taken_is_sent_again(
    running: Background, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "PAUSES", (0.05, 0.05))
    receiver.statuses = [503, 401]

    post(running, receipt_url=receiver.url)

    assert [receipt["status"] for receipt in receiver.take(3)] == ["delivered"] * 3
    assert wait_for(lambda: running.ledger("event=receipt_sent"))[0]["tries"] == 3


def test_receipt_that_nobody_takes_is_given_up(running: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "PAUSES", (0.02,))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        post(running, receipt_url=f"http://127.0.0.1:{unused.getsockname()[1]}/")

        failed = wait_for(lambda: running.ledger("event=receipt_failed"))

    assert (failed[0]["http_status"], failed[0]["tries"]) == (0, 2)


def test_many_receipts_share_a_few_connections(running: Background, receiver: Receiver) -> None:
    opened = threading.active_count()
    with connect(running) as sock:
        for number in range(200):
            sock.sendall(raw_post(reference=f"r{number}", receipt_url=receiver.url))
            read_answer(sock)

    seen = {receipt["reference"] for receipt in receiver.take(200)}

    assert seen == {f"r{number}" for number in range(200)}
    assert threading.active_count() - opened <= receipts.CONNECTIONS
