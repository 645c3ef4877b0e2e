"""Workers that are killed while they send webhooks: every event arrives, under the id that it always had."""

import time

import pytest

from messaging.models import Client, Event
from messaging.webhook_models import WebhookDelivery
from tests.factories import ClientFactory
from tests.fleet import Fleet, wait_for
from tests.messaging.webhooks.receiver import Receiver, endpoint, tell

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

EVENTS, KILLS = 300, 6


def slowly(handler):
    time.sleep(0.05)
    return 204


def test_kill_9_of_workers_loses_no_webhook(tmp_path, settings):
    settings.WEBHOOK_ALLOW_HTTP = True
    receiver = Receiver()
    receiver.answer = slowly
    client: Client = ClientFactory()
    for path in ("/a", "/b"):
        endpoint(client, receiver.url.replace("/hook", path))
    options = {"WEBHOOK_ALLOW_HTTP": "true", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "WEBHOOK_TIMEOUT": "1"}
    try:
        with Fleet(tmp_path, GATE="0.5", WEBHOOK_CONCURRENCY="4", **options) as fleet:
            workers = [fleet.worker("events") for _ in range(2)]
            for number in range(EVENTS):
                tell(client)
                if number % (EVENTS // KILLS) == EVENTS // KILLS - 1:
                    had = len(receiver.requests)
                    wait_for(lambda had=had: len(receiver.requests) > had + 5)
                    workers.pop(0).kill()
                    workers.append(fleet.worker("events"))

            wait_for(lambda: not Event.objects.filter(fan_out=True).exists(), 60)
            wait_for(lambda: not WebhookDelivery.objects.exclude(status="delivered").exists(), 60)
    finally:
        receiver.stop()

    told = {str(event_id) for event_id in Event.objects.values_list("id", flat=True)}
    assert len(told) == EVENTS
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == told
    assert WebhookDelivery.objects.count() == 2 * EVENTS
    # Killed in flight and sent again; without any, nobody was killed at work.
    assert WebhookDelivery.objects.filter(claims__gt=1).exists()
