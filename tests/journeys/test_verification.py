"""From the start to the phone and back, over real sockets."""

import re
import time

import pytest

from messaging import sweeper, tasks
from messaging.drain import Drain
from messaging.models import Attempt, Message
from messaging.states import EVENTS
from tests.factories import ProviderFactory
from tests.journeys.test_first_message import wait_for
from tests.verification.phone import check, start
from verification.models import Profile

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def drain(carriers, settings):
    ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.04")
    settings.POLL = 0.2
    thread = Drain("otp")
    thread.start()
    yield thread
    thread.stop()
    thread.join(20)


def test_code_of_the_sms_verifies(api, carriers, drain):
    started = time.monotonic()
    reference = start(api)
    (entry,) = wait_for(lambda: carriers.entries("accepted"))
    code = re.search(r"\b\d{6}\b", entry["text"])[0]

    answer = check(api, reference, code)

    assert answer.json()["valid"] is True
    assert time.monotonic() - started < 10


@pytest.fixture
def two_carriers(client_row, carriers, live_server, settings):
    """Both report to us; who hears nothing for three seconds goes on to the next."""
    settings.POLL, settings.PUBLIC_URL = 0.2, live_server.url
    for number, (name, price) in enumerate([("a", "0.04"), ("b", "0.05")], start=1):
        slug = f"carrier-{name}"
        ProviderFactory(slug=slug, base_url=carriers.url(number), token=f"{slug}-token", price=price)
    Profile.objects.create(client=client_row, purpose="login", receipt_wait_seconds=3)
    drain = Drain("otp")
    drain.start()
    tasks.start([EVENTS])
    yield
    tasks.stop()
    drain.stop()
    drain.join(20)


def codes_of(entries):
    return [re.search(r"\b\d{6}\b", entry["text"])[0] for entry in entries]


def accepted_by_both(carriers):
    sweeper.sweep()  # as its process does every second
    found = carriers.entries("accepted")
    return found if len(found) == 2 else None


@pytest.mark.parametrize(
    ("fault", "ends", "marked"),
    [
        ({"fault": "receipt_never"}, "superseded", True),
        ({"fault": "receipt_negative", "status": "undelivered"}, "undelivered", False),
    ],
    ids=["silent", "undelivered"],
)
def test_code_comes_by_the_second_carrier_within_seconds(api, carriers, two_carriers, fault, ends, marked):
    carriers.faults("carrier-a", fault)
    started = time.monotonic()
    reference = start(api)

    entries = wait_for(lambda: accepted_by_both(carriers), 20)

    took = time.monotonic() - started
    first, second = codes_of(entries)
    assert [entry["carrier"] for entry in entries] == ["carrier-a", "carrier-b"]
    assert first == second
    assert (took > 3, took < 10) == (marked, True)
    assert check(api, reference, second).json()["valid"] is True
    wait_for(lambda: Message.objects.get().status == "delivered")
    assert list(Attempt.objects.order_by("seq").values_list("status", flat=True)) == [ends, "delivered"]
    assert Message.objects.get().possible_duplicate is marked
