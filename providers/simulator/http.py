"""A small HTTP/1.1 server side: keep-alive, split packets, pipelining; bodies by Content-Length only."""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus

MAX_HEAD = 16 * 1024
MAX_BODY = 256 * 1024
JSON = "application/json"


class BadRequest(Exception):
    """A request that is refused before anybody looks at its meaning; the connection closes after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Manner(Enum):
    """How an answer leaves, or does not."""

    WHOLE = auto()
    SLOW = auto()  # byte by byte, spread over `seconds`
    RESET = auto()  # no answer, the connection breaks (RST)
    CLOSE = auto()  # no answer, the connection ends in order (FIN)
    HANG = auto()  # no answer, the connection stays open


@dataclass(slots=True)
class Request:
    """`headers` has lower-case names; `target` is the path with its query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """`delay` and `seconds` are in seconds; `headers` are further header lines, each with its line end."""

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    content_type: str = JSON
    headers: str = ""
    delay: float = 0.0
    manner: Manner = Manner.WHOLE
    seconds: float = 0.0


_REASONS = {status.value: status.phrase for status in HTTPStatus}


def encode(reply: Reply, keep_alive: bool = True) -> bytes:
    connection = "" if keep_alive else "Connection: close\r\n"
    return (
        f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}\r\nContent-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\n{connection}{reply.headers}\r\n"
    ).encode("latin-1") + reply.body


def parse(data: bytes) -> tuple[Request, bytes] | None:
    """The first request in `data` and what follows it, None while it is incomplete; raises BadRequest."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or end > MAX_HEAD:
        if len(data) > MAX_HEAD:
            raise BadRequest(431, "the head of the request is too long")
        return None
    method, target, version, headers = _head(data[:end].decode("latin-1"))
    if "transfer-encoding" in headers:
        raise BadRequest(411, "chunked bodies are not read here: send Content-Length")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 10):
        raise BadRequest(400, "Content-Length is not a number")
    body_at, body_end = end + 4, end + 4 + int(length)
    if body_end - body_at > MAX_BODY:
        raise BadRequest(413, f"the body is longer than {MAX_BODY} bytes")
    if len(data) < body_end:
        return None
    connection = headers.get("connection", "").lower()
    keep_alive = connection == "keep-alive" if version == "HTTP/1.0" else connection != "close"
    return Request(method, target, headers, data[body_at:body_end], keep_alive), data[body_end:]


def _head(head: str) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].startswith("/"):
        raise BadRequest(400, "this is not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name[0] in " \t" or name[-1] in " \t":
            raise BadRequest(400, "a header line is malformed")
        name = name.lower()
        # Two lengths are how requests are smuggled (RFC 9112 6.3).
        if name == "content-length" and headers.get(name, value.strip()) != value.strip():
            raise BadRequest(400, "two different Content-Length headers")
        headers[name] = value.strip()
    return words[0], words[1], words[2], headers


class Connection(asyncio.Protocol):
    """One client connection. A subclass answers each `received` request with exactly one `send`, now or later.

    Requests on a connection are taken one at a time, so answers keep their order under pipelining.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, open_connections: "set[Connection]") -> None:
        self.loop = loop
        self.transport: asyncio.Transport
        self._open = open_connections
        self._buffer = b""
        self._busy = False
        self._reading = True
        self._keep_alive = True
        self._timer: asyncio.TimerHandle | None = None

    def received(self, request: Request) -> None:
        raise NotImplementedError

    def refused(self, error: BadRequest) -> Reply:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._busy = True
        self._buffer = b""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._busy:
            self._pump()
        elif self._reading and len(self._buffer) > MAX_HEAD + MAX_BODY:
            self._reading = False
            self.transport.pause_reading()

    def send(self, reply: Reply) -> None:
        if reply.delay > 0:
            self._later(reply.delay, self._send, reply)
        else:
            self._send(reply)

    def abort(self) -> None:
        """Breaks the connection with RST, as a crashed peer does."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _pump(self) -> None:
        try:
            parsed = parse(self._buffer)
        except BadRequest as error:
            self._busy, self._keep_alive, self._buffer = True, False, b""
            self._send(self.refused(error))
            return
        if parsed is None:
            return
        request, self._buffer = parsed
        self._busy, self._keep_alive = True, request.keep_alive
        self.received(request)

    def _send(self, reply: Reply) -> None:
        if self.transport.is_closing():
            return
        match reply.manner:
            case Manner.WHOLE:
                self.transport.write(encode(reply, self._keep_alive))
                self._finish()
            case Manner.SLOW:
                data = encode(reply, self._keep_alive)
                self._drip(data, reply.seconds / len(data))
            case Manner.RESET:
                self.abort()
            case Manner.CLOSE:
                self.transport.close()
            case Manner.HANG:
                pass

    def _drip(self, data: bytes, pause: float) -> None:
        self.transport.write(data[:1])
        if len(data) == 1:
            self._finish()
        else:
            self._later(pause, self._drip, data[1:], pause)

    def _finish(self) -> None:
        if not self._keep_alive:
            self.transport.close()
            return
        self._busy = False
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()
        if self._buffer:
            # By the loop, not by a call: a long pipeline must not become a deep stack.
            self._busy = True
            self.loop.call_soon(self._next)

    def _next(self) -> None:
        if not self.transport.is_closing():
            self._busy = False
            self._pump()

    def _later(self, delay: float, call: Callable[..., None], *args: object) -> None:
        self._timer = self.loop.call_later(delay, call, *args)
