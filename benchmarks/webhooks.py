"""Webhooks to ten endpoints: how many go at most, and how long one takes, with and without one that hangs.

One worker for the lane `events` sends; events are written as the service writes them, already marked for fan-out.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from benchmarks.cpu import Meter
from benchmarks.fleets import Ours
from benchmarks.measure import TIMEOUT, Failed, Sample
from tests.fleet import wait_for

ENDPOINTS = 10
_numbers = count(1)  # a process's output goes to a file of its name, which keeps what an earlier one said
PACE, EVERY = 50, 0.1  # events a second, written so often
HANGING = "w.url LIKE '%/hang/%'"
TELL = """
INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at, fan_out)
SELECT uuidv7(), 'message.sent', gen_random_uuid()::text, 2, c.id, jsonb_build_object('id', gen_random_uuid(),
  'status', 'sent', 'class', 'bulk', 'country', 'UA', 'segments', 1, 'to_masked', '+380******567',
  'provider', 'carrier-a', 'possible_duplicate', false), clock_timestamp(), true
FROM messaging_client c, generate_series(1, %s) WHERE c.slug = 'core-backend'
"""
LATENCIES = f"""
SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM d.finished_at - d.created_at)),
  extract(epoch FROM max(d.finished_at) - min(d.created_at)), count(*)
FROM messaging_webhookdelivery d JOIN messaging_webhookendpoint w ON w.id = d.endpoint_id
WHERE d.status = 'delivered' AND NOT {HANGING}
"""
MISSING = f"""
SELECT EXISTS (SELECT FROM messaging_event WHERE fan_out) OR EXISTS (
  SELECT FROM messaging_webhookdelivery d JOIN messaging_webhookendpoint w ON w.id = d.endpoint_id
  WHERE d.status = 'pending' AND NOT {HANGING})
"""


def burst(ours: Ours, events: int, *, hanging: bool) -> Sample:
    """All at once: deliveries a second to those that do not hang."""
    with _receivers(ours, hanging), Meter(ours.pids()) as meter:
        ours.connection.execute(TELL, [events])
        _wait(ours)
    return _sample(ours, meter, events, hanging)


def arriving(ours: Ours, seconds: float, *, hanging: bool) -> Sample:
    """At a steady pace: from an event to its delivery at those that do not hang."""
    with _receivers(ours, hanging), Meter(ours.pids()) as meter:
        begun, told = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            due = int(passed * PACE) - told
            if due > 0:
                ours.connection.execute(TELL, [due])
                told += due
            time.sleep(EVERY)
        _wait(ours)
    return _sample(ours, meter, told, hanging)


def _sample(ours: Ours, meter: Meter, events: int, hanging: bool) -> Sample:
    row = ours.connection.execute(LATENCIES).fetchone()
    ours.forget("messaging_webhookendpoint")
    ours.clear()
    if row is None or row[2] != events * (ENDPOINTS - hanging):
        raise Failed(f"{row and row[2]} deliveries of {events} events to {ENDPOINTS - hanging} endpoints")
    latency = {name: float(value) * 1e3 for name, value in zip(("p50", "p95", "p99"), row[0], strict=True)}
    cpu = {name: spent / row[2] * 1e6 for name, spent in meter.cpu.items()}
    return Sample(row[2] / float(row[1]), row[2], cpu, latency, meter.steal, meter.other)


def _wait(ours: Ours) -> None:
    deadline = time.monotonic() + TIMEOUT
    while ours.one(MISSING):
        if time.monotonic() > deadline:
            raise Failed(f"not delivered after {TIMEOUT:.0f} s")
        time.sleep(0.05)


@contextmanager
def _receivers(ours: Ours, hanging: bool) -> Iterator[None]:
    """Ten endpoints at a receiver of their own, workers that are warm."""
    ours.clear()
    ours.world.reset_carriers(receipts=False)
    process = ours.world.start(f"receiver-{next(_numbers)}", "-m", "benchmarks.receiver")
    try:
        wait_for(lambda: process.ended or "http://" in process.output, 30)
        ours.world.run("-m", "benchmarks.webhooks", process.output.strip(), str(int(hanging)), **ours.django())
        ours.work(True)
        ours.connection.execute(TELL, [1])
        _wait(ours)
        ours.forget("messaging_event")
        yield
    finally:
        process.kill()


def main() -> None:
    import django

    django.setup()
    from messaging.models import Client
    from messaging.webhooks.endpoints import prepare

    url, hanging = sys.argv[1], int(sys.argv[2])
    client = Client.objects.get(slug="core-backend")
    for number in range(ENDPOINTS):
        path = "hang" if number < hanging else "hook"
        prepare(client.pk, f"{url}/{path}/{number}", ["*"]).save(force_insert=True)


if __name__ == "__main__":
    main()
