"""What limits a part: a sampling profile of one of our processes, and PostgreSQL's statements by total time."""

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.measure import Failed
from benchmarks.plan import Step
from tests.fleet import ROOT

PROCESS = {
    "sent": "worker-bulk",
    "delivered": "worker-bulk",
    "full": "worker-bulk",
    "sent-single": "worker-transactional",
    "naive-sent": "naive-worker",
}  # else: web
SAMPLES = 200  # a second
LINES = 25
STATEMENTS = """
SELECT calls, round(total_exec_time)::int, round((1000 * mean_exec_time)::numeric)::int, rows,
  round(wal_bytes / 1000)::int, wal_fpi, left(regexp_replace(query, '\\s+', ' ', 'g'), 110)
FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY total_exec_time DESC LIMIT 15
"""


def profile(step: Step, process: str | None) -> str:
    """Runs the step twice: once to have the processes up and warm, once with the profilers on."""
    fleet = step.fleet
    assert fleet is not None
    step.run()
    running = {process.name: process for process in (*fleet.web, *fleet.workers)}
    name = process or PROCESS.get(step.name, fleet.groups[0])
    if name not in running:
        raise Failed(f"there is no {name} in this part, there is: {', '.join(running)}")
    stacks = ROOT / "benchmarks" / "results" / f"{step.name}-{name}.txt"  # not in git
    stacks.parent.mkdir(exist_ok=True)
    with psycopg.connect(fleet.url, autocommit=True) as connection, _sampler(running[name].pid, stacks):
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute("SELECT pg_stat_statements_reset()")
        sample = step.run()
        found = connection.execute(STATEMENTS).fetchall()
    own, inclusive = _tally(stacks.read_text().splitlines())
    samples = max(1, own.total())
    lines = [
        f"{sample.rate:,.0f}/s while profiled; us a message: "
        + ", ".join(f"{group} {used:.0f}" for group, used in sample.cpu.items()),
        "",
        "   calls       ms  us/call     rows   WAL kB    pages  statement",
        *(" ".join(f"{figure:>8}" for figure in figures) + f"  {query}" for *figures, query in found),
    ]
    for title, counts in (("own time", own), ("with what it calls", inclusive)):
        lines += ["", f"{name}, {samples} samples of who holds the interpreter lock, {title}"]
        lines += [f"{count / samples:>7.1%}  {function}" for function, count in counts.most_common(LINES)]
    return "\n".join([*lines, "", f"stacks, for flamegraph.pl or speedscope.app: {stacks}"])


@contextmanager
def _sampler(pid: int, stacks: Path) -> Iterator[None]:
    """Samples a process and its children into `stacks`, one "frame;frame;... count" a line."""
    program = Path(sys.executable).with_name("py-spy")
    stacks.unlink(missing_ok=True)
    options = [
        "--subprocesses",
        "--gil",
        "--rate",
        str(SAMPLES),
        "--format",
        "raw",
        "--output",
        str(stacks),
        "--pid",
        str(pid),
    ]
    process = subprocess.Popen(
        [program, "record", *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    if not stacks.exists():
        raise Failed(f"py-spy: {errors.strip()[-500:]}")


def _tally(stacks: list[str]) -> tuple[Counter[str], Counter[str]]:
    """Samples by function: where it was itself running, and where it was anywhere on the stack."""
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        functions = [_short(frame) for frame in stack.split(";") if not frame.startswith("process ")]
        if functions:
            own[functions[-1]] += int(count)
            inclusive.update(dict.fromkeys(functions, int(count)))
    return own, inclusive


def _short(frame: str) -> str:
    """`settle (messaging/delivery.py:211)` -> without the line, so that a function is one entry."""
    return re.sub(r":\d+\)$", ")", frame)
