"""What was measured, against what was aimed at: medians, ratios, verdicts; and the facts of the machine."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Sample
from tests.fleet import ROOT

OURS = (
    "web",
    "workers",
    "bridges",
    "relay",
    "postgres",
    "rabbitmq",
)  # whose CPU the service costs; the rest plays its surroundings


NOT_OURS = {
    *("orders", "orders-kept", "update-1", "insert-1", "insert-100", "fdatasync"),
    *("naive-accept", "naive-sent", "bare-ingest"),
}


@dataclass(frozen=True)
class Figure:
    """`rate`, `of_limit`, `times_naive`, `cpu` (us per message), `of_twin`, `p99` (ms) and `p99_of_calm` are goals.

    None: only shown. `calm` is the step whose p99 another is compared with.
    """

    step: str
    title: str
    limit: str = ""
    naive: str = ""
    twin: str = ""
    calm: str = ""
    rate: float | None = None
    of_limit: float | None = None
    times_naive: float | None = None
    of_twin: float | None = None
    cpu: float | None = None
    p99: float | None = None
    p99_of_calm: float | None = None


GOALS = ("rate", "of_limit", "times_naive", "of_twin", "cpu", "p99", "p99_of_calm")
AT_MOST = {"cpu", "p99", "p99_of_calm"}  # the others are at least

FIGURES = (
    Figure("insert-1", "PostgreSQL INSERT, 1 row a transaction, 16 clients"),
    Figure("insert-100", "PostgreSQL INSERT, 100 rows a transaction, 8 clients"),
    Figure("fdatasync", "fdatasync, one after the other"),
    Figure("naive-accept", "naive: accepted and enqueued", "insert-1"),
    Figure("naive-sent", "naive: end to end", "insert-1"),
    Figure("single", "single sends accepted", "insert-1", "naive-accept", rate=1000, times_naive=2.5),
    Figure("batch-100", "accepted in batches of 100", "insert-100", "naive-accept", rate=15_000, of_limit=0.15),
    Figure("batch-500", "accepted in batches of 500", "insert-100", "naive-accept", rate=15_000, of_limit=0.15),
    Figure("sent", "end to end, no receipts", "insert-100", "naive-sent", rate=3000, times_naive=15, cpu=450),
    Figure("delivered", "end to end, a signed receipt each", "insert-100", "naive-sent", rate=1500),
    Figure("sent-single", "end to end from single sends", "insert-1", "naive-sent"),
    Figure("update-1", "PostgreSQL UPDATE, 1 row a transaction, 16 clients"),
    Figure("check", "codes checked, as many as go", "update-1"),
    Figure("check-idle", "codes checked, 100 to 300 a second", p99=15),
    Figure("check-busy", "the same beside saturating senders", calm="check-idle", p99_of_calm=3),
    Figure("check-posted", "the same beside senders and batches posted without a pause", calm="check-idle"),
    Figure("bare-ingest", "bare loop: commands parsed and inserted"),
    Figure("bridge", "commands taken from Kafka", "bare-ingest", rate=10_000, of_limit=0.45),
    Figure("relay", "events published to Kafka", rate=10_000),
    Figure("webhooks", "webhooks to 10 endpoints, as many as go"),
    Figure("webhooks-hang", "the same to 9, beside one that hangs"),
    Figure("webhooks-calm", "webhooks of 50 events a second to 10 endpoints"),
    Figure("webhooks-late", "the same to 9, beside one that hangs", calm="webhooks-calm"),
    Figure("metrics", "delivered, while /metrics is compared", "insert-100"),
    Figure("empty", "delivered, empty database", "insert-100"),
    Figure("full", "delivered, full database", "insert-100", twin="empty", of_twin=0.9),
    Figure("orders", "orders of 20 providers, 1,000,000 prices, none kept", rate=8000),
    Figure("orders-kept", "the same, orders kept", rate=50_000),
)


def summarise(samples: Mapping[str, Sequence[Sample]]) -> list[dict[str, Any]]:
    """One row a figure, in the order of FIGURES; ratios are those of medians of this run."""
    rates = {step: median(sample.rate for sample in found) for step, found in samples.items()}
    slowest = {step: median(s.latency.get("p99", 0.0) for s in found) for step, found in samples.items()}
    rows = []
    for figure in FIGURES:
        found = samples.get(figure.step)
        if not found:
            continue
        cpu = {name: median(sample.cpu.get(name, 0.0) for sample in found) for name in found[0].cpu}
        row = {
            "step": figure.step,
            "title": figure.title,
            "rate": rates[figure.step],
            "least": min(sample.rate for sample in found),
            "most": max(sample.rate for sample in found),
            "rounds": len(found),
            "of_limit": _ratio(rates, figure.step, figure.limit),
            "times_naive": _ratio(rates, figure.step, figure.naive),
            "of_twin": _ratio(rates, figure.step, figure.twin),
            "cpu": sum(cpu.get(name, 0.0) for name in OURS) if figure.step not in NOT_OURS else None,
            "cpu_by_process": cpu,
            "latency_ms": {name: median(s.latency[name] for s in found) for name in found[0].latency},
            "p99": slowest[figure.step] or None,
            "p99_of_calm": _ratio(slowest, figure.step, figure.calm),
            "notes": {name: median(s.notes[name] for s in found) for name in found[0].notes},
            "steal": max(sample.steal for sample in found),
            "other": median(sample.other for sample in found),
        }
        goals = {name: getattr(figure, name) for name in GOALS}
        row["goals"] = {name: goal for name, goal in goals.items() if goal is not None}
        row["missed"] = [name for name, goal in row["goals"].items() if _missed(name, row[name], goal)]
        rows.append(row)
    return rows


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures against their goals, and their CPU time: Markdown, read as well on a terminal."""
    found = dict.fromkeys(name for row in rows for name in row["cpu_by_process"])
    processes = sorted(found, key=lambda name: (name not in OURS, "naive" in name))
    return "\n\n".join(
        (
            _table(
                ["per second", "median [least-most]", "goal", "of the limit", "x naive", "verdict"], map(_rates, rows)
            ),
            _table(
                ["CPU us a message", *processes, "service", "goal", "p50 / p95 / p99 ms", "others", "steal"],
                (_costs(row, processes) for row in rows),
            ),
            *(f"{row['title']}: {_notes(row['notes'])}" for row in rows if row["notes"]),
        )
    )


def _notes(notes: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:,.3g}" for name, value in notes.items())


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [list(head), *map(list, body)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def _rates(row: Mapping[str, Any]) -> list[str]:
    goals = row["goals"]

    def against(name: str, digits: int) -> str:
        if row[name] is None:
            return ""
        return f"{row[name]:.{digits}f}" + (f" (goal {goals[name]})" if name in goals else "")

    verdict = "" if not goals else f"below: {', '.join(row['missed'])}" if row["missed"] else "PASS"
    return [
        row["title"] + (f", {against('of_twin', 2)} of empty" if row["of_twin"] else ""),
        f"{row['rate']:,.0f} [{row['least']:,.0f}-{row['most']:,.0f}]",
        f"{goals['rate']:,.0f}" if "rate" in goals else "",
        against("of_limit", 2),
        against("times_naive", 1),
        verdict,
    ]


def _costs(row: Mapping[str, Any], processes: Sequence[str]) -> list[str]:
    cpu, goal = row["cpu_by_process"], row["goals"].get("cpu")
    return [
        row["title"],
        *(f"{cpu[name]:,.0f}" if name in cpu else "" for name in processes),
        f"{row['cpu']:,.0f}" if row["cpu"] else "",
        f"{goal:,}" if goal else "",
        _latency(row),
        f"{row['other']:.2f}",
        f"{row['steal']:.0%}",
    ]


def _latency(row: Mapping[str, Any]) -> str:
    told = " / ".join(f"{value:,.1f}" for value in row["latency_ms"].values())
    if "p99" in row["goals"]:
        told += f" (goal {row['goals']['p99']})"
    if row["p99_of_calm"] is not None:
        goal = row["goals"].get("p99_of_calm")
        told += f", p99 {row['p99_of_calm']:.1f} x calm" + (f" (goal {goal})" if goal else "")
    return told


def _ratio(rates: Mapping[str, float], step: str, base: str) -> float | None:
    return rates[step] / rates[base] if base in rates else None


def _missed(name: str, value: float | None, goal: float) -> bool:
    """What was not measured beside it is not missed."""
    if value is None:
        return False
    return value > goal if name in AT_MOST else value < goal


def machine(server: str) -> dict[str, Any]:
    """The facts without which the figures say little."""
    names = {line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")}
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.strip() or "unknown",
        "cpu": ", ".join(sorted(names)) or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "clock": "".join(_read("/sys/devices/system/clocksource/clocksource0/current_clocksource")).strip(),
        "python": sys.version.split()[0],
        "postgresql": server,
    }


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def document(
    samples: Mapping[str, Sequence[Sample]], facts: Mapping[str, Any], failures: Sequence[str]
) -> dict[str, Any]:
    """Everything of a run, for --json."""
    return {
        "machine": dict(facts),
        "figures": summarise(samples),
        "failures": list(failures),
        "samples": {step: [asdict(sample) for sample in found] for step, found in samples.items()},
    }
