"""The relay against a real broker: at least once, and the events of one subject in their order."""

import json
import secrets
import threading
import uuid
from collections import defaultdict

import pytest

from messaging import outbox, relay, schema
from messaging.models import DeadLetter, Event, Message
from messaging.moves import Move
from messaging.states import Status
from providers.sql import rows
from tests.factories import ClientFactory, MessageFactory, ProviderFactory
from tests.fleet import Fleet, wait_for
from tests.messaging.documented import message_headers
from tests.messaging.door import GOOD, URL
from tests.messaging.stages import now

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def publisher(kafka, settings):
    """A relay in this process that leads."""
    found = relay.Relay(threading.Event())
    yield found
    found.close()


@pytest.fixture
def slow_mark(transactional_db):
    """The mark of published events takes two seconds, until it is called."""
    rows("""CREATE FUNCTION slow_mark() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$""")
    rows("CREATE TRIGGER slow_mark BEFORE UPDATE ON messaging_event EXECUTE FUNCTION slow_mark()")

    def end():
        rows("DROP FUNCTION IF EXISTS slow_mark() CASCADE")

    yield end
    end()


def drain(publisher):
    while publisher.work():
        pass


def events_of(subjects, sequences):
    client = ClientFactory(slug="core-backend")
    Event.objects.bulk_create(
        Event(
            id=uuid.uuid4(),  # in no order at all
            type="message.sent",
            subject=f"subject-{subject}",
            sequence=sequence,
            client=client,
            data={"id": f"subject-{subject}"},
            created_at=now(),
        )
        for sequence in range(1, sequences + 1)
        for subject in range(subjects)
    )


def assert_complete_and_in_order(records):
    """Every event is there; a repeat has the same id; no sequence is seen for the first time behind a higher one."""
    seen: dict[str, dict[int, str]] = defaultdict(dict)
    for record in records:
        event = json.loads(record.value())
        known = seen[event["subject"]]
        if event["sequence"] not in known:
            assert all(sequence < event["sequence"] for sequence in known)
        assert known.setdefault(event["sequence"], event["id"]) == event["id"]
    stored = {str(pk) for pk in Event.objects.values_list("pk", flat=True)}
    assert {pk for known in seen.values() for pk in known.values()} == stored


def count(records):
    return len({json.loads(record.value())["id"] for record in records})


def test_an_event_is_a_cloudevent_under_its_subject(kafka, publisher, client_row):
    message = MessageFactory(client=client_row, reference="order-1", status=Status.SENDING)
    Message.objects.transition([Move(message.id, Status.SENT)])

    drain(publisher)

    (record,) = kafka.read(kafka.events, len)
    row = Event.objects.get()
    event = json.loads(record.value())
    assert record.key() == str(message.id).encode()
    assert dict(record.headers()) == {
        "content-type": b"application/cloudevents+json; charset=UTF-8",
        "ce_id": str(row.id).encode(),
        "ce_type": b"message.sent",
        "ce_sequence": b"1",
    }
    assert dict(record.headers()).keys() == message_headers("event")
    assert (event["specversion"], event["type"], event["source"]) == ("1.0", "message.sent", "http://testserver")
    assert (event["id"], event["subject"], event["sequence"]) == (str(row.id), str(message.id), 1)
    assert (event["client"], event["data"]["reference"]) == (client_row.slug, "order-1")
    assert schema.problem("message.event.v1.json", event) == ""
    assert message.to not in record.value().decode()
    assert message.text not in record.value().decode()
    assert row.published_at is not None


def test_events_of_one_subject_keep_their_order_whatever_their_ids(kafka, publisher):
    events_of(subjects=50, sequences=8)

    drain(publisher)

    records = kafka.read(kafka.events, lambda found: len(found) >= 400)
    assert len(records) == 400
    assert_complete_and_in_order(records)


def test_an_event_waits_for_the_one_before_it(kafka, publisher):
    events_of(subjects=1, sequences=3)

    publisher.work()

    assert published() == [1]
    drain(publisher)
    assert_complete_and_in_order(kafka.read(kafka.events, lambda found: len(found) >= 3))


def test_what_kafka_refuses_for_good_is_marked_and_holds_up_nothing(kafka, publisher, caplog):
    events_of(subjects=3, sequences=3)
    swell("subject-1", 2, 2_000_000)  # larger than our own client lets pass

    drain(publisher)

    refused = Event.objects.exclude(refusal="").get()
    assert (refused.subject, refused.sequence, refused.refusal) == ("subject-1", 2, "MSG_SIZE_TOO_LARGE")
    assert not Event.objects.filter(published_at=None).exists()
    assert publisher._publisher.trouble == ""
    assert f"refuses for good messaging_event: {refused.pk}" in caplog.text
    refused.delete()
    assert_complete_and_in_order(kafka.read(kafka.events, lambda found: len(found) >= 8))


def test_what_shares_a_batch_with_a_record_that_the_broker_refuses_is_published(apache_kafka, settings):
    settings.KAFKA_EVENTS_TOPIC = apache_kafka.topic("small", **{"max.message.bytes": "20000"})
    publisher = relay.Relay(threading.Event())
    events_of(subjects=12, sequences=2)
    swell("subject-3", 1, 30_000)

    drain(publisher)
    publisher.close()

    assert list(Event.objects.exclude(refusal="").values_list("subject", "sequence")) == [("subject-3", 1)]
    assert not Event.objects.filter(published_at=None).exists()
    Event.objects.exclude(refusal="").delete()
    assert_complete_and_in_order(apache_kafka.read(settings.KAFKA_EVENTS_TOPIC, lambda found: count(found) == 23))


def test_a_dead_letter_that_kafka_refuses_is_marked(kafka, publisher):
    values = {"topic": "commands", "partition": 0, "produced_at": now(), "received_at": now(), "reason": "tombstone"}
    DeadLetter.objects.create(**values, offset=1, raw=b"x" * 2_000_000)
    DeadLetter.objects.create(**values, offset=2, raw=None)

    drain(publisher)

    assert list(DeadLetter.objects.order_by("offset").values_list("refusal", flat=True)) == ["MSG_SIZE_TOO_LARGE", ""]
    assert not DeadLetter.objects.filter(published_at=None).exists()
    assert len(kafka.read(kafka.dlq, len)) == 1


def swell(subject, sequence, size):
    data = {"x": secrets.token_hex(size // 2)}  # compressed, all the same letter would be small
    Event.objects.filter(subject=subject, sequence=sequence).update(data=data)


def published():
    return list(Event.objects.exclude(published_at=None).order_by("sequence").values_list("sequence", flat=True))


def test_provider_events_are_told_too(kafka, publisher):
    provider = ProviderFactory(slug="carrier-x")
    Event.objects.create(
        id=uuid.uuid4(), type="provider.down", subject=provider.slug, sequence=1, data={}, created_at=now()
    )

    drain(publisher)

    (record,) = kafka.read(kafka.events, len)
    assert record.key() == b"carrier-x"
    assert "client" not in json.loads(record.value())


def test_lag_counts_what_is_not_out_yet(kafka, publisher):
    before = outbox.lag()
    events_of(subjects=3, sequences=2)
    Event.objects.update(created_at=now().replace(year=2020))

    waiting = outbox.lag()
    drain(publisher)

    assert (before.events, before.seconds) == (0, 0)
    assert waiting.events == 6
    assert waiting.seconds > 86400
    assert outbox.lag().events == 0


def test_a_broker_that_was_killed_gets_the_rest_with_or_without_its_memory(kafka, publisher):
    events_of(subjects=20, sequences=1)
    drain(publisher)
    kafka.kill()
    Event.objects.update(published_at=None)

    refused = publisher.work()
    kafka.start()

    assert not refused
    wait_for(lambda: publisher.work(), 20)
    assert_complete_and_in_order(kafka.read(kafka.events, lambda found: count(found) == 20))


def test_kill_between_acknowledgement_and_mark_repeats_events_and_never_turns_back(kafka, tmp_path, slow_mark):
    events_of(subjects=5, sequences=3)
    with Fleet(tmp_path, **kafka.settings | {"KAFKA_DELIVERY_TIMEOUT": 1}) as fleet:
        known = 0
        for _ in range(2):
            process = fleet.relay()
            known = len(kafka.read(kafka.events, lambda found, known=known: len(found) > known))
            process.kill()
            rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'relay'")
        slow_mark()

        fleet.relay()
        wait_for(lambda: not Event.objects.filter(published_at=None).exists())

    records = kafka.read(kafka.events, lambda found: count(found) == 15)
    assert len(records) > 15
    assert_complete_and_in_order(records)


def test_a_standby_takes_over_and_a_stop_is_quick(kafka, tmp_path):
    with Fleet(tmp_path, **kafka.settings | {"KAFKA_DELIVERY_TIMEOUT": 1}) as fleet:
        first = fleet.relay()
        wait_for(lambda: "leads" in first.output)
        second = fleet.relay()
        events_of(subjects=2, sequences=1)
        wait_for(lambda: not Event.objects.filter(published_at=None).exists())
        first.stop(5)
        Event.objects.update(published_at=None)

        wait_for(lambda: not Event.objects.filter(published_at=None).exists())

        assert "leads" in second.output


def test_the_api_does_not_notice_that_kafka_is_away(kafka, tmp_path, api):
    ProviderFactory(price="0.04")
    with Fleet(tmp_path, **kafka.settings | {"KAFKA_DELIVERY_TIMEOUT": 1}) as fleet:
        fleet.relay()
        kafka.kill()

        answers = [api.post(URL, GOOD, format="json") for _ in range(30)]
        kafka.start()

        assert {answer.status_code for answer in answers} == {202}
        records = kafka.read(kafka.events, lambda found: count(found) == 30, 30)
    assert_complete_and_in_order(records)
