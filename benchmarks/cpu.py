"""CPU time by process, from /proc, and what the rest of the machine did meanwhile."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
OWN = "load"  # this process: it is the load client, or starts it


class Meter:
    """CPU seconds of groups of process trees between two moments; use as `with Meter(groups) as meter`.

    `groups` is name -> pids of the roots. Children that ended are in their parent's figures.
    """

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = groups
        self.seconds = 0.0
        self.cpu: dict[str, float] = {}
        self.steal = 0.0  # share of all cores that the hypervisor gave to others
        self.other = 0.0  # CPU of everything else on the machine, in cores

    def __enter__(self) -> "Meter":
        self._started, self._before, self._machine = time.monotonic(), _by_group(self._groups), _machine()
        return self

    def __exit__(self, *exc: object) -> None:
        after, machine = _by_group(self._groups), _machine()
        self.seconds = time.monotonic() - self._started
        self.cpu = {name: after[name] - self._before[name] for name in after}
        busy, stolen, total = (now - then for now, then in zip(machine, self._machine, strict=True))
        self.steal = stolen / max(total, 1e-9)
        self.other = max(0.0, busy - sum(self.cpu.values())) / self.seconds


def _by_group(groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    used: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(entry.name)
        used[pid] = sum(map(int, fields[11:15])) / TICK  # own and waited-for children's, user and system
        children.setdefault(int(fields[1]), []).append(pid)

    def tree(pid: int) -> float:
        return used.get(pid, 0.0) + sum(map(tree, children.get(pid, ())))

    own = sum(os.times()[:4])  # with pgbench, a child that ended meanwhile
    return {name: sum(map(tree, pids)) for name, pids in groups.items()} | {OWN: own}


def _machine() -> tuple[float, float, float]:
    """Busy, stolen and all seconds of all cores since the start of the machine."""
    user, nice, system, idle, wait, irq, softirq, steal = (
        int(word) / TICK for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    busy = user + nice + system + irq + softirq
    return busy, steal, busy + idle + wait + steal
