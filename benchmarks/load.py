"""The load client: keep-alive connections with one request in flight each, and the requests they carry.

A bare protocol on uvloop, because it runs on the cores of what it measures: some 20 us a request.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice

import uvloop

# Valid mobile ranges of five countries; the rest of each number counts up.
RANGES = (("+38067", 7), ("+49151", 8), ("+4479", 8), ("+48601", 6), ("+33612", 6))
_numbers = count(1_000_000)
_run = secrets.token_hex(4)


@dataclass
class Load:
    """What the client saw. `started` is on the clock of the database (this machine's), latencies in seconds."""

    requests: Iterator[bytes]
    deadline: float
    answered: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    started: float = 0.0
    seconds: float = 0.0

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * share)]


class Connection(asyncio.Protocol):
    def __init__(self, load: Load, ended: asyncio.Future[None]) -> None:
        self._load = load
        self._ended = ended
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(body) < int(length):
            return
        self._buffer = b""
        self._load.answered += 1
        self._load.statuses[head[9:12].decode()] += 1
        self._load.latencies.append(time.perf_counter() - self._sent)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(ConnectionError("the server closed a connection"))

    def _next(self) -> None:
        self._sent = time.perf_counter()
        request = next(self._load.requests, None) if self._sent < self._load.deadline else None
        if request is None:
            self._ended.set_result(None)
            self._transport.close()
        else:
            self._transport.write(request)


def run(port: int, requests: Iterator[bytes], *, connections: int, seconds: float = 600.0) -> Load:
    """Sends until `requests` or the time are over. Raises ConnectionError when the server hangs up."""

    async def drive() -> Load:
        loop = asyncio.get_running_loop()
        load = Load(requests, time.perf_counter() + seconds, started=time.time())
        ended = [loop.create_future() for _ in range(connections)]
        for future in ended:
            await loop.create_connection(lambda f=future: Connection(load, f), "127.0.0.1", port)  # type: ignore[misc]
        await asyncio.gather(*ended)
        load.seconds = time.time() - load.started
        return load

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(drive())


def singles(path: str, token: str, number: int | None = None) -> Iterator[bytes]:
    """One message a request, each with an idempotency key, as a careful caller sends them."""
    for n in islice(_numbers, number):
        yield post(path, token, _message(n, "transactional"), f"Idempotency-Key: {_run}-{n}\r\n")


def batches(path: str, token: str, size: int, number: int | None = None) -> Iterator[bytes]:
    """`number` requests of `size` messages."""
    for _ in islice(count(), number):
        messages = ",".join(_message(n, "bulk") for n in islice(_numbers, size))
        yield post(path, token, f'{{"messages":[{messages}]}}')


def commands(number: int) -> Iterator[tuple[bytes, bytes]]:
    """For the topic of commands: key and value."""
    for n in islice(_numbers, number):
        value = (
            f'{{"specversion":"1.0","type":"messaging.message.send","source":"core-backend","id":"{_run}-{n}",'
            f'"subject":"order-{n}","data":{_message(n, "transactional")}}}'
        )
        yield f"order-{n}".encode(), value.encode()


def plain(path: str, number: int | None = None) -> Iterator[bytes]:
    """What the naive pipeline takes: the same message, its key in the body."""
    for n in islice(_numbers, number):
        to, text = _content(n)
        body = f'{{"client":"core","idempotency_key":"{_run}-{n}","to":"{to}","text":"{text}","sender":"MEXAR"}}'
        yield post(path, "", body)


def post(path: str, token: str, body: str, extra: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _message(n: int, message_class: str) -> str:
    to, text = _content(n)
    return f'{{"to":"{to}","text":"{text}","class":"{message_class}","reference":"order-{n}"}}'


def _content(n: int) -> tuple[str, str]:
    prefix, digits = RANGES[n % len(RANGES)]
    to = f"{prefix}{n % 10**digits:0{digits}}"
    return to, f"Your transfer {n} of 250.00 EUR has arrived and can be collected with your passport at any branch."
