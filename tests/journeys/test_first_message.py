"""From the door to the phone, over real sockets."""

import time

import pytest

from messaging.drain import Drain
from messaging.models import Message
from messaging.states import Status
from tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def providers(carriers):
    ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.04")
    ProviderFactory(slug="carrier-b", base_url=carriers.url(2), token="carrier-b-token", price="0.05")


@pytest.fixture
def drain(providers, settings):
    """Started once the prices are there: for a second it would go on with tables that it read before."""
    settings.POLL = 0.2
    thread = Drain("transactional")
    thread.start()
    yield thread
    thread.stop()
    thread.join(20)


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def test_accepted_message_reaches_the_cheapest_carrier(api, carriers, drain):
    answer = api.post("/api/v1/messages", {"to": "+380671234567", "text": "Hello"}, format="json")

    assert answer.status_code == 202, answer.content
    wait_for(lambda: Message.objects.filter(status=Status.SENT).exists())
    body = api.get(f"/api/v1/messages/{answer.json()['id']}").json()
    assert [(a["provider"], a["status"]) for a in body["attempts"]] == [("carrier-a", "accepted")]
    assert [entry["carrier"] for entry in carriers.entries("accepted")] == ["carrier-a"]
