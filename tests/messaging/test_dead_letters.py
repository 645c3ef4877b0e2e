"""How long dead letters are kept."""

from datetime import timedelta

import pytest

from messaging import dead_letters
from messaging.models import DeadLetter
from tests.messaging.stages import now

pytestmark = pytest.mark.django_db


def bury(offset, days, *, published=True):
    moment = now() - timedelta(days=days)
    DeadLetter.objects.create(
        topic="c",
        partition=0,
        offset=offset,
        produced_at=moment,
        received_at=moment,
        reason="invalid_json",
        published_at=moment if published else None,
    )


def test_old_ones_are_forgotten(settings):
    settings.DEAD_LETTER_DAYS = 30
    bury(1, 31)
    bury(2, 29)

    dead_letters.purge()

    assert list(DeadLetter.objects.values_list("offset", flat=True)) == [2]


def test_what_is_not_on_its_topic_yet_is_kept_where_there_is_kafka(settings):
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    bury(1, 1000, published=False)
    dead_letters.purge()
    kept = DeadLetter.objects.count()
    settings.KAFKA_BOOTSTRAP_SERVERS = ""

    dead_letters.purge()

    assert (kept, DeadLetter.objects.count()) == (1, 0)
