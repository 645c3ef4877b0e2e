"""A hundred relays on a real Apache Kafka, each killed between the acknowledgement and the mark."""

import json
from collections import defaultdict

import pytest

from messaging.models import Event
from tests.fleet import Fleet, wait_for
from tests.messaging.test_relay import events_of

pytestmark = [pytest.mark.chaos, pytest.mark.broker, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

KILLS = 100
SUBJECTS, SEQUENCES = 20, KILLS + 10


def test_every_event_is_there_and_no_subject_goes_back(apache_kafka, tmp_path):
    events_of(subjects=SUBJECTS, sequences=SEQUENCES)
    with Fleet(tmp_path, **apache_kafka.settings | {"KAFKA_DELIVERY_TIMEOUT": 0.5}) as fleet:
        killed = fleet.program(
            "relays", "-m", "tests.chaos.relays", str(KILLS), DJANGO_SETTINGS_MODULE="config.settings"
        )
        killed.wait(240)
        deaths = int(killed.output.split()[-1])
        fleet.relay()
        wait_for(lambda: not Event.objects.filter(published_at=None).exists(), 60)

    stored = {str(pk): sequence for pk, sequence in Event.objects.values_list("pk", "sequence")}
    records = apache_kafka.read(
        apache_kafka.events, lambda found: len({body(one)["id"] for one in found}) == len(stored)
    )
    last: dict[str, int] = defaultdict(int)
    for record in records:
        event = body(record)
        assert stored[event["id"]] == event["sequence"]
        assert event["sequence"] in (last[event["subject"]], last[event["subject"]] + 1)
        last[event["subject"]] = event["sequence"]
    assert deaths == KILLS
    assert len(records) - len(stored) >= KILLS  # each death had published something


def body(record):
    return json.loads(record.value())
