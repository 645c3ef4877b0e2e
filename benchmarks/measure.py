"""One measurement each: what is sent, what counts as done, and what it cost."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from benchmarks import load
from benchmarks.cpu import Meter
from benchmarks.fleets import Fleet, Naive, Ours

CLIENTS = 16  # connections that send single messages
BATCH_CLIENTS = 4
TIMEOUT = 120.0  # seconds for one measurement
WARM_UP = 200  # messages


@dataclass
class Sample:
    """One run. `rate` in messages per second, `cpu` in microseconds per message, latencies in milliseconds."""

    rate: float
    count: int
    cpu: dict[str, float] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)
    steal: float = 0.0
    other: float = 0.0
    notes: dict[str, float] = field(default_factory=dict)  # what else is to be told, by its name with its unit


class Failed(Exception):
    """What was measured is not what was asked for: its figure would be worth nothing."""


def accept_singles(ours: Ours, seconds: float) -> Sample:
    return _accept(ours, _singles(ours), 1, seconds)


def accept_batches(ours: Ours, size: int, seconds: float) -> Sample:
    return _accept(ours, _batches(ours, size), size, seconds)


def accept_naive(naive: Naive, seconds: float) -> Sample:
    return _accept(naive, load.plain("/messages"), 1, seconds)


def end_to_end(ours: Ours, messages: int, *, receipts: bool, size: int = 100) -> Sample:
    """From the first POST until the last message is sent, or delivered where the carriers report."""
    requests = _singles(ours) if size == 1 else _batches(ours, size)
    return _finish(ours, requests, messages, size, receipts)


def end_to_end_naive(naive: Naive, messages: int) -> Sample:
    return _finish(naive, load.plain("/messages"), messages, 1, receipts=False)


def _singles(ours: Ours) -> Iterator[bytes]:
    return load.singles("/api/v1/messages", ours.world.api_key)


def _batches(ours: Ours, size: int) -> Iterator[bytes]:
    return load.batches("/api/v1/messages/batch", ours.world.api_key, size)


def _accept(fleet: Fleet, requests: Iterator[bytes], size: int, seconds: float) -> Sample:
    """Workers are stopped: what is accepted stays, and is counted in the database."""
    fleet.world.rest()
    fleet.clear()
    _send(fleet, requests, WARM_UP, size)
    before = sum(fleet.by_status().values())
    with Meter(fleet.pids()) as meter:
        seen = load.run(fleet.port, requests, connections=_connections(size), seconds=seconds)
    stored = sum(fleet.by_status().values()) - before
    if stored != seen.answered * size or set(seen.statuses) - {"201", "202"}:
        raise Failed(f"{stored} messages stored, {seen.answered} requests of {size} answered: {dict(seen.statuses)}")
    fleet.clear()
    return sample(meter, stored, stored / seen.seconds, seen)


def _finish(fleet: Fleet, requests: Iterator[bytes], messages: int, size: int, receipts: bool) -> Sample:
    fleet.clear()
    fleet.world.reset_carriers(receipts=receipts)
    fleet.work(True)
    status = "delivered" if receipts else "sent"
    _send(fleet, requests, WARM_UP, size)
    _wait_until_done(fleet, status)
    before = fleet.by_status()[status]
    with Meter(fleet.pids()) as meter:
        seen = _send(fleet, requests, messages, size)
        _wait_until_done(fleet, status)
    states = fleet.by_status()
    if states.get(status, 0) - before != messages:
        raise Failed(f"{messages} messages after {before} should be {status}: {states}")
    moment = "closed_at" if receipts else "sent_at"
    last = float(fleet.one(f"SELECT extract(epoch FROM max({moment})) FROM {fleet.table}"))
    return sample(meter, messages, messages / (last - seen.started), seen)


def _send(fleet: Fleet, requests: Iterator[bytes], messages: int, size: int) -> load.Load:
    return load.run(fleet.port, islice(requests, -(-messages // size)), connections=_connections(size))


def _connections(size: int) -> int:
    return CLIENTS if size == 1 else BATCH_CLIENTS


def _wait_until_done(fleet: Fleet, status: str) -> None:
    """The questions are answered by partial indexes: they cost nothing beside what is measured."""
    deadline = time.monotonic() + TIMEOUT
    while fleet.is_busy(until=status):
        if time.monotonic() > deadline:
            raise Failed(f"not {status} after {TIMEOUT:.0f} s: {fleet.by_status()}")
        time.sleep(0.05)


def sample(meter: Meter, messages: int, rate: float, seen: load.Load) -> Sample:
    latency = {f"p{int(share * 100)}": seen.percentile(share) * 1e3 for share in (0.5, 0.95, 0.99)}
    cpu = {name: seconds / messages * 1e6 for name, seconds in meter.cpu.items()}
    return Sample(rate, messages, cpu, latency, meter.steal, meter.other)
