"""examples/core_backend against the real processes: it sends by Kafka, and hears by topic and by webhook."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from examples.core_backend.store import Store
from messaging.models import Event, Message
from messaging.moves import Move
from messaging.states import Status
from messaging.webhooks import endpoints, replays
from tests.factories import ClientFactory, ProviderFactory
from tests.fleet import ROOT, Fleet, wait_for
from tests.messaging.webhooks.receiver import tell

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = {"WEBHOOK_ALLOW_HTTP": "true", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
TEXT = "Your transfer has arrived."


def example(directory, kafka, *arguments):
    names = {"commands": kafka.commands, "events": kafka.events, "kafka": kafka.url} if kafka else {}
    options = [f"--{name}={value}" for name, value in names.items()]
    return ["-m", "examples.core_backend", f"--store={directory / 'store'}", *options, *arguments]


@pytest.mark.django_db(transaction=True)
def test_what_it_sends_by_kafka_is_delivered_once_and_heard_both_ways(kafka, carriers, tmp_path, receiver):
    client, store = journey(carriers), receiver.store
    hook = endpoint(client, receiver.url, secret=SECRET)
    with Fleet(tmp_path, **kafka.settings, **LOOPBACK) as fleet:
        fleet.bridge(), fleet.relay(), fleet.worker("transactional", "events")
        fleet.program("listen", *example(tmp_path, kafka, "listen"))

        told = [
            run(example(tmp_path, kafka, "send", f"transfer-{number}", f"+38067123456{number}", TEXT))
            for _ in range(2)
            for number in range(3)
        ]
        with kafka.producer() as put:  # as a careful producer does that is not sure
            for sent in repeated(store):
                put(sent["subject"].encode(), sent)

        everything = {f"transfer-{number}": "sent" for number in range(3)}
        wait_for(lambda: store.statuses() == everything, 60)
        wait_for(lambda: kafka.done() == 6, 20)
        wait_for(lambda: kafka.done("core-backend", kafka.events) == 6, 20)
        wait_for(lambda: hook.deliveries.filter(status="delivered").count() == 6, 20)
    assert told == ["1 acknowledged\n"] * 3 + ["0 acknowledged\n"] * 3
    assert Message.objects.count() == 3
    assert sorted(entry["to"] for entry in carriers.entries("accepted")) == [f"+38067123456{n}" for n in range(3)]
    assert seen(store) == {str(pk) for pk in Event.objects.values_list("pk", flat=True)}  # six, each heard twice


@pytest.mark.django_db(transaction=True)
def test_signed_webhooks_in_the_wrong_order_leave_the_latest_state(tmp_path, receiver):
    hook = endpoint(ClientFactory(slug="core-backend"), receiver.url, secret=SECRET)
    message = tell(hook.client, Status.SENT)
    Message.objects.transition([Move(message.pk, Status.DELIVERED)])
    sent, delivered = Event.objects.order_by("sequence")
    with Fleet(tmp_path, **LOOPBACK) as fleet:
        Event.objects.update(fan_out=False)
        fleet.worker("events")

        for number, event in enumerate((delivered, sent), 1):
            replays.one(hook, event.pk)
            wait_for(lambda number=number: hook.deliveries.filter(status="delivered").count() == number)

    assert seen(receiver.store) == {str(sent.pk), str(delivered.pk)}
    assert receiver.store.statuses() == {message.reference: "delivered"}


def journey(carriers):
    ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.04")
    carriers.faults("carrier-a", {"fault": "receipt_never"})
    return ClientFactory(slug="core-backend", kafka_enabled=True)


def endpoint(client, url, *, secret):
    found = endpoints.prepare(client.pk, url, ["message.*"], secret=secret)
    found.save(force_insert=True)
    return found


def seen(store):
    with store._open() as database:
        return {event_id for (event_id,) in database.execute("SELECT event_id FROM seen")}


def repeated(store):
    with store._open() as database:
        return [json.loads(body) for (body,) in database.execute("SELECT body FROM command")]


def run(arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Receiver:
    def __init__(self, url, store):
        self.url = url
        self.store = store

    def post(self, body, headers):
        request = urllib.request.Request(self.url, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def tell(self, event):
        body = json.dumps(event)
        now = datetime.now(UTC)
        signature = Webhook(SECRET).sign(event["id"], now, body)
        headers = {
            "webhook-id": event["id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        return self.post(body.encode(), headers)


@pytest.fixture
def receiver(tmp_path):
    process = subprocess.Popen(
        [sys.executable, *example(tmp_path, None, "serve", "--port=0")],
        cwd=ROOT,
        env={"WEBHOOK_SECRET": SECRET, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().split()[-1]
        yield Receiver(f"http://{address}/webhooks", Store(str(tmp_path / "store")))
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def event(number, sequence, status):
    data = {"reference": "transfer-1", "status": status}
    return {"id": f"event-{number}", "type": f"message.{status}", "subject": "m", "sequence": sequence, "data": data}


def test_an_event_by_webhook_is_counted_once_and_an_older_one_is_no_news(receiver):
    answers = [
        receiver.tell(event(1, 1, "accepted")),
        receiver.tell(event(3, 3, "delivered")),
        receiver.tell(event(2, 2, "sent")),
        receiver.tell(event(3, 3, "delivered")),
    ]

    assert answers == [204] * 4
    assert receiver.store.statuses() == {"transfer-1": "delivered"}


def test_what_the_secret_has_not_signed_is_refused(receiver):
    other = Webhook("whsec_" + "A" * 32).sign("event-1", datetime.now(UTC), "{}")
    now = str(int(datetime.now(UTC).timestamp()))

    answers = [
        receiver.post(b"{}", {}),
        receiver.post(b"{}", {"webhook-id": "event-1", "webhook-timestamp": now, "webhook-signature": other}),
        receiver.post(b"{}", {"webhook-id": "event-1", "webhook-timestamp": "1", "webhook-signature": other}),
        receiver.post(b"\xff", {"webhook-id": "event-1", "webhook-timestamp": now, "webhook-signature": "v1,!"}),
        receiver.post(b"x" * 70_000, {}),
    ]

    assert answers == [401, 401, 401, 401, 413]
    assert receiver.store.statuses() == {}
