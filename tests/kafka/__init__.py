"""A Kafka for tests: the embedded broker, or an Apache Kafka; and plain clients beside ours."""

import json
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from config.local import kafka as broker
from config.local.postgres import die_with_parent, free_port
from messaging.kafka import create_topics
from tests.fleet import wait_for
from tests.kafka.server import Server

PARTITIONS = 4


class Kafka:
    """Topics of one test's own. It can be taken away: the embedded broker comes back without its memory."""

    def __init__(self, server: Server | None = None) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._server = server
        self._port = 0 if server else free_port()
        self.url = server.url if server else f"127.0.0.1:{self._port}"
        mark = uuid.uuid4().hex[:8]
        self.events, self.commands, self.dlq = (f"{name}.{mark}" for name in ("events", "commands", "dlq"))
        self.group = f"group.{mark}"
        self.settings = {
            "KAFKA_BOOTSTRAP_SERVERS": self.url,
            "KAFKA_EVENTS_TOPIC": self.events,
            "KAFKA_COMMANDS_TOPIC": self.commands,
            "KAFKA_DLQ_TOPIC": self.dlq,
            "KAFKA_GROUP": self.group,
            "KAFKA_DELIVERY_TIMEOUT": 2,
            "KAFKA_SESSION_TIMEOUT": 2,
        }

    @property
    def remembers(self) -> bool:
        return self._server is not None

    def start(self) -> None:
        if not self._server:
            self._process = subprocess.Popen(
                [broker.binary(), *broker.arguments(self._port)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
            wait_for(self._listens)
        elif not self._server.runs:
            self._server.start()
        create_topics({self.events: PARTITIONS, self.commands: PARTITIONS, self.dlq: 1}, 1)

    def topic(self, name: str, **config: str) -> str:
        """One more, with settings of its own; returns its whole name."""
        found = f"{name}.{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": self.url})
        admin.create_topics([NewTopic(found, PARTITIONS, 1, config=config)])[found].result(20)
        return found

    def end(self) -> None:
        """The server is of the whole run, and goes on."""
        if not self._server:
            self.kill()

    def kill(self) -> None:
        if self._server:
            self._server.kill()
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def done(self, group: str = "", topic: str = "") -> int:
        """Commands whose offsets are committed, or the records of another group and topic."""
        consumer = Consumer({"bootstrap.servers": self.url, "group.id": group or self.group})
        try:
            places = [TopicPartition(topic or self.commands, partition) for partition in range(PARTITIONS)]
            return sum(max(place.offset, 0) for place in consumer.committed(places, timeout=10))
        finally:
            consumer.close()

    @contextmanager
    def producer(self) -> Iterator[Callable[..., None]]:
        """`send(key, value, topic=commands, headers=...)`; all is in Kafka at the end of the block."""
        found = {"partitioner": "murmur2_random", "linger.ms": 2, "message.max.bytes": 10_000_000}
        producer = Producer({"bootstrap.servers": self.url, **found})

        def send(key: bytes | None, value: object, **extra: object) -> None:
            raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            try:
                producer.produce(extra.pop("topic", self.commands), key=key, value=raw, **extra)
            except BufferError:
                producer.flush(20)
                producer.produce(self.commands, key=key, value=raw, **extra)

        yield send
        assert producer.flush(20) == 0

    def read(self, topic: str, enough: Callable[[list[Message]], object], seconds: float = 20) -> list[Message]:
        """Everything in the topic, in the order of each partition, once `enough` of it is true."""
        consumer = Consumer({"bootstrap.servers": self.url, "group.id": "none", "enable.auto.commit": False})
        found: list[Message] = []
        deadline = time.monotonic() + seconds
        try:
            consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
            while time.monotonic() < deadline:
                found += [message for message in consumer.consume(500, 0.1) if message.error() is None]
                if enough(found):
                    return found
        finally:
            consumer.close()
        raise AssertionError(f"{len(found)} records in {topic}, and more were expected")


def command(source: object, data: object, **attributes: object) -> dict[str, object]:
    """A command of a client; messaging.message.send, with an id of its own, unless told otherwise."""
    known = {"specversion": "1.0", "type": "messaging.message.send", "id": uuid.uuid4().hex}
    return {**known, "source": str(source), "data": data, **attributes}
