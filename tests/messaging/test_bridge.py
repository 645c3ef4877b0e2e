"""The bridge as processes against a real broker: each command once, whatever is killed, taken away or full."""

import re
import time

import psycopg
import pytest
from django.db import connection

from messaging import bridge
from messaging.models import DeadLetter, Message
from tests.factories import ClientFactory, MessageFactory, ProviderFactory
from tests.fleet import Fleet, database_url, wait_for
from tests.kafka import command
from tests.messaging.documented import message_headers
from tests.messaging.door import GOOD

pytestmark = pytest.mark.django_db(transaction=True)
# The embedded broker fences nobody, and takes most of a minute over static members.
only_apache = pytest.mark.parametrize("kafka", [pytest.param("apache", marks=pytest.mark.broker)], indirect=True)


@pytest.fixture
def source(transactional_db):
    ProviderFactory(price="0.04")
    return ClientFactory(slug="core-backend", kafka_enabled=True)


@pytest.fixture
def fleet(kafka, tmp_path):
    with Fleet(tmp_path, **kafka.settings) as found:
        yield found


def send(kafka, source, number, **extra):
    with kafka.producer() as produce:
        for n in range(number):
            produce(b"key-%d" % n, command(source, GOOD, subject=f"key-{n}", **extra))


def partitions(process):
    """What a bridge says that it reads."""
    found = re.findall(r"reading partitions \[(.*)\]", process.output)
    return [int(number) for number in found[-1].split(",") if number] if found else []


def messages(number):
    return lambda: Message.objects.count() >= number


def test_each_command_is_taken_once_though_it_is_there_three_times_and_bridges_are_killed(kafka, source, fleet):
    commands = [command(source, {**GOOD, "reference": str(n)}, subject=f"order-{n}") for n in range(300)]
    fleet.bridge()
    victim = fleet.bridge()

    for part in range(3):
        with kafka.producer() as produce:
            for found in commands[part * 100 : part * 100 + 100] * 3:
                produce(found["subject"].encode(), found)
        wait_for(messages(part * 100 + 1), 30)
        victim.kill()
        victim = fleet.bridge()

    wait_for(messages(300), 40)
    wait_for(lambda: kafka.done() == 900, 40, pause=0.5)
    references = Message.objects.values_list("reference", flat=True)
    assert sorted(references, key=int) == [str(n) for n in range(300)]
    assert DeadLetter.objects.count() == 0


def test_two_bridges_share_the_partitions_and_a_stop_hands_them_over(kafka, source, fleet):
    first, second = fleet.bridge(), fleet.bridge()
    wait_for(lambda: [len(partitions(process)) for process in (first, second)] == [2, 2], 40)

    started = time.monotonic()
    first.stop(10)
    assert time.monotonic() - started < 10
    send(kafka, source, 40)

    wait_for(messages(40), 20)
    assert partitions(second) == [0, 1, 2, 3]
    assert Message.objects.count() == 40


@only_apache
def test_a_named_bridge_takes_its_partitions_back_and_nobody_else_notices(kafka, source, fleet):
    fleet.environment["KAFKA_SESSION_TIMEOUT"] = "15"
    first, second = fleet.bridge(KAFKA_MEMBER="one"), fleet.bridge(KAFKA_MEMBER="two")
    wait_for(lambda: [len(partitions(process)) for process in (first, second)] == [2, 2], 40)
    mine, theirs = partitions(first), second.output.count("reading partitions")

    first.kill()
    again = fleet.bridge(KAFKA_MEMBER="one")
    wait_for(lambda: partitions(again) == mine, 40)
    send(kafka, source, 40)
    wait_for(messages(40), 20)

    assert second.output.count("reading partitions") == theirs


@only_apache
def test_a_name_that_two_bridges_have_ends_the_first_with_a_hint(kafka, source, fleet):
    first = fleet.bridge(KAFKA_MEMBER="one")
    wait_for(lambda: partitions(first) == [0, 1, 2, 3], 40)

    second = fleet.bridge(KAFKA_MEMBER="one")
    send(kafka, source, 10)

    wait_for(lambda: first.ended, 20)
    wait_for(messages(10), 30)
    assert "each needs a name of its own" in first.output
    assert not second.ended


def test_bridges_go_on_when_the_broker_was_killed(kafka, source, fleet):
    fleet.bridge(), fleet.bridge()
    send(kafka, source, 100)
    wait_for(messages(1), 30)

    kafka.kill()
    kafka.start()
    before = 100 if kafka.remembers else Message.objects.count()
    send(kafka, source, 100)

    wait_for(messages(before + 100), 60)
    time.sleep(1)
    assert Message.objects.count() == before + 100


def test_poison_is_told_on_a_topic_of_its_own_and_the_rest_flows(kafka, source, fleet):
    fleet.bridge()
    fleet.relay()

    with kafka.producer() as produce:
        for n in range(100):
            produce(None, command(source, GOOD))
            if n % 10 == 0:
                produce(b"key", b"poison %d" % n, headers=[("trace", b"abc")])

    wait_for(messages(100), 30)
    letters = kafka.read(kafka.dlq, lambda found: len(found) >= 10, 30)
    assert {letter.value() for letter in letters} == {b"poison %d" % n for n in range(0, 100, 10)}
    headers = dict(letters[0].headers())
    assert headers.keys() == message_headers("dead_letter")
    assert headers["dlq-reason"] == b"invalid_json"
    assert headers["dlq-topic"] == kafka.commands.encode()
    where = {(int(dict(x.headers())["dlq-partition"]), int(dict(x.headers())["dlq-offset"])) for x in letters}
    assert where == set(DeadLetter.objects.values_list("partition", "offset"))
    assert letters[0].key() == b"key"
    assert Message.objects.count() == 100


def test_commands_wait_in_kafka_while_the_database_is_away(kafka, source, fleet):
    process = fleet.bridge()
    send(kafka, source, 5)
    wait_for(messages(5), 30)
    name = connection.settings_dict["NAME"]
    # From another database: nobody may connect to this one, and who was connected is cut off.
    with psycopg.connect(database_url().rsplit("/", 1)[0] + "/postgres", autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bridge'")
            send(kafka, source, 20)
            wait_for(lambda: "taking no commands: database error" in process.output)
            time.sleep(2)
        finally:
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

    wait_for(messages(25), 20)
    assert "taking commands again" in process.output
    assert Message.objects.count() == 25


def test_commands_wait_in_kafka_while_a_lane_is_full(kafka, source, fleet):
    MessageFactory.create_batch(11, client=source)
    fleet.environment["KAFKA_LANE_LIMIT"] = "10"
    process = fleet.bridge()
    send(kafka, source, 5)
    wait_for(lambda: "more than 10 messages wait in transactional" in process.output)
    time.sleep(1)
    waiting = Message.objects.count()

    Message.objects.update(status="sent")

    wait_for(messages(16))
    assert waiting == 11


def test_a_lane_counts_as_full_above_its_limit(settings, source):
    settings.KAFKA_LANE_LIMIT = 3
    MessageFactory.create_batch(3, message_class="bulk")

    before = bridge.full_lanes()
    MessageFactory(message_class="bulk")

    assert (before, bridge.full_lanes()) == ([], ["bulk"])


def test_a_bridge_stops_though_kafka_is_away(kafka, source, fleet):
    fleet.environment["KAFKA_SESSION_TIMEOUT"] = "12"
    process = fleet.bridge()
    send(kafka, source, 1)
    wait_for(messages(1), 30)
    kafka.kill()

    process.stop(10)

    assert Message.objects.count() == 1
