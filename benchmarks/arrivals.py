"""An open loop: requests arrive when they arrive, whether or not those before are answered.

A closed loop would wait with a slow server and never see the queue. A latency here counts from the moment of arrival.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence

import uvloop

from benchmarks.load import Load

PATIENCE = 30.0  # seconds after the last arrival


def moments(least: float, most: float, seconds: float) -> list[float]:
    """Poisson arrivals whose rate grows evenly from `least` to `most` a second; the same in every run."""
    dice, at = random.Random(1), 0.0
    found: list[float] = []
    while True:
        at += dice.expovariate(least + (most - least) * at / seconds)
        if at >= seconds:
            return found
        found.append(at)


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load, idle: "deque[_Connection]") -> None:
        self._load, self._idle = load, idle
        self._buffer, self._since = b"", 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def send(self, request: bytes, since: float) -> None:
        self._since = since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if not separator or len(body) < int(length):
            return
        self._buffer = b""
        self._load.answered += 1
        self._load.statuses[head[9:12].decode()] += 1
        self._load.latencies.append(time.perf_counter() - self._since)
        self._idle.append(self)


def run(port: int, requests: Iterator[bytes], at: Sequence[float], *, connections: int = 64) -> Load:
    """Sends one request at each of the moments. Raises ConnectionError where answers do not come."""

    async def drive() -> Load:
        loop, load = asyncio.get_running_loop(), Load(requests, 0.0, started=time.time())
        idle: deque[_Connection] = deque()
        for _ in range(connections):
            _, made = await loop.create_connection(lambda: _Connection(load, idle), "127.0.0.1", port)
            idle.append(made)
        began = time.perf_counter()
        for moment, request in zip(at, requests, strict=False):
            await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
            while not idle:  # its latency goes on counting
                await asyncio.sleep(0.0005)
            idle.popleft().send(request, began + moment)
        await _all_answered(load, len(at))
        load.seconds = time.time() - load.started
        return load

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(drive())


async def _all_answered(load: Load, count: int) -> None:
    deadline = time.perf_counter() + PATIENCE
    while load.answered < count:
        if time.perf_counter() > deadline:
            raise ConnectionError(f"{load.answered} of {count} requests were answered")
        await asyncio.sleep(0.001)
