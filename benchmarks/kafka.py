"""Kafka in and out: commands taken by the bridges, beside a bare loop; events published by the relay.

On an Apache Kafka of the run's own (Java and Maven are needed). As many bridges, or bare loops, as cores. All of them
have joined, and have taken some, before the first record is written; the database's clock tells when the last is in.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks import ingest, load
from benchmarks.cpu import Meter
from benchmarks.fleets import CORES, Ours
from benchmarks.measure import TIMEOUT, Failed, Sample
from benchmarks.world import World
from tests.fleet import Process, wait_for
from tests.kafka.server import Missing, Server, class_path

PARTITIONS = 4
WARM_UP = 2000  # records
BARE = "bare"  # its database
_names = count()


class Broker:
    """Use as `with Broker(world) as broker`."""

    def __init__(self, world: World) -> None:
        try:
            self._server = Server(world.directory / "kafka", class_path())
        except Missing as missing:
            raise Failed(str(missing)) from None
        self.world = world
        self.url = self._server.url

    def __enter__(self) -> "Broker":
        self._server.start()
        self.world.groups["kafka"] = [self._server.pid]
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.kill()

    def settings(self) -> dict[str, str]:
        """Topics of one measurement."""
        mark = next(_names)
        names = {name: f"{name.lower()}.{mark}" for name in ("EVENTS", "COMMANDS", "DLQ")}
        topics = [NewTopic(name, PARTITIONS, 1) for name in names.values()]
        admin = AdminClient({"bootstrap.servers": self.url})  # it must outlive its answers
        for future in admin.create_topics(topics).values():
            future.result()
        found = {f"KAFKA_{name}_TOPIC": topic for name, topic in names.items()}
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.url,
            "KAFKA_GROUP": f"group.{mark}",
            "KAFKA_SESSION_TIMEOUT": "6",
            "KAFKA_DELIVERY_TIMEOUT": "3",
            "KAFKA_LANE_LIMIT": "10000000",
            **found,
        }


def bare(broker: Broker, commands: int) -> Sample:
    world = broker.world
    world.rest()
    settings, url = broker.settings(), world.cluster.url(BARE)
    ingest.prepare(url)
    arguments = ("-m", "benchmarks.ingest", broker.url, settings["KAFKA_COMMANDS_TOPIC"], settings["KAFKA_GROUP"], url)
    with psycopg.connect(url, autocommit=True) as connection, _running(world, "ingest", arguments, {}) as loops:
        connection.execute("TRUNCATE bench_message")

        def joined() -> bool:
            return sum(int(loop.output.split()[-1]) for loop in loops if loop.output) == PARTITIONS

        wait_for(joined, 60)
        return _taken(broker, settings, connection, "bench_message", commands, loops, "bare loops")


def bridges(broker: Broker, ours: Ours, commands: int) -> Sample:
    ours.world.rest()
    ours.clear()
    ours.connection.execute("DELETE FROM messaging_kafkaprocess")
    settings = broker.settings()
    with _running(ours.world, "bridge", ("manage.py", "run_bridge"), ours.environment | settings) as found:
        query = "SELECT coalesce(sum(cardinality(partitions)), 0) FROM messaging_kafkaprocess"
        wait_for(lambda: ours.one(query) == PARTITIONS, 60)
        return _taken(broker, settings, ours.connection, ours.table, commands, found, "bridges")


def relay(broker: Broker, ours: Ours, events: int) -> Sample:
    """Three events for each of so many subjects, all written at one moment."""
    ours.world.rest()
    ours.clear()
    settings = broker.settings()
    with _running(ours.world, "relay", ("manage.py", "run_relay"), ours.environment | settings, 1) as (process,):
        _write_events(ours, WARM_UP)
        _wait(lambda: not ours.one(_UNPUBLISHED), [process])
        with Meter(ours.world.groups | {"relay": [process.pid]}) as meter:
            started = _write_events(ours, events)
            _wait(lambda: not ours.one(_UNPUBLISHED), [process])
        last = float(ours.one("SELECT extract(epoch FROM max(published_at)) FROM messaging_event"))
    cpu = {name: seconds / events * 1e6 for name, seconds in meter.cpu.items()}
    return Sample(events / (last - started), events, cpu, {}, meter.steal, meter.other)


_UNPUBLISHED = "SELECT EXISTS (SELECT FROM messaging_event WHERE published_at IS NULL)"


def _write_events(ours: Ours, number: int) -> float:
    """Returns when they are there, by the database's clock."""
    ours.connection.execute(
        """
        INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at)
        SELECT uuidv7(), 'message.sent', s.id, n, (SELECT id FROM messaging_client LIMIT 1), jsonb_build_object(
          'id', s.id, 'class', 'transactional', 'status', 'sent', 'country', 'UA', 'provider', 'carrier-a',
          'segments', 1, 'reference', 'order-4711', 'to_masked', '+380******567', 'possible_duplicate', false),
          clock_timestamp()
        FROM (SELECT uuidv7()::text AS id FROM generate_series(1, %s)) s, generate_series(1, 3) n""",
        [number // 3],
    )
    return float(ours.one("SELECT extract(epoch FROM clock_timestamp())"))


def _taken(
    broker: Broker,
    settings: dict[str, str],
    connection: psycopg.Connection[Any],
    table: str,
    commands: int,
    processes: Sequence[Process],
    name: str,
) -> Sample:
    topic = settings["KAFKA_COMMANDS_TOPIC"]

    def stored() -> int:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return row[0] if row else 0

    _produce(broker.url, topic, WARM_UP)
    _wait(lambda: stored() == WARM_UP, processes)
    with Meter(broker.world.groups | {name: [process.pid for process in processes]}) as meter:
        started = time.time()
        _produce(broker.url, topic, commands)
        _wait(lambda: stored() >= WARM_UP + commands, processes, pause=0.25)
    row = connection.execute(f"SELECT count(*), extract(epoch FROM max(created_at))::float8 FROM {table}").fetchone()
    assert row is not None
    if row[0] != WARM_UP + commands:
        raise Failed(f"{row[0]} rows for {WARM_UP + commands} commands")
    cpu = {group: seconds / commands * 1e6 for group, seconds in meter.cpu.items()}
    return Sample(commands / (row[1] - started), commands, cpu, {}, meter.steal, meter.other)


def _produce(servers: str, topic: str, number: int) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    for key, value in load.commands(number):
        producer.produce(topic, value, key)
    if producer.flush(60):
        raise Failed("Kafka does not take the commands")


def _wait(condition: Callable[[], bool], processes: Sequence[Process], pause: float = 0.05) -> None:
    try:
        wait_for(lambda: condition() or any(process.ended for process in processes), TIMEOUT, pause)
    except AssertionError:
        raise Failed(f"not all taken in {TIMEOUT:.0f} s") from None
    if ended := [process for process in processes if process.ended]:
        raise Failed(ended[0].output[-400:])


@contextmanager
def _running(
    world: World, name: str, arguments: Sequence[str], environment: dict[str, str], number: int = CORES
) -> Iterator[list[Process]]:
    mark = secrets.token_hex(3)
    with ExitStack() as stack:
        found = []
        for n in range(number):
            found.append(world.start(f"{name}-{mark}-{n}", *arguments, **environment))
            stack.callback(found[-1].kill)
        yield found
        for process in found:
            process.stop()
