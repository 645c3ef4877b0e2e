"""Sends receipts: a keep-alive HTTP/1.1 client on bare asyncio, one request at a time per connection."""

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from providers.simulator.carrier import Receipt

CONNECTIONS = 64  # per address: receipts wait in our queue rather than in the receiver's backlog
TIMEOUT = 10.0
PAUSES = (0.5, 2.0, 5.0, 15.0, 60.0)  # seconds before each further try
Answered = Callable[[int], None]  # the HTTP status, 0 when there was no answer


def sign(token: str, timestamp: str, body: bytes) -> str:
    return hmac.digest(token.encode(), timestamp.encode() + b"." + body, "sha256").hex()


class ReceiptSender:
    """Posts each receipt when it is due and reports its end to its carrier."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, due: Callable[[Receipt], None], done: Callable[..., None]
    ) -> None:
        """`due(receipt)` is called before the first try, `done(receipt, event, http_status, tries)` at the end."""
        self._loop = loop
        self._due = due
        self._done = done
        self._pools: dict[tuple[str, str], Pool] = {}
        self._era = 0

    def schedule(self, receipt: Receipt) -> None:
        self._loop.call_later(receipt.delay, self._start, receipt, self._era)

    def reset(self) -> None:
        """Forgets every receipt that has not left."""
        self._era += 1
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def _start(self, receipt: Receipt, era: int) -> None:
        if era == self._era:
            self._due(receipt)
            if receipt.url:
                self._try(receipt, era, 1)

    def _try(self, receipt: Receipt, era: int, number: int) -> None:
        if era != self._era:
            return
        url = urlsplit(receipt.url)
        pool = self._pools.get((url.scheme, url.netloc))
        if pool is None:
            pool = self._pools[url.scheme, url.netloc] = Pool(self._loop, url)
        body = receipt.body()
        timestamp = str(int(time.time()))
        head = (
            f"POST {url.path or '/'}{'?' + url.query if url.query else ''} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nX-Carrier-Timestamp: {timestamp}\r\n"
            f"X-Carrier-Signature: {sign(receipt.carrier.config.token, timestamp, body)}\r\n\r\n"
        )
        pool.post(head.encode() + body, lambda status: self._answered(receipt, era, number, status))

    def _answered(self, receipt: Receipt, era: int, number: int, status: int) -> None:
        if era != self._era:
            return
        if 200 <= status < 300:
            self._done(receipt, "receipt_sent", status, number)
        elif number <= len(PAUSES):
            self._loop.call_later(PAUSES[number - 1], self._try, receipt, era, number + 1)
        else:
            self._done(receipt, "receipt_failed", status, number)


class Pool:
    """The connections to one address; requests wait in order for a free one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: SplitResult) -> None:
        self._loop = loop
        self._host = url.hostname or ""
        self._tls = url.scheme == "https"
        self._port = url.port or (443 if self._tls else 80)
        self._idle: list[ReceiptConnection] = []
        self._open: set[ReceiptConnection] = set()
        self._waiting: deque[tuple[bytes, Answered]] = deque()
        self._connecting: set[asyncio.Task[None]] = set()

    def post(self, request: bytes, answered: Answered) -> None:
        if self._idle:
            self._idle.pop().post(request, answered)
        else:
            self._waiting.append((request, answered))
            self._grow()

    def free(self, connection: "ReceiptConnection") -> None:
        if self._waiting:
            connection.post(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: "ReceiptConnection") -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._grow()

    def close(self) -> None:
        self._waiting.clear()
        for task in self._connecting:
            task.cancel()
        for connection in tuple(self._open):
            connection.transport.abort()

    def _grow(self) -> None:
        if len(self._open) + len(self._connecting) < CONNECTIONS:
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                _, connection = await self._loop.create_connection(
                    lambda: ReceiptConnection(self._loop, self), self._host, self._port, ssl=self._tls or None
                )
        except (OSError, TimeoutError):
            if not self._open:
                waiting, self._waiting = self._waiting, deque()
                for _, answered in waiting:
                    answered(0)
            return
        self._open.add(connection)
        self.free(connection)


class ReceiptConnection(asyncio.Protocol):
    """One request at a time; an answer that is not framed by Content-Length ends the connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
        self._loop = loop
        self._pool = pool
        self._answered: Answered | None = None
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def post(self, request: bytes, answered: Answered) -> None:
        self._answered = answered
        self._timer = self._loop.call_later(TIMEOUT, self.transport.abort)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
        length = headers.get("content-length", "").strip()
        if length.isdigit() and len(body) < int(length):
            return
        status = lines[0].split(" ")[1:2]
        reusable = length.isdigit() and len(body) == int(length) and headers.get("connection", "").strip() != "close"
        self._finish(int(status[0]) if status and status[0].isdigit() else 0, reusable)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self)
        self._answer(0)

    def _finish(self, status: int, reusable: bool) -> None:
        self._buffer = b""
        self._answer(status)
        if reusable and not self.transport.is_closing():
            self._pool.free(self)
        else:
            self.transport.close()

    def _answer(self, status: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status)
