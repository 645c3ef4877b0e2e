"""Kafka out: the outbox and the dead letters, each at least once, the events of one subject in their order.

Why the order holds. Whoever writes an event holds the lock of its subject's row and takes the next sequence, so the
events of one subject commit in the order of their sequences, and a reader of the primary that sees one sees all before
it. The relay takes of each subject only the first event that is not out yet, and the one behind it after that one is
marked. Ids and times play no part: ids of different subjects commit in any order.

What Kafka refuses for good, as too large, is marked with its reason and left out: the sequence has a gap there, and
neither the rest of its subject nor any other waits.
"""

import logging
import threading
from collections.abc import Iterable
from typing import Any

from django.conf import settings

from messaging.cloudevents import CONTENT_TYPE, Told, encode
from messaging.heartbeats import RELAY, Heartbeat
from messaging.kafka import Outgoing, Publisher
from messaging.models import DeadLetter
from providers.sql import rows

log = logging.getLogger(__name__)

GROUP = 1000
NAMED = 10  # ids of what was refused, in one line of the log


class Relay:
    """The leader's work. What was published and not marked is published again, with the same id."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._publisher = Publisher()
        self._publisher.open()  # before it leads: whoever takes over does so at once
        self._heartbeat = Heartbeat(RELAY)

    def elected(self) -> None:
        """Lets pass what the leader before may still have on its way: behind ours it would turn the order back."""
        self._stopping.wait(settings.KAFKA_DELIVERY_TIMEOUT)

    def work(self) -> bool:
        """One group of each kind. True where there is more to do at once."""
        return any([self._events(), self._dead_letters()])

    def told(self, leads: bool) -> None:
        """Called in every round, whoever leads."""
        self._publisher.poll()
        self._heartbeat.tell("leads" if leads else "stands by", self._publisher.trouble)

    def close(self) -> None:
        self._publisher.close()
        self._heartbeat.end()

    def _events(self) -> bool:
        events = [Told(*row) for row in rows(_FIRST_OF_EACH_SUBJECT, {"limit": GROUP})]
        return self._publish("messaging_event", [event.id for event in events], map(_event_record, events))

    def _dead_letters(self) -> bool:
        letters = list(DeadLetter.objects.filter(published_at=None).order_by("id")[:GROUP])
        return self._publish("messaging_deadletter", [letter.pk for letter in letters], map(_letter_record, letters))

    def _publish(self, table: str, ids: list[Any], records: Iterable[Outgoing]) -> bool:
        if not ids:
            return False
        found = self._publisher.publish(list(records), self._stopping)
        _mark(table, [ids[index] for index in found.taken])
        by_reason: dict[str, list[Any]] = {}
        for index, reason in found.refused.items():
            by_reason.setdefault(reason, []).append(ids[index])
        for reason, refused in by_reason.items():
            _mark(table, refused, reason)
            named = ", ".join(map(str, refused[:NAMED]))
            log.error("Kafka refuses for good %s: %s", table, named, extra={"code": reason, "count": len(refused)})
        return len(found.taken) + len(found.refused) == len(ids)


def _mark(table: str, ids: list[Any], refusal: str = "") -> None:
    """As dealt with: what is behind them in their subjects is next."""
    rows(
        f"UPDATE {table} SET published_at = clock_timestamp(), refusal = %(refusal)s WHERE id = ANY(%(ids)s)",  # noqa: S608  our tables
        {"ids": ids, "refusal": refusal},
    )


# The event before is looked up for each row on its own: joined, a long backlog would be hashed anew for every group.
_FIRST_OF_EACH_SUBJECT = """
SELECT e.id, e.type, e.subject, e.sequence, c.slug, e.created_at, e.data::text
FROM messaging_event e LEFT JOIN messaging_client c ON c.id = e.client_id
WHERE e.published_at IS NULL AND coalesce((SELECT p.published_at IS NOT NULL FROM messaging_event p
  WHERE p.subject = e.subject AND p.sequence = e.sequence - 1), true)
ORDER BY e.id LIMIT %(limit)s
"""


def _event_record(event: Told) -> Outgoing:
    headers = {
        "content-type": CONTENT_TYPE.encode(),
        "ce_id": str(event.id).encode(),
        "ce_type": event.type.encode(),
        "ce_sequence": str(event.sequence).encode(),
    }
    return Outgoing(settings.KAFKA_EVENTS_TOPIC, event.subject.encode(), encode(event), headers)


def _letter_record(letter: DeadLetter) -> Outgoing:
    headers = {
        "dlq-reason": letter.reason.encode(),
        "dlq-detail": letter.detail.encode(),
        "dlq-topic": letter.topic.encode(),
        "dlq-partition": str(letter.partition).encode(),
        "dlq-offset": str(letter.offset).encode(),
        "dlq-truncated": str(letter.truncated).lower().encode(),
    }
    key = None if letter.key is None else bytes(letter.key)
    value = None if letter.raw is None else bytes(letter.raw)
    return Outgoing(settings.KAFKA_DLQ_TOPIC, key, value, headers)
