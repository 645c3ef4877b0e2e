"""`/metrics` and the database agree to the message while workers send, and after one is killed in the middle."""

import time
import urllib.request
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from messaging import intake
from messaging.models import Attempt, Message
from messaging.states import Status
from tests.conftest import free_ports
from tests.factories import ProviderFactory
from tests.fleet import Fleet, wait_for
from tests.messaging.truth import assert_tally_is_exact

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

MESSAGES = 3000


def scrape(site):
    """(class, state) -> messages, as `/metrics` tells it."""
    with urllib.request.urlopen(f"{site}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.labels["class"], sample.labels["state"]): int(sample.value)
        for family in text_string_to_metric_families(text)
        if family.name == "messaging_messages_in_state"
        for sample in family.samples
        if sample.value
    }


def counted():
    return dict(Counter(Message.objects.values_list("message_class", "status")))


def test_metrics_agree_with_the_database_during_the_run_and_after_a_kill(tmp_path, carriers, caller):
    port = free_ports(1)
    site = f"http://127.0.0.1:{port}"
    ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.05")
    scrapes = 0
    with Fleet(tmp_path, PUBLIC_URL=site, LOG_LEVEL="WARNING", SWEEP=0.2, LEASE=20, LEASE_GRACE=1) as fleet:
        fleet.web(port)
        for first in range(0, MESSAGES, 500):
            numbers = range(first, first + 500)
            intake.accept_many(
                caller, [{"to": f"+38067{n:07}", "text": "News", "class": ("bulk", "otp")[n % 2]} for n in numbers]
            )
        assert scrape(site) == counted()
        worker, _ = fleet.worker(), fleet.sweeper()
        wait_for(lambda: Message.objects.filter(status=Status.SENT).exists())

        worker.kill()
        # Receipts still come in at the door, but nobody applies them: what /metrics shows stands still.
        assert scrape(site) == counted()
        assert_tally_is_exact()
        assert Attempt.objects.filter(status="intent").exists()

        fleet.worker()
        while Message.objects.filter(status=Status.DELIVERED).count() < MESSAGES // 3:
            assert sum(scrape(site).values()) == MESSAGES
            assert_tally_is_exact()
            scrapes += 1
            time.sleep(0.02)

    assert scrapes > 5
    assert_tally_is_exact()  # everybody is dead now
