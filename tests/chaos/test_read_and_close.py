"""A carrier that reads a submit and closes the connection gets it once: nothing below the engine repeats a request."""

from collections import Counter

import pytest
from pytest_django import Settings

from messaging.drain import Drain
from messaging.models import Attempt, Message
from messaging.states import MessageClass, Status
from tests.conftest import Carriers
from tests.factories import ClientFactory, MessageFactory, ProviderFactory
from tests.fleet import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True)]


def test_one_request_per_attempt_reaches_a_carrier_that_reads_and_closes(
    carriers: Carriers, settings: Settings
) -> None:
    settings.POLL = 0.1
    settings.BREAKER_FAILURES = 1_000_000
    settings.PUBLIC_URL = "http://127.0.0.1:9"  # receipts find nobody
    ProviderFactory(slug="carrier-c", base_url=carriers.url(3), token="carrier-c-token", price="0.05", resolve="none")
    client = ClientFactory()
    drain = Drain(MessageClass.TRANSACTIONAL)
    drain.start()
    try:
        MessageFactory.create_batch(10, client=client)
        wait_for(lambda: Message.objects.filter(status=Status.SENT).count() == 10)
        carriers.faults("carrier-c", {"fault": "read_and_close"})  # on connections that are kept alive by now
        MessageFactory.create_batch(15, client=client)
        wait_for(lambda: Message.objects.filter(status=Status.UNKNOWN).count() == 15)
    finally:
        drain.stop()
        drain.join(20)

    requests = Counter(entry["reference"] for entry in carriers.entries("dropped"))
    doubtful = Attempt.objects.filter(status="unknown").values_list("our_reference", flat=True)
    assert requests == {reference.hex: 1 for reference in doubtful}
    assert len(requests) == 15
    assert Attempt.objects.count() == 25
