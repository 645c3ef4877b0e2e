"""The broker goes away: every message is accepted and sent all the same, since hints may be lost."""

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config.local.postgres import free_port
from messaging.clients import issue_key
from messaging.models import Client, Message
from messaging.states import Status
from tests.conftest import Carriers
from tests.factories import ProviderFactory
from tests.fleet import Fleet, rabbitmq_url, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

MESSAGES = 500
POSTERS = 4


class Proxy:
    """A TCP proxy to a shared server, so that a test can take away what it must not stop."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """From now on connections are refused; those that are open break."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for found in self._sockets:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
            found.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self.connections += 1
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for found in (source, sink):
        with suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def start(tmp_path: Path, carriers: Carriers) -> Iterator[Callable[[str], int]]:
    """Starts web, worker and sweeper with this broker; returns the port of the web process."""
    fleets: list[Fleet] = []

    def started(broker_url: str) -> int:
        ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.05")
        port = free_port()
        fleets.append(Fleet(tmp_path, BROKER_URL=broker_url, PUBLIC_URL=f"http://127.0.0.1:{port}"))
        fleets[0].web(port)
        fleets[0].worker()
        fleets[0].sweeper()
        return port

    yield started
    for fleet in fleets:
        fleet.__exit__()


def post_all(port: int, client: Client, meanwhile: Callable[[int], None] = lambda number: None) -> list[float]:
    """Posts MESSAGES over POSTERS connections, `meanwhile` before each; returns how long each answer took."""
    headers = {"Authorization": f"Bearer {issue_key(client)}", "Content-Type": "application/json"}

    def post(share: range) -> list[float]:
        seconds = []
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in share:
            meanwhile(number)
            body = json.dumps({"to": f"+38067{number:07}", "text": f"Number {number}"})
            before = time.monotonic()
            connection.request("POST", "/api/v1/messages", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 202
            seconds.append(time.monotonic() - before)
        connection.close()
        return seconds

    with ThreadPoolExecutor(POSTERS) as posters:
        shares = posters.map(post, [range(first, MESSAGES, POSTERS) for first in range(POSTERS)])
        return [seconds for share in shares for seconds in share]


def all_are_delivered() -> bool:
    return Message.objects.filter(status=Status.DELIVERED).count() == MESSAGES


def assert_each_was_sent_once(carriers: Carriers) -> None:
    accepted = Counter(entry["text"] for entry in carriers.entries("accepted"))
    assert accepted == {f"Number {number}": 1 for number in range(MESSAGES)}


def test_all_is_accepted_and_sent_without_any_broker(
    start: Callable[[str], int], client_row: Client, carriers: Carriers
) -> None:
    port = start(f"amqp://guest:guest@127.0.0.1:{free_port()}")

    seconds = post_all(port, client_row)

    wait_for(all_are_delivered, 60)
    assert_each_was_sent_once(carriers)
    assert sorted(seconds)[int(0.95 * MESSAGES)] < 1.0  # no request waits for the broker


@pytest.mark.broker
def test_all_is_accepted_and_sent_when_rabbitmq_goes_away_in_the_middle(
    start: Callable[[str], int], client_row: Client, carriers: Carriers
) -> None:
    parts = urlsplit(rabbitmq_url())
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5672)
    port = start(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl())
    wait_for(lambda: proxy.connections)

    def cut(number: int) -> None:
        if number == MESSAGES // 2:
            proxy.close()

    post_all(port, client_row, meanwhile=cut)

    wait_for(all_are_delivered, 60)
    assert_each_was_sent_once(carriers)
