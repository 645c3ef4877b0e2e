"""How fast the service is, beside what PostgreSQL can take and what a naive pipeline of the same run does.

It starts a PostgreSQL 18 of its own (durable: fsync on), RabbitMQ (RABBITMQ_URL, or one of its own where
rabbitmq-server is installed), the simulated carriers, and the real processes of the service; everything is stopped
and removed at the end. What is compared alternates within the run, and medians are shown. Ratios need both sides:
`--only limits naive batch` shows what `--only batch` cannot.
"""

import argparse
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import profiling, results
from benchmarks.measure import Failed, Sample
from benchmarks.plan import PARTS, Bench, Step, steps
from benchmarks.world import World, say
from config.local.postgres import LocalError


def main() -> int:
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with World() as world, ExitStack() as stack:
            facts = results.machine(world.version()) | {"broker": world.broker}
            say("\n".join(f"{name:<11} {value}" for name, value in facts.items()))
            bench = Bench(world, stack, options.scale)
            if options.profile:
                print(profiling.profile(steps(bench, [options.profile])[-1], options.process))
                return 0
            found, failures = measure_all(steps(bench, options.only or list(PARTS)), options.rounds)
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except (Failed, LocalError) as error:
        say(str(error))
        return 1
    document = results.document(found, facts, failures)
    print(f"\n{results.tables(document['figures'])}")
    print(*(f"FAILED {failure}" for failure in failures), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if failures else 0


def measure_all(plan: list[Step], rounds: int) -> tuple[dict[str, list[Sample]], list[str]]:
    """A B C A B C ...: what is compared sees the same weather. A step that fails costs the others nothing."""
    found: dict[str, list[Sample]] = {}
    failures: list[str] = []
    for number in range(1, rounds + 1):
        for step in plan:
            try:
                sample = step.run()
            except Failed as failure:
                failures.append(f"{step.name}: {failure}")
                say(f"{number}/{rounds} FAILED {failures[-1]}")
                continue
            found.setdefault(step.name, []).append(sample)
            cpu = ", ".join(f"{name} {value:.0f}" for name, value in sample.cpu.items() if value >= 0.5)
            say(f"{number}/{rounds} {step.name:<12} {sample.rate:>9,.0f}/s  us: {cpu}  others {sample.other:.2f}")
    return found, failures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        epilog="parts:\n" + "\n".join(f"  {name:<12} {tells}" for name, (_, tells) in PARTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="these parts alone")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the messages and seconds (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE as well")
    parser.add_argument(
        "--profile",
        choices=sorted(set(PARTS) - {"limits"}),
        metavar="PART",
        help="instead: where that part spends its time, by py-spy (root, or ptrace_scope 0) and pg_stat_statements",
    )
    parser.add_argument(
        "--process", help="with --profile: web, sweeper, worker-bulk ... (the busiest of that part by default)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
