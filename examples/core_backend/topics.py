"""Commands out and events in, by Kafka."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, Message, Producer

from examples.core_backend.store import Store


def produce(store: Store, servers: str, topic: str, commands: Iterable[dict[str, Any]]) -> int:
    """Writes them, and marks those that Kafka has acknowledged; returns how many. Safe to repeat: ids are the same."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "partitioner": "murmur2_random"})
    acknowledged: list[str] = []
    for command in commands:

        def report(error: object, _: Message, command_id: str = command["id"]) -> None:
            if error is None:
                acknowledged.append(command_id)

        producer.produce(topic, json.dumps(command), key=command["subject"], on_delivery=report)
    producer.flush(30)
    for command_id in acknowledged:
        store.produced(command_id)
    return len(acknowledged)


def listen(store: Store, servers: str, topic: str, group: str, goes_on: Callable[[], bool]) -> None:
    """Offsets are committed behind what is stored: an event may be read twice, and the second time is no news."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([topic])
    try:
        while goes_on():
            message = consumer.poll(0.5)
            if message is None or message.error():
                continue
            store.hear(json.loads(message.value() or b"{}"))
            consumer.store_offsets(message)
    finally:
        consumer.close()
