"""How fast the service is, beside what PostgreSQL can take and what a naive pipeline of the same run does.

It starts a PostgreSQL 18 of its own (durable: fsync on), RabbitMQ (RABBITMQ_URL, or one of its own where
rabbitmq-server is installed), the simulated carriers, and the real processes of the service; everything is stopped
and removed at the end. What is compared alternates within the run, and medians are shown.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import history, limits, measure, results
from benchmarks.fleets import Naive, Ours
from benchmarks.measure import Sample
from benchmarks.world import World

PARTS = {
    "limits": "rows that PostgreSQL takes one by one and in groups, flushes of the disk",
    "naive": "the naive pipeline: what it accepts, and what it gets to the carrier",
    "single": "POST /api/v1/messages: accepted durably, one by one",
    "batch": "POST /api/v1/messages/batch: accepted durably, 100 and 500 at a time",
    "sent": "from the first POST of a batch until the carrier has taken every message",
    "delivered": "the same until a signed receipt has come for every message",
    "sent-single": "as `sent`, each message posted by itself",
    "tables": "as `delivered`, with an empty database and with 2,000,000 closed messages",
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    found: dict[str, list[Sample]] = {}
    checks: dict[str, str] = {}
    try:
        with World() as world, ExitStack() as stack:
            facts = results.machine(world.version()) | {"broker": world.broker}
            say("\n".join(f"{name:<11} {value}" for name, value in facts.items()))
            measure_all(plan(world, stack, options), options.rounds, found)
    except KeyboardInterrupt:
        say("stopped")
        return 130
    document = results.document(found, facts, checks)
    print(f"\n{results.tables(document['figures'])}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def measure_all(steps: list[tuple[str, Callable[[], Sample]]], rounds: int, found: dict[str, list[Sample]]) -> None:
    """A B C A B C ...: what is compared sees the same weather."""
    for number in range(1, rounds + 1):
        for name, step in steps:
            sample = step()
            found.setdefault(name, []).append(sample)
            cpu = ", ".join(f"{key} {value:.0f}" for key, value in sample.cpu.items() if value >= 0.5)
            say(f"{number}/{rounds} {name:<12} {sample.rate:>9,.0f}/s  us: {cpu}  other {sample.other:.2f}")


def plan(world: World, stack: ExitStack, options: argparse.Namespace) -> list[tuple[str, Callable[[], Sample]]]:
    """The measurements of one round, in their order."""
    parts, scale = options.only or list(PARTS), options.scale
    steps: list[tuple[str, Callable[[], Sample]]] = []
    if "limits" in parts:
        world.create_database(limits.DATABASE)
        seconds = max(1, round(3 * scale))
        steps += [
            ("insert-1", lambda: limits.insert(world, rows=1, clients=16, seconds=seconds)),
            ("insert-100", lambda: limits.insert(world, rows=100, clients=8, seconds=seconds)),
            ("fdatasync", lambda: limits.flushes(world.directory, scale)),
        ]
    if set(parts) - {"limits", "naive"}:
        ours = stack.enter_context(Ours(world, world.create_database("ours")))
    if "naive" in parts:
        naive = stack.enter_context(Naive(world, world.create_database("naive")))
        steps.append(("naive-accept", lambda: measure.accept_naive(naive, 4 * scale)))
    if "single" in parts:
        steps.append(("single", lambda: measure.accept_singles(ours, 4 * scale)))
    if "batch" in parts:
        steps.append(("batch-100", lambda: measure.accept_batches(ours, 100, 3 * scale)))
        steps.append(("batch-500", lambda: measure.accept_batches(ours, 500, 3 * scale)))
    if "naive" in parts:
        steps.append(("naive-sent", lambda: measure.end_to_end_naive(naive, int(900 * scale))))
    if "sent" in parts:
        steps.append(("sent", lambda: measure.end_to_end(ours, hundreds(15_000 * scale), receipts=False)))
    if "delivered" in parts:
        steps.append(("delivered", lambda: measure.end_to_end(ours, hundreds(8_000 * scale), receipts=True)))
    if "sent-single" in parts:
        steps.append(("sent-single", lambda: measure.end_to_end(ours, int(4_000 * scale), receipts=False, size=1)))
    if "tables" in parts:
        full = stack.enter_context(history.Full(world, world.create_database("full")))
        closed = hundreds(2_000_000 * scale)
        say(f"filling a database with {closed:,} closed messages ...")
        started = time.monotonic()
        history.fill(full, closed)
        size = full.one("SELECT pg_database_size(current_database())") / 1e9
        say(f"... {size:.1f} GB in {time.monotonic() - started:.0f} s")
        number = hundreds(10_000 * scale)
        steps.append(("empty", lambda: measure.end_to_end(ours, number, receipts=True)))
        steps.append(("full", lambda: measure.end_to_end(full, number, receipts=True)))
    return steps


def hundreds(number: float) -> int:
    return max(1, round(number / 100)) * 100


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parts:\n" + "\n".join(f"  {name:<12} {what}" for name, what in PARTS.items()),
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="these parts alone")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the messages and seconds (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE as well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
