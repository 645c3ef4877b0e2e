"""The parts of a run, and the steps of each."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

from benchmarks import checks, history, kafka, limits, measure, metrics, orders, webhooks
from benchmarks.fleets import Fleet, Naive, Ours
from benchmarks.measure import Sample
from benchmarks.world import World, say

HISTORY = 2_000_000  # closed messages


@dataclass(frozen=True)
class Step:
    """One measurement, named like its figure in results.py."""

    name: str
    run: Callable[[], Sample]
    fleet: Fleet | None = None


class Bench:
    """What the parts share; a fleet is started when the first part asks for it. `scale` 1.0 is a full run."""

    def __init__(self, world: World, stack: ExitStack, scale: float) -> None:
        self.world = world
        self.scale = scale
        self._stack = stack

    @cached_property
    def ours(self) -> Ours:
        return self._stack.enter_context(Ours(self.world, self.world.create_database("ours")))

    @cached_property
    def naive(self) -> Naive:
        return self._stack.enter_context(Naive(self.world, self.world.create_database("naive")))

    @cached_property
    def kafka(self) -> kafka.Broker:
        return self._stack.enter_context(kafka.Broker(self.world))

    @cached_property
    def full(self) -> history.Full:
        fleet = self._stack.enter_context(history.Full(self.world, self.world.create_database("full")))
        closed, started = self.hundreds(HISTORY), time.monotonic()
        say(f"filling a database with {closed:,} closed messages ...")
        history.fill(fleet, closed)
        size = fleet.one("SELECT pg_database_size(current_database())") / 1e9
        say(f"... {size:.1f} GB in {time.monotonic() - started:.0f} s")
        return fleet

    @cached_property
    def orders(self) -> orders.Orders:
        return orders.Orders(self.world, self.scale)

    def hundreds(self, messages: int) -> int:
        return max(1, round(messages * self.scale / 100)) * 100


def physical(bench: Bench) -> list[Step]:
    world, seconds = bench.world, max(1, round(3 * bench.scale))
    world.create_database(limits.DATABASE)

    def insert(rows: int, clients: int) -> Sample:
        world.rest()
        return limits.insert(world, rows=rows, clients=clients, seconds=seconds)

    return [
        Step("insert-1", lambda: insert(1, clients=16)),
        Step("insert-100", lambda: insert(100, clients=8)),
        Step("fdatasync", lambda: limits.flushes(world.directory, bench.scale)),
    ]


def naive(bench: Bench) -> list[Step]:
    fleet, messages = bench.naive, bench.hundreds(900)
    return [
        Step("naive-accept", lambda: measure.accept_naive(fleet, 4 * bench.scale), fleet),
        Step("naive-sent", lambda: measure.end_to_end_naive(fleet, messages), fleet),
    ]


def single(bench: Bench) -> list[Step]:
    return [Step("single", lambda: measure.accept_singles(bench.ours, 4 * bench.scale), bench.ours)]


def batch(bench: Bench) -> list[Step]:
    fleet, seconds = bench.ours, 3 * bench.scale
    return [
        Step("batch-100", lambda: measure.accept_batches(fleet, 100, seconds), fleet),
        Step("batch-500", lambda: measure.accept_batches(fleet, 500, seconds), fleet),
    ]


def sent(bench: Bench) -> list[Step]:
    messages = bench.hundreds(15_000)
    return [Step("sent", lambda: measure.end_to_end(bench.ours, messages, receipts=False), bench.ours)]


def delivered(bench: Bench) -> list[Step]:
    messages = bench.hundreds(8_000)
    return [Step("delivered", lambda: measure.end_to_end(bench.ours, messages, receipts=True), bench.ours)]


def sent_single(bench: Bench) -> list[Step]:
    messages = bench.hundreds(4_000)
    return [Step("sent-single", lambda: measure.end_to_end(bench.ours, messages, receipts=False, size=1), bench.ours)]


def tables(bench: Bench) -> list[Step]:
    empty, full, messages = bench.ours, bench.full, bench.hundreds(8_000)
    return [
        Step("empty", lambda: measure.end_to_end(empty, messages, receipts=True), empty),
        Step("full", lambda: measure.end_to_end(full, messages, receipts=True), full),
    ]


def checked(bench: Bench) -> list[Step]:
    world, fleet, seconds = bench.world, bench.ours, 6 * bench.scale
    world.create_database(limits.CHECKS)

    def update() -> Sample:
        world.rest()
        return limits.update(world, clients=measure.CLIENTS, seconds=max(1, round(3 * bench.scale)))

    return [
        Step("update-1", update),
        Step("check", lambda: checks.one_after_the_other(fleet, 4 * bench.scale), fleet),
        Step("check-idle", lambda: checks.alone(fleet, seconds), fleet),
        Step("check-busy", lambda: checks.beside_senders(fleet, seconds), fleet),
        Step("check-posted", lambda: checks.beside_posters(fleet, seconds), fleet),
    ]


def brokered(bench: Bench) -> list[Step]:
    broker, ours = bench.kafka, bench.ours
    bench.world.create_database(kafka.BARE)
    commands, events = bench.hundreds(30_000), 3 * bench.hundreds(10_000)
    return [
        Step("bare-ingest", lambda: kafka.bare(broker, commands)),
        Step("bridge", lambda: kafka.bridges(broker, ours, commands), ours),
        Step("relay", lambda: kafka.relay(broker, ours, events), ours),
    ]


def compared(bench: Bench) -> list[Step]:
    messages = bench.hundreds(4_000)
    return [Step("metrics", lambda: metrics.compare(bench.ours, messages), bench.ours)]


def told(bench: Bench) -> list[Step]:
    fleet, events, seconds = bench.ours, max(20, round(1500 * bench.scale)), 8 * bench.scale
    return [
        Step("webhooks", lambda: webhooks.burst(fleet, events, hanging=False), fleet),
        Step("webhooks-hang", lambda: webhooks.burst(fleet, events, hanging=True), fleet),
        Step("webhooks-calm", lambda: webhooks.arriving(fleet, seconds, hanging=False), fleet),
        Step("webhooks-late", lambda: webhooks.arriving(fleet, seconds, hanging=True), fleet),
    ]


def routed(bench: Bench) -> list[Step]:
    return [Step("orders", bench.orders.without), Step("orders-kept", bench.orders.kept)]


# name -> what makes its steps, what it tells
PARTS: dict[str, tuple[Callable[[Bench], list[Step]], str]] = {
    "limits": (physical, "rows that PostgreSQL takes one by one and in groups, flushes of the disk"),
    "naive": (naive, "the naive pipeline: what it accepts, and what it gets to the carrier"),
    "single": (single, "POST /api/v1/messages: accepted durably, one by one"),
    "batch": (batch, "POST /api/v1/messages/batch: accepted durably, 100 and 500 at a time"),
    "sent": (sent, "from the first POST of a batch until the carrier has taken every message"),
    "delivered": (delivered, "the same until a signed receipt has come for every message"),
    "sent-single": (sent_single, "as `sent`, each message posted by itself"),
    "check": (checked, "checks of one-time codes: 100 to 300 a second alone and beside senders, and as many as go"),
    "kafka": (brokered, "commands from Kafka beside a bare loop, events to Kafka (Java and Maven are needed)"),
    "webhooks": (told, "deliveries to ten endpoints, with and without one that hangs; how long one takes"),
    "metrics": (compared, "as `delivered`, while /metrics is scraped and compared with the tables"),
    "routing": (routed, "orders of providers a second: 1,000,000 prices of 20 providers, 200,000 numbers"),
    "tables": (tables, f"as `delivered`, with an empty database and with {HISTORY:,} closed messages"),
}


def steps(bench: Bench, parts: Sequence[str]) -> list[Step]:
    """One round, in the order of PARTS."""
    return [step for name, (make, _) in PARTS.items() if name in parts for step in make(bench)]
