"""The Kafka client. Nothing else knows librdkafka: others see records, and offsets that move when they say so."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from django.conf import settings

log = logging.getLogger(__name__)

FETCH_WAIT = 0.02  # seconds for a group to fill up once its first record is there
STOP_WAIT = 2  # seconds for the last acknowledgements of a producer that is told to stop
CLOSE_WAIT = 4  # seconds for a reader to commit and to leave its group
ADMIN_WAIT = 15  # seconds
LAG_WAIT = 1  # seconds for each question about how much waits
QUIET = 10  # seconds between two lines of a kind from the client
FOR_GOOD = frozenset(["MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD"])  # however often it is tried


class _Throttle(logging.Filter):
    """One line of a kind in a while: librdkafka tells every vain connection, twenty a second."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.getMessage().partition(" ")[0]
        quiet = time.monotonic() - self._told.get(kind, -QUIET) < QUIET
        if not quiet:
            self._told[kind] = time.monotonic()
        return not quiet


client_log = logging.getLogger(f"{__name__}.client")
client_log.addFilter(_Throttle())


class KafkaStopped(Exception):
    """The client cannot go on; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be written."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Published:
    """Of a group, by index: what Kafka has taken, and what it never will, with its reason. The rest: another time."""

    taken: Set[int]
    refused: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as it was read; `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    produced_at: datetime


class Publisher:
    """An idempotent producer, made anew when it is stuck."""

    def __init__(self) -> None:
        self._producer: Producer | None = None
        self.trouble = ""  # why Kafka did not take all of the last records; one line for a person

    def open(self) -> Producer:
        """Connects in the background. librdkafka asks for a producer's id half a second after it was made."""
        self._producer = self._producer or Producer(_producing(), logger=client_log)
        return self._producer

    def publish(self, records: Sequence[Outgoing], stopping: threading.Event) -> Published:
        """Writes them, in no order that could be relied on.

        Takes little longer than KAFKA_DELIVERY_TIMEOUT, and twice that where Kafka does not take them. One that is
        in neither part of the answer may have been written all the same.
        """
        taken, errors = self._write(records, stopping)
        refused = {}
        for index in [index for index, error in errors.items() if error in FOR_GOOD]:
            # Once more by itself: a broker refuses a whole batch for one record in it.
            alone, found = self._write([records[index]], stopping)
            if alone:
                taken.add(index)
            elif found.get(0) in FOR_GOOD:
                refused[index] = found[0]
            else:  # Kafka has gone meanwhile
                break
        self.trouble = ""
        if len(taken) + len(refused) < len(records):
            reasons = ", ".join(sorted(set(errors.values()) - FOR_GOOD)) or "-"
            self.trouble = f"Kafka took {len(taken)} of {len(records)} records: {reasons}"
            log.warning("%s", self.trouble)
            # A broker that restarted without its memory never lets an idempotent producer through again (seen).
            self.close()
            self.open()
            # What the old producer has on its way would turn the order back behind what the new one writes.
            stopping.wait(settings.KAFKA_DELIVERY_TIMEOUT)
        return Published(taken, refused)

    def _write(self, records: Sequence[Outgoing], stopping: threading.Event) -> tuple[set[int], dict[int, str]]:
        """Those that were acknowledged, and what became of others, as far as it is told in time."""
        producer = self.open()
        taken: set[int] = set()
        errors: dict[int, str] = {}
        for index, record in enumerate(records):
            report = partial(_report, taken, errors, index)
            try:
                producer.produce(
                    record.topic, record.value, record.key, headers=dict(record.headers), on_delivery=report
                )
            except KafkaException as error:  # larger than the client's own limit, or a producer that has given up
                errors[index] = error.args[0].name()
        deadline = time.monotonic() + settings.KAFKA_DELIVERY_TIMEOUT + 1
        while producer.flush(0.1) and time.monotonic() < deadline:
            if stopping.is_set():
                deadline = min(deadline, time.monotonic() + STOP_WAIT)
        return taken, errors

    def poll(self) -> None:
        """Takes what the client has to tell, of its connections too: until then it is kept in memory."""
        if self._producer:
            self._producer.poll(0)

    def close(self) -> None:
        if self._producer:
            self._producer.purge()
            self._producer = None


class Subscriber:
    """One member of the group that reads the commands. Offsets move by `done` alone and are committed behind it."""

    def __init__(self, topic: str) -> None:
        self._consumer = Consumer(_consuming(), logger=client_log)
        self._consumer.subscribe([topic])
        self._paused = False
        self.partitions: list[int] = []
        self.trouble = ""  # what the client told last, until a record comes; one line for a person
        self._ends: dict[tuple[str, int], int] = {}  # behind what was fetched and is not done in full

    def fetch(self, limit: int, seconds: float) -> list[Incoming]:
        """Up to `limit` records: waits for the first, then only for what is on its way. Raises KafkaStopped.

        While paused it gives none but those of a partition that a rebalance has just brought.
        """
        assigned = self._consumer.assignment()
        if (partitions := sorted(place.partition for place in assigned)) != self.partitions:
            self.partitions = partitions
            log.info("reading partitions %s", partitions)
        if self._paused:
            self._consumer.pause(assigned)
        first = self._consumer.poll(seconds)
        found = [] if first is None else [first]
        if found and limit > 1:
            found += self._consumer.consume(limit - 1, FETCH_WAIT)
        records = [record for message in found if (record := self._read(message))]
        for record in records:
            self._ends[record.topic, record.partition] = record.offset + 1
            self.trouble = ""
        return records

    def _read(self, message: Message) -> Incoming | None:
        error = message.error()
        if error is None:
            return _record(message)
        # A consumer that was fenced tells it once, as _FATAL with the reason in words, and is silent from then on.
        if error.code() == KafkaError.FENCED_INSTANCE_ID or "group.instance.id" in error.str():
            raise KafkaStopped("Another bridge has the same KAFKA_MEMBER: each needs a name of its own.")
        if error.fatal() or error.code() == KafkaError._FATAL:
            raise KafkaStopped(error.str())
        client_log.warning("%s %s", error.name(), error.str())
        self.trouble = f"Kafka: {error.name()}"
        return None

    def waiting(self) -> int | None:
        """How many records of its partitions are not done; None where Kafka does not say soon."""
        found = 0
        try:
            for place in self._consumer.committed(self._consumer.assignment(), timeout=LAG_WAIT):
                first, end = self._consumer.get_watermark_offsets(place, timeout=LAG_WAIT)
                # Never below zero: a topic may be made anew, and the embedded broker tells the end of the last batch
                # as if it had one record.
                found += max(0, end - (place.offset if place.offset >= 0 else first))
        except KafkaException as error:
            self.trouble = self.trouble or f"Kafka: {error.args[0].name()}"
            return None
        self.trouble = ""
        return found

    def done(self, but: Sequence[Incoming] = ()) -> None:
        """All that was fetched need not be read again, but for these and what is behind them in their partitions."""
        ends = dict(self._ends)
        for record in but:
            place = (record.topic, record.partition)
            ends[place] = min(ends.get(place, record.offset), record.offset)
        for (topic, partition), offset in ends.items():
            try:
                self._consumer.store_offsets(offsets=[TopicPartition(topic, partition, offset)])
            except KafkaException:
                # Another bridge has the partition now and reads these again: their keys are known by then.
                log.info("partition %d has gone to another bridge", partition)
        kept = {(record.topic, record.partition) for record in but}
        self._ends = {place: end for place, end in self._ends.items() if place in kept}

    def pause(self) -> None:
        """Records wait in Kafka; `fetch` still keeps this member in its group."""
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())

    def close(self) -> None:
        """Commits what is done and leaves; a member with a name keeps its partitions for KAFKA_SESSION_TIMEOUT."""
        # Without a broker to commit to, it would wait for as long as KAFKA_SESSION_TIMEOUT (seen).
        closing = threading.Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(CLOSE_WAIT)


def create_topics(partitions: Mapping[str, int], replication_factor: int) -> dict[str, str]:
    """Creates those that are missing; returns what became of each. Raises KafkaStopped where Kafka does not answer."""
    client = AdminClient(_connection(), logger=client_log)
    topics = [NewTopic(name, num_partitions=n, replication_factor=replication_factor) for name, n in partitions.items()]
    found = {}
    for name, future in client.create_topics(topics, request_timeout=ADMIN_WAIT).items():
        try:
            future.result()
            found[name] = "created"
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaStopped(f"{name}: {error.args[0].str()}") from None
            found[name] = "was there"
    return found


def _report(taken: set[int], errors: dict[int, str], index: int, error: KafkaError | None, _: Message) -> None:
    if error is None:
        taken.add(index)
    else:
        errors[index] = error.name()


def _record(message: Message) -> Incoming:
    record: Any = message  # its methods may return None for what is not a record
    produced_at = datetime.fromtimestamp(max(record.timestamp()[1], 0) / 1000, UTC)
    where = (record.topic(), record.partition(), record.offset())
    return Incoming(*where, record.key(), record.value(), record.headers() or [], produced_at)


def _connection() -> dict[str, Any]:
    found = {
        "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
        "client.id": "mexar-messaging",
        "security.protocol": settings.KAFKA_SECURITY_PROTOCOL,
        "ssl.ca.location": settings.KAFKA_CA_FILE,
        "ssl.certificate.location": settings.KAFKA_CERTIFICATE_FILE,
        "ssl.key.location": settings.KAFKA_KEY_FILE,
        "ssl.key.password": settings.KAFKA_KEY_PASSWORD,
        "reconnect.backoff.max.ms": 2000,
    }
    if settings.KAFKA_SECURITY_PROTOCOL == "SASL_SSL":
        found["sasl.mechanism"] = settings.KAFKA_SASL_MECHANISM
        found["sasl.username"] = settings.KAFKA_USERNAME
        found["sasl.password"] = settings.KAFKA_PASSWORD
    return {name: value for name, value in found.items() if value != ""}


def _producing() -> dict[str, Any]:
    return {
        **_connection(),
        "enable.idempotence": True,
        "acks": "all",
        "delivery.timeout.ms": int(settings.KAFKA_DELIVERY_TIMEOUT * 1000),
        "linger.ms": 2,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",  # Java's: a key's partition is the same whoever writes
    }


def _consuming() -> dict[str, Any]:
    found = {
        **_connection(),
        "group.id": settings.KAFKA_GROUP,
        "group.instance.id": settings.KAFKA_MEMBER,
        "session.timeout.ms": int(settings.KAFKA_SESSION_TIMEOUT * 1000),
        "heartbeat.interval.ms": min(3000, int(settings.KAFKA_SESSION_TIMEOUT * 1000 / 5)),
        "auto.offset.reset": "earliest",  # a command is never skipped
        # librdkafka commits in the background, and only what `done` has stored. Commits of our own would fail in
        # the middle of a cooperative rebalance (librdkafka #4059).
        "enable.auto.offset.store": False,
        "auto.commit.interval.ms": 1000,
        "partition.assignment.strategy": "cooperative-sticky",
        "isolation.level": "read_committed",
    }
    return {name: value for name, value in found.items() if value != ""}
