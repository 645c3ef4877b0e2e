"""From the start to the phone and back, over real sockets."""

import re
import time

import pytest

from messaging.drain import Drain
from tests.factories import ProviderFactory
from tests.journeys.test_first_message import wait_for
from tests.verification.phone import check, start

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
