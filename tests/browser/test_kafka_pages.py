"""Relays and bridges, and a dead letter that is replayed."""

from datetime import timedelta

from messaging.heartbeats import BRIDGE, RELAY, Heartbeat
from messaging.models import DeadLetter, Event, KafkaProcess, Message, uuid7
from tests.factories import ClientFactory, ProviderFactory
from tests.messaging.door import GOOD
from tests.messaging.stages import now
from tests.messaging.test_commands import command, take


def test_relays_and_bridges_are_seen_with_what_waits(screen):
    Heartbeat(RELAY).tell("leads")
    Heartbeat(RELAY).tell("stands by")
    Heartbeat(BRIDGE).tell("reads", "", [0, 1, 2, 3, 4, 5], 12)
    Heartbeat(BRIDGE).tell("waits", "more than 50000 messages wait in bulk", [6, 7, 8], 4130)
    Heartbeat(BRIDGE).tell("waits", "Kafka: _ALL_BROKERS_DOWN", [], 0)
    KafkaProcess.objects.filter(detail__startswith="Kafka").update(seen_at=now() - timedelta(minutes=7))
    told = {"subject": "m", "sequence": 1, "created_at": now(), "published_at": now(), "data": {}}
    Event.objects.create(id=uuid7(), type="message.sent", refusal="MSG_SIZE_TOO_LARGE", **told)

    screen.open("messaging/kafkaprocess/")

    cards = screen.page.locator(".home-card")
    assert cards.filter(has_text="commands waiting").inner_text().startswith("4,142")
    assert cards.filter(has_text="relays lead").inner_text().startswith("1")
    assert "gone" in screen.page.locator("#result_list").inner_text().lower()
    assert screen.page.locator("#result_list [data-label]").first.get_attribute("data-label") == "role"
    screen.keep("kafka-processes")
    screen.page.get_by_role("link", name="bridge", exact=True).first.click()
    screen.page.get_by_text("Commands waiting").wait_for()
    screen.keep("kafka-process")
    screen.open("messaging/kafkaprocess/")
    assert cards.filter(has_text="events refused").inner_text().startswith("1")
    screen.open("messaging/event/?refusal__isempty=0")
    assert "MSG SIZE TOO LARGE" in screen.page.locator("#result_list").inner_text()
    screen.keep("kafka-refused")


def test_a_dead_letter_is_replayed(screen):
    ProviderFactory(price="0.04")
    client = ClientFactory(slug="core-backend", kafka_enabled=False)
    take(command(client, GOOD))
    type(client).objects.update(kafka_enabled=True)
    letter = DeadLetter.objects.get()

    screen.open(f"messaging/deadletter/{letter.pk}/change/")
    screen.keep("dead-letter")
    screen.page.get_by_role("link", name="Replay").first.click()
    screen.page.get_by_role("button", name="Replay").click()

    screen.page.get_by_text("It was carried out.").wait_for()
    assert Message.objects.count() == 1
    screen.open("messaging/deadletter/")
    screen.keep("dead-letters")
