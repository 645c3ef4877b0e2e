"""Commands on a real Apache Kafka, each there three times, and bridges that are killed while they take them.

CHAOS_SECONDS is the least time between two kills: none in the suite, 10 for the long run by hand.
"""

import os
import random
import time
from collections import Counter

import pytest

from messaging.models import DeadLetter, Message
from tests.chaos.stage import stage
from tests.factories import ClientFactory
from tests.fleet import wait_for
from tests.kafka import command

pytestmark = [pytest.mark.chaos, pytest.mark.broker, pytest.mark.django_db(transaction=True), pytest.mark.timeout(420)]

COMMANDS, COPIES, KILLS = 5000, 3, 12
SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))


@pytest.fixture
def scene(apache_kafka, tmp_path):
    with stage(tmp_path, **apache_kafka.settings) as found:
        ClientFactory(slug="core-backend", kafka_enabled=True)
        yield found


def send(number, **extra):
    data = {"to": f"+38067{number:07}", "text": f"order {number}", "reference": str(number)}
    return command("core-backend", data, id=f"send-{number}", subject=f"order-{number}", **extra)


def produce(kafka, commands):
    with kafka.producer() as put:
        for one in commands:
            put(one["subject"].encode(), one)


def test_bridges_are_killed_and_each_command_is_one_message_and_one_sms(apache_kafka, scene):
    everything = [send(number) for number in range(COMMANDS)]
    bridges = [scene.fleet.bridge(), scene.fleet.bridge()]
    scene.fleet.worker("transactional")
    scene.fleet.sweeper()
    landed = 0  # kills while the victim's slice was half taken

    for kill in range(KILLS):
        began, before = time.monotonic(), Message.objects.count()
        part = everything[kill::KILLS]
        copies = part * COPIES
        random.Random(kill).shuffle(copies)
        produce(apache_kafka, copies)
        wait_for(lambda before=before: Message.objects.count() > before, 40, pause=0.005)
        bridges.pop(0).kill()
        landed += Message.objects.count() < before + len(part)
        bridges.append(scene.fleet.bridge())
        time.sleep(max(0.0, SECONDS - (time.monotonic() - began)))

    wait_for(lambda: apache_kafka.done() == COMMANDS * COPIES, 60, pause=0.5)
    wait_for(lambda: not Message.objects.exclude(status="sent").exists(), 60)
    assert Counter(Message.objects.values_list("reference", flat=True)) == Counter(map(str, range(COMMANDS)))
    assert scene.accepted() == Counter(f"order {number}" for number in range(COMMANDS))
    assert DeadLetter.objects.count() == 0
    assert landed > 0


def test_a_thousand_good_ones_among_poison(apache_kafka, scene):
    scene.fleet.bridge()
    scene.fleet.bridge()
    scene.fleet.relay()
    twin = send(0)
    poison = {
        "invalid_json": (b"a", b"{"),
        "too_large": (b"b", b"x" * 5_000_000),
        "wrong_version": (b"c", send(1) | {"subject": "c", "specversion": "0.3"}),
        "unknown_type": (b"d", send(1) | {"subject": "d", "type": "messaging.message.delete"}),
        "tombstone": (b"e", None),
        "wrong_key": (b"f", send(1)),
        "unknown_client": (b"g", send(1) | {"subject": "g", "source": "stranger"}),
        "validation_failed": (b"h", send(1) | {"subject": "h", "id": "h", "data": {"to": "+1", "text": "a"}}),
        "idempotency_mismatch": (b"order-0", twin | {"data": {**twin["data"], "text": "another"}}),
    }
    with apache_kafka.producer() as put:
        put(b"order-0", twin)  # before its other body: they are in one partition
        for number in range(1, 1000):
            put(f"order-{number}".encode(), send(number))
            if number % 100 == 0:
                for key, value in poison.values():
                    put(key, value)

    wait_for(lambda: Message.objects.count() == 1000, 60)
    letters = apache_kafka.read(apache_kafka.dlq, lambda found: len(found) >= 9 * len(poison), 60)
    named = Counter(dict(letter.headers())["dlq-reason"].decode() for letter in letters)
    assert named == dict.fromkeys(poison, 9)
    assert Counter(DeadLetter.objects.values_list("reason", flat=True)) == named
    assert Message.objects.count() == 1000
    assert max(len(letter.value() or b"") for letter in letters) < 100_000
