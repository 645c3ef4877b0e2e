"""The client: what moves offsets, what pausing stops, and how a broker that knows nobody is met."""

import pytest

from messaging.kafka import KafkaStopped, Publisher, Subscriber, create_topics
from tests.fleet import wait_for


@pytest.fixture
def reader(kafka):
    found = Subscriber(kafka.commands)
    yield found
    found.close()


def fetch(reader, count):
    found = []

    def enough():
        found.extend(reader.fetch(500, 0.2))
        return len(found) >= count

    wait_for(enough)
    return found


def produce(kafka, *values):
    with kafka.producer() as send:
        for value in values:
            send(b"key", value)


def test_a_paused_reader_gets_nothing_until_it_goes_on(kafka, reader):
    produce(kafka, b"1")
    fetch(reader, 1)

    reader.pause()
    produce(kafka, b"2", b"3")
    meanwhile = [reader.fetch(500, 0.5) for _ in range(3)]
    reader.resume()

    assert meanwhile == [[], [], []]
    assert [record.value for record in fetch(reader, 2)] == [b"2", b"3"]


def test_what_is_not_done_is_read_again_with_all_behind_it(kafka, reader):
    produce(kafka, b"1", b"2", b"3")
    first = fetch(reader, 3)

    reader.done([first[1]])
    reader.close()
    second = Subscriber(kafka.commands)
    again = fetch(second, 2)
    second.done()
    second.close()

    assert [record.value for record in again] == [b"2", b"3"]
    assert kafka.done() == 3


def test_what_was_kept_back_and_is_done_later_counts_with_all_behind_it(kafka, reader):
    produce(kafka, b"1", b"2", b"3")
    first = fetch(reader, 3)

    reader.done([first[0]])
    reader.done()
    reader.close()

    assert kafka.done() == 3


def test_nothing_waits_once_all_is_done(kafka, reader):
    produce(kafka, b"1", b"2", b"3")
    fetch(reader, 3)
    before = reader.waiting()

    reader.done()

    assert before > 0
    wait_for(lambda: reader.waiting() == 0)


def test_topics_are_made_once(kafka):
    assert create_topics({kafka.events: 4, f"{kafka.events}.new": 2}, 1) == {
        kafka.events: "was there",
        f"{kafka.events}.new": "created",
    }


def test_a_broker_that_is_away_is_told_in_one_line(kafka, monkeypatch):
    kafka.kill()
    monkeypatch.setattr("messaging.kafka.ADMIN_WAIT", 1)

    with pytest.raises(KafkaStopped, match=kafka.events):
        create_topics({kafka.events: 1}, 1)


def test_who_only_stands_by_keeps_nothing_that_its_client_has_to_tell(settings):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    publisher = Publisher()
    producer = publisher.open()
    wait_for(lambda: len(producer) > 0, 10)

    publisher.poll()

    assert len(producer) == 0
    publisher.close()
