"""SIGTERM under load: every process ends in time, and nobody is left in doubt about a message."""

import http.client
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from django.test import override_settings

from messaging.clients import issue_key
from messaging.models import Attempt, Client, Event, Message
from messaging.states import LANES, AttemptStatus, Status
from providers.sql import rows
from tests.conftest import Carriers, free_ports
from tests.factories import ProviderFactory
from tests.fleet import Fleet, Process, wait_for
from tests.kafka import Kafka, command

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

LATENCY = 2.0  # seconds that the carrier takes to answer
GRACE = 30.0  # seconds in which a process must have ended
PAUSE = 0.05  # seconds between two posts of one poster
COMMANDS = 50
CLASSES = ("otp", "transactional", "bulk")


class Load:
    """Callers that post until stopped, by turns to the given web processes.

    Where a connection breaks before the answer, the request goes to the next one with the same Idempotency-Key.
    """

    def __init__(self, key: str, ports: list[int]) -> None:
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._ports = ports
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._post_all, args=(name,), daemon=True) for name in CLASSES]
        self.accepted: list[str] = []  # texts that were answered with 202
        self.refused: list[int] = []  # other answers
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _post_all(self, message_class: str) -> None:
        number = 0
        while not self._stopping.wait(PAUSE):
            number += 1
            text = f"{message_class}-{number}"
            body = json.dumps({"to": f"+38067{number:07}", "text": text, "class": message_class})
            first = number % len(self._ports)
            for port in self._ports[first:] + self._ports[:first]:
                with suppress(OSError, http.client.HTTPException):
                    self._take(text, self._post(port, body, text))
                    break

    def _take(self, text: str, status: int) -> None:
        if status == 202:
            self.accepted.append(text)
        else:
            self.refused.append(status)

    def _post(self, port: int, body: str, key: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/api/v1/messages", body, {**self._headers, "Idempotency-Key": key})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


@pytest.fixture
def ports() -> list[int]:
    first = free_ports(2)
    return [first, first + 1]


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    found = Kafka()
    with override_settings(**found.settings):
        found.start()
    yield found
    found.kill()


@pytest.fixture
def fleet(tmp_path: Path, carriers: Carriers, kafka: Kafka, ports: list[int]) -> Iterator[Fleet]:
    ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.05")
    carriers.faults("carrier-a", {"fault": "latency", "seconds": LATENCY})
    site = f"http://127.0.0.1:{ports[0]}"
    with Fleet(tmp_path, PUBLIC_URL=site, LOG_LEVEL="WARNING", **kafka.settings) as found:
        yield found


def start_all(fleet: Fleet, port: int) -> list[Process]:
    """One of each kind, and standbys; returns when all are at work."""
    started = [fleet.web(port), *(fleet.worker(lane) for lane in LANES)]
    started += [start() for start in (fleet.sweeper, fleet.sweeper, fleet.relay, fleet.relay, fleet.bridge)]
    at_least = {
        "worker": 3 + 4,
        "sweeper": 2,
        "relay": 2,
        "bridge": 1,
    }  # connections; the lane of events has four threads
    wait_for(lambda: all(connected(name) >= number for name, number in at_least.items()), 60)
    return started


def command_some(kafka: Kafka, client: Client) -> list[str]:
    """Puts messages into Kafka; what is in there is as good as accepted. Returns their texts."""
    Client.objects.filter(pk=client.pk).update(kafka_enabled=True)
    texts = [f"kafka-{number}" for number in range(COMMANDS)]
    with kafka.producer() as send:
        for number, text in enumerate(texts):
            send(None, command(client.slug, {"to": f"+38050{number:07}", "text": text, "class": "bulk"}))
    return texts


def calls_in_flight() -> int:
    return Attempt.objects.filter(status=AttemptStatus.INTENT).count()


def connected(name: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %(name)s"
    return int(rows(query, {"name": name})[0][0])


def assert_each_was_sent_once(load: Load, carriers: Carriers) -> None:
    assert load.refused == []
    assert Counter(entry["text"] for entry in carriers.entries("accepted")) == dict.fromkeys(load.accepted, 1)
    assert sorted(Message.objects.values_list("text", flat=True)) == sorted(load.accepted)
    assert not Message.objects.filter(possible_duplicate=True).exists()
    assert not Event.objects.filter(type="message.unknown").exists()  # nobody was in doubt at any time
    wait_for(lambda: not Event.objects.filter(published_at=None).exists(), 30)


def all_are_delivered(load: Load) -> bool:
    return Message.objects.filter(status=Status.DELIVERED).count() >= len(load.accepted)


def test_everything_stops_at_once(
    fleet: Fleet,
    carriers: Carriers,
    kafka: Kafka,
    client_row: Client,
    ports: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = start_all(fleet, ports[0])
    load = Load(issue_key(client_row), ports[:1])
    wait_for(lambda: len(load.accepted) > 200 and calls_in_flight() > 50, 60)

    load.accepted += command_some(kafka, client_row)
    asked = time.monotonic()
    for process in running:
        process.signal(signal.SIGTERM)  # to its children as well, as systemd does
    codes = [process.wait(GRACE) for process in running]
    seconds = time.monotonic() - asked
    load.stop()
    in_doubt = Message.objects.filter(status__in=[Status.SENDING, Status.UNKNOWN]).count()
    waiting = Message.objects.filter(status=Status.QUEUED).count()
    sent = Message.objects.filter(status=Status.SENT).count()
    start_all(fleet, ports[0])
    wait_for(lambda: all_are_delivered(load), 60)

    with capsys.disabled():
        print(f"\nall ended in {seconds:.1f} s; {len(load.accepted)} accepted, {sent} sent, {waiting} left for later")
    assert codes == [0] * len(running)
    assert seconds < GRACE
    assert in_doubt == 0
    assert_each_was_sent_once(load, carriers)


def test_one_after_the_other_is_replaced_while_posting_goes_on(
    fleet: Fleet, carriers: Carriers, kafka: Kafka, client_row: Client, ports: list[int]
) -> None:
    running = start_all(fleet, ports[0])
    second = fleet.web(ports[1])
    load = Load(issue_key(client_row), ports)
    wait_for(lambda: len(load.accepted) > 200 and calls_in_flight() > 50, 60)

    replacements: list[Callable[[], Process]] = [
        lambda: fleet.web(ports[0]),
        *(partial(fleet.worker, lane) for lane in LANES),
        *(fleet.sweeper, fleet.sweeper, fleet.relay, fleet.relay, fleet.bridge),
        lambda: fleet.web(ports[1]),
    ]
    load.accepted += command_some(kafka, client_row)
    codes = []
    for process, replace in zip([*running, second], replacements, strict=True):
        codes.append(process.stop(GRACE))
        replace()
    time.sleep(LATENCY)
    load.stop()
    wait_for(lambda: all_are_delivered(load), 60)

    assert codes == [0] * 11
    assert_each_was_sent_once(load, carriers)
