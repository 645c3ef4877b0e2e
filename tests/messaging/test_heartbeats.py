"""What relays and bridges tell of themselves, and who is taken for gone."""

from datetime import timedelta

import pytest

from messaging import heartbeats
from messaging.heartbeats import BRIDGE, RELAY, Heartbeat
from messaging.models import KafkaProcess
from tests.messaging.stages import now

pytestmark = pytest.mark.django_db


def told():
    return [(word.role, word.state, word.detail, word.partitions, word.waiting) for word in heartbeats.words()]


def test_a_change_is_told_at_once_and_the_rest_now_and_then(monkeypatch):
    heartbeat = Heartbeat(BRIDGE)
    heartbeat.tell("reads", partitions=[0, 1], waiting=5)
    heartbeat.tell("reads", partitions=[0, 1], waiting=7)
    calm = told()
    heartbeat.tell("waits", "a lane is full", [0, 1], 9)
    changed = told()
    monkeypatch.setattr(heartbeats, "EVERY", 0.0)
    heartbeat.tell("waits", "a lane is full", [0, 1], 11)

    assert calm == [("bridge", "reads", "", [0, 1], 5)]
    assert changed == [("bridge", "waits", "a lane is full", [0, 1], 9)]
    assert told() == [("bridge", "waits", "a lane is full", [0, 1], 11)]


def test_one_that_stopped_in_good_order_is_not_shown():
    first, second = Heartbeat(RELAY), Heartbeat(RELAY)
    first.tell("leads")
    second.tell("stands by")

    first.end()

    assert told() == [("relay", "stands by", "", [], None)]


def test_one_that_was_killed_is_gone_after_a_while_and_forgotten_after_a_day():
    Heartbeat(RELAY).tell("leads")
    KafkaProcess.objects.update(seen_at=now() - timedelta(minutes=5))
    (word,) = heartbeats.words()
    KafkaProcess.objects.update(seen_at=now() - timedelta(hours=25))

    Heartbeat(RELAY).tell("stands by")

    assert not word.alive
    assert [word.state for word in heartbeats.words()] == ["stands by"]
    assert heartbeats.words()[0].alive


def test_what_waits_is_known_only_where_every_bridge_knows():
    bridges = [Heartbeat(BRIDGE), Heartbeat(BRIDGE)]
    unknown = heartbeats.waiting([])
    bridges[0].tell("reads", waiting=3)
    bridges[1].tell("reads", waiting=4)
    known = heartbeats.waiting(heartbeats.words())
    bridges[1].tell("waits", "Kafka: _ALL_BROKERS_DOWN", waiting=None)

    assert (unknown, known, heartbeats.waiting(heartbeats.words())) == (None, 7, None)
