"""Lanes: a code does not wait behind a campaign."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from messaging import intake
from messaging.clients import Caller, issue_key
from messaging.models import Client, Message
from messaging.states import Status
from tests.conftest import Carriers, free_ports
from tests.factories import ProviderFactory
from tests.fleet import Fleet

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

WAITING = 40_000
CODES = 60
PAUSE = 0.15  # seconds between two codes


@pytest.fixture
def fleet(tmp_path: Path, carriers: Carriers) -> Iterator[tuple[Fleet, str]]:
    """The fleet, and the address of its web process, which also takes the carrier's receipts."""
    port = free_ports(1)
    with Fleet(tmp_path, PUBLIC_URL=f"http://127.0.0.1:{port}", LOG_LEVEL="WARNING") as found:
        found.web(port)
        yield found, f"http://127.0.0.1:{port}"


def test_code_reaches_the_carrier_within_a_second_while_bulk_messages_wait(
    fleet: tuple[Fleet, str], carriers: Carriers, client_row: Client, caller: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    processes, site = fleet
    ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.05")
    key = issue_key(client_row)
    for first in range(0, WAITING, 1000):
        batch = [{"to": f"+38067{n:07}", "text": "News", "class": "bulk"} for n in range(first, first + 1000)]
        intake.accept_many(caller, batch)
    waiting_before = Message.objects.filter(message_class="bulk", status=Status.QUEUED).count()
    processes.worker()  # one process, all lanes
    while not carriers.entries("accepted"):
        time.sleep(0.05)

    posted_at = {}
    for number in range(CODES):
        to = f"+38050{number:07}"
        posted_at[to] = time.time()
        assert post(site, key, {"to": to, "text": "Your code is on its way", "class": "otp"}) == 202
        time.sleep(PAUSE)
    waiting_after = Message.objects.filter(message_class="bulk", status=Status.QUEUED).count()
    time.sleep(2)

    arrived_at = {entry["to"]: entry["at"] for entry in carriers.entries("accepted")}
    waits = sorted(arrived_at.get(to, float("inf")) - at for to, at in posted_at.items())
    p95 = waits[int(0.95 * CODES) - 1]
    with capsys.disabled():
        print(
            f"\n{CODES} codes, {waiting_before} bulk messages waiting at first and {waiting_after} at last; "
            f"from post to carrier: {waits[CODES // 2]:.3f} s (median), {p95:.3f} s (95th percentile), "
            f"{waits[-1]:.3f} s (most)"
        )
    assert waiting_before == WAITING
    assert waiting_after > 0
    assert p95 < 1.0


def post(site: str, key: str, body: dict) -> int:
    request = urllib.request.Request(
        f"{site}/api/v1/messages",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status
