"""The carriers' append-only ledger: the judge of what was really sent, and how often.

One JSON object a line. Entries are written in groups, one write(2) per turn of the event loop, and an
answer leaves only after the entries it stands for are in the file: killing the process loses no entry
that a client knows of. In memory there is an offset per entry and nothing else; questions read the file.
"""

import mmap
import os
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

Entry = dict[str, Any]
NO_FILTER: Mapping[str, str] = {}


class Ledger:
    def __init__(self, path: Path | None, defer: Callable[[Callable[[], None]], object]) -> None:
        """`defer` runs a call soon (the loop's call_soon). Without a path the file has no name and dies with us."""
        self._file = path.open("a+b", buffering=0) if path else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._defer = defer
        self._offsets = array("Q")
        self._size = 0
        self._lines: list[bytes] = []
        self._unwritten = b""
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._index_existing()

    def __len__(self) -> int:
        return len(self._offsets)

    def append(self, **fields: Any) -> int:
        """Adds an entry and returns its sequence number, from 1; it is in the file after `flush`."""
        seq = len(self._offsets) + 1
        line = orjson.dumps({"seq": seq, "at": time.time(), **fields}, option=orjson.OPT_APPEND_NEWLINE)
        self._offsets.append(self._size)
        self._size += len(line)
        if not self._lines:
            self._defer(self.flush)
        self._lines.append(line)
        return seq

    def after_write(self, call: Callable[..., None], *args: Any) -> None:
        """Runs `call` once everything appended so far is in the file."""
        if self._lines or self._unwritten:
            self._waiting.append((call, args))
        else:
            call(*args)

    def flush(self) -> None:
        """Writes what is pending, then runs what waited for it."""
        # What a full disk leaves unwritten stays first in line, and what waits for it stays waiting.
        self._unwritten += b"".join(self._lines)
        self._lines = []
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        waiting, self._waiting = self._waiting, []
        for call, args in waiting:
            call(*args)

    def read(self, seq: int) -> Entry:
        self.flush()
        start = self._offsets[seq - 1]
        end = self._offsets[seq] if seq < len(self._offsets) else self._size
        entry: Entry = orjson.loads(os.pread(self._file.fileno(), end - start, start))
        return entry

    def entries(self, equal: Mapping[str, str] = NO_FILTER, *, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Entries with a sequence number above `after`, oldest first, whose fields have the given values."""
        found: list[Entry] = []
        for line in self._lines_after(after, equal):
            if limit is not None and len(found) >= limit:
                break
            entry = orjson.loads(line)
            if all(entry.get(key) == value for key, value in equal.items()):
                found.append(entry)
        return found

    def reset(self) -> None:
        self.flush()
        self._file.truncate(0)
        self._file.seek(0)  # a nameless file is not opened for appending: it would go on behind a hole
        self._offsets, self._size = array("Q"), 0

    def close(self) -> None:
        self.flush()
        self._file.close()

    def _lines_after(self, after: int, equal: Mapping[str, str]) -> Iterator[bytes]:
        self.flush()
        if after >= len(self._offsets):
            return
        # The rarest field as bytes: finding it in the map is far cheaper than parsing every line.
        needle = next(
            (_needle(key, equal[key]) for key in ("reference", "to", "carrier", "event") if key in equal), b""
        )
        with mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ) as data:
            at = self._offsets[max(after, 0)]
            while 0 <= at < self._size:
                hit = data.find(needle, at)
                if hit < 0:
                    return
                start = data.rfind(b"\n", 0, hit) + 1 if needle else at
                end = data.find(b"\n", hit)
                yield data[start:end]
                at = end + 1

    def _index_existing(self) -> None:
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        for line in self._file.read(end).splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self._offsets.append(self._size)
            self._size += len(line)
        # A torn last line is a write that was killed: no answer left for it.
        if self._size < end:
            self._file.truncate(self._size)


def _needle(key: str, value: str) -> bytes:
    return orjson.dumps({key: value})[1:-1]


def summarise(entries: list[Entry], by: str) -> dict[str, Any]:
    """How many SMS were accepted per `reference`, or per number and text (`by="text"`).

    `sent` counts different keys, `duplicates` the SMS beyond the first of each, `repeated` names them.
    """
    seqs: dict[tuple[str, ...], list[int]] = {}
    carriers: dict[tuple[str, ...], set[str]] = {}
    events: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for entry in entries:
        events[entry["event"]] += 1
        if entry.get("fault"):
            faults[entry["fault"]] += 1
        if entry["event"] == "accepted":
            key = (entry["reference"],) if by == "reference" else (entry["to"], entry["text"])
            seqs.setdefault(key, []).append(entry["seq"])
            carriers.setdefault(key, set()).add(entry["carrier"])
    names = ("reference",) if by == "reference" else ("to", "text")
    repeated = [
        {**dict(zip(names, key, strict=True)), "count": len(at), "seqs": at, "carriers": sorted(carriers[key])}
        for key, at in seqs.items()
        if len(at) > 1
    ]
    accepted = events["accepted"]
    return {
        "by": by,
        "accepted": accepted,
        "sent": len(seqs),
        "duplicates": accepted - len(seqs),
        "replays": events["replay"],
        "events": events,
        "faults": faults,
        "repeated": repeated,
    }
