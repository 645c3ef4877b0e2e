"""HTTP/1.1 (RFC 9112) as a client on an event loop: one exchange a connection at a time, connections kept for the next.

It parses with llhttp and does nothing on its own account: no retry, no redirect, no cookie. An exchange either gives
a whole answer or raises; what an error means for the message is `transport.py`'s to say.
"""

import asyncio
import re
import socket
import ssl
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import aiohappyeyeballs
import httptools
from aiohappyeyeballs import AddrInfoType

from providers.types import HttpRequest, HttpResponse

HEAD_LIMIT = 16 * 1024  # bytes of an answer's status line and header
ANSWER_LIMIT = 64 * 1024  # bytes of its body, decompressed
KEEP_ALIVE = 15.0  # seconds; below the idle limits of common load balancers, so that they rarely close first
DNS_TTL = 30.0  # seconds
NEXT_ADDRESS = 0.25  # seconds until the next address of a name is tried as well (RFC 8305, section 5)
_HEAD = b"User-Agent: mexar-messaging\r\nAccept: */*\r\n"
_TARGET = re.compile("[!-~]+")  # visible ASCII: the adapter has encoded everything else
_NO_FIELD = re.compile("[\x00-\x1f\x7f\u0100-\U0010ffff]")


class InvalidUrl(ValueError):
    """Not an http:// or https:// address with a host."""


class ConnectTimeout(TimeoutError):
    """Name, TCP and TLS together took too long."""


class ReadTimeout(TimeoutError):
    """Nothing came for too long."""


class Disconnected(ConnectionError):
    """The server closed the connection without an answer."""


class InvalidAnswer(Exception):
    """What came is not one whole HTTP/1.1 answer."""


class AnswerTooLarge(Exception):
    """The answer is longer than ANSWER_LIMIT."""


class AddressRefused(OSError):
    """A connection must not be opened to this address."""


class Origin(NamedTuple):
    tls: bool
    host: str
    port: int


class Pool:
    """The connections of one event loop. Timeouts in seconds: `connect` covers name, TCP and TLS, `read` every silence.

    `admit` is asked about every address that a name resolved to, before a connection to any of them; it may raise
    AddressRefused. `status_only`: a body is read up to ANSWER_LIMIT and left as it is; a longer one ends the
    connection.

    It is made and used on the loop's thread.
    """

    def __init__(
        self, *, connect: float, read: float, admit: Callable[[str], None] | None = None, status_only: bool = False
    ) -> None:
        self._connect_timeout = connect
        self._read_timeout = read
        self._admit = admit
        self._status_only = status_only
        self._tls = ssl.create_default_context()
        self._idle: dict[Origin, list[Connection]] = {}
        self._names: dict[Origin, tuple[float, asyncio.Future[list[AddrInfoType]]]] = {}
        self._loop = asyncio.get_running_loop()
        self._reaper = self._loop.call_later(KEEP_ALIVE, self._reap)

    async def exchange(self, request: HttpRequest, before_write: Callable[[], None]) -> HttpResponse:
        """`before_write` is called with the connection in hand, directly before the first byte; it may raise.

        Raises InvalidUrl, ValueError for what cannot be written, OSError, ssl.SSLError and the errors above.
        """
        origin, start = _start(request.method, request.url)
        message = _serialise(start, request)
        connection = self._take(origin) or await self._connect(origin)
        try:
            before_write()
            answer = await connection.exchange(message)
        finally:
            if connection.reusable:
                self._idle.setdefault(origin, []).append(connection)
            else:
                connection.abort()
        return answer

    def close(self) -> None:
        self._reaper.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def _take(self, origin: Origin) -> "Connection | None":
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.reusable:
                return connection
            connection.abort()
        return None

    def _reap(self) -> None:
        for origin, connections in list(self._idle.items()):
            kept = [connection for connection in connections if connection.reusable]
            for connection in set(connections) - set(kept):
                connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        self._reaper = self._loop.call_later(KEEP_ALIVE / 3, self._reap)

    async def _connect(self, origin: Origin) -> "Connection":
        try:
            async with asyncio.timeout(self._connect_timeout):
                addresses = await asyncio.shield(self._addresses(origin))
                if self._admit:
                    for address in addresses:
                        self._admit(str(address[4][0]))
                connected = await aiohappyeyeballs.start_connection(
                    addresses, happy_eyeballs_delay=NEXT_ADDRESS, loop=self._loop, socket_factory=_socket
                )
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._read_timeout, self._status_only),
                    sock=connected,
                    ssl=self._tls if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except TimeoutError:
            raise ConnectTimeout from None
        return connection

    def _addresses(self, origin: Origin) -> "asyncio.Future[list[AddrInfoType]]":
        """One look-up of a name at a time, however many calls wait for it."""
        expires, found = self._names.get(origin, (0.0, None))
        if found is None or self._loop.time() > expires or (found.done() and found.exception()):
            found = self._loop.create_task(
                self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)  # type: ignore[arg-type]
            )
            found.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, though nobody may wait
            self._names[origin] = (self._loop.time() + DNS_TTL, found)
        return found


class Connection(asyncio.Protocol):
    """One connection. Its answer is read by httptools, which calls the on_... methods."""

    def __init__(self, read_timeout: float, status_only: bool = False) -> None:
        self._read_timeout = read_timeout
        self._status_only = status_only
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HttpResponse] | None = None
        self._headers: dict[str, str] = {}
        self._keep = True  # another exchange may follow
        self._idle_since = self._loop.time()

    @property
    def reusable(self) -> bool:
        if self._answer is not None or not self._keep or self._transport is None:
            return False
        # The server's goodbye may be here before connection_lost is: what is written then goes nowhere, in silence.
        return not self._transport.is_closing() and self._loop.time() - self._idle_since < KEEP_ALIVE

    async def exchange(self, message: bytes) -> HttpResponse:
        if self._transport is None:
            raise Disconnected
        answer = self._answer = self._loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._keep = False
        self._forget()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(self._read_timeout, self._check_silence)
        self._write(message)
        try:
            return await answer
        finally:
            self._timer.cancel()
            self._answer = None
            self._idle_since = self._loop.time()

    def _write(self, message: bytes) -> None:
        assert self._transport is not None  # noqa: S101  the caller has looked
        self._transport.write(message)

    def abort(self) -> None:
        """Drops the connection, and what is not delivered yet: see `_socket`."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # --- asyncio's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # an answer nobody asked for would pass for the next one's
            return
        self._heard_at = self._loop.time()
        if not self._in_body:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(InvalidAnswer())
        if not self._in_body and self._head_size > HEAD_LIMIT:
            self._fail(InvalidAnswer())  # a line without an end

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is None or self._answer.done():
            return
        if error is not None:
            self._fail(error)
        elif self._in_body and not self._framed:
            self._complete()  # its end is the end of the connection (RFC 9112, section 6.3)
        else:
            self._fail(InvalidAnswer() if self._head_size else Disconnected())

    # --- the parser's calls ---

    def on_message_begin(self) -> None:
        self._keep = False
        self._headers = {}  # those of an answer before are the caller's now

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._framed = "content-length" in self._headers or "transfer-encoding" in self._headers
        if sum(map(len, self._headers.values())) > HEAD_LIMIT:
            self._fail(InvalidAnswer())

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) <= ANSWER_LIMIT:
            return
        if self._status_only:
            self._complete()
        else:
            self._fail(AnswerTooLarge())

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # 100 Continue and its like: the answer is still to come
            self._forget()
            return
        if self._answer is None or self._answer.done():
            return  # a second one in the same breath: whatever it is an answer to, this connection is not used again
        self._keep = bool(self._parser.should_keep_alive())
        self._complete()

    # ---

    def _forget(self) -> None:
        self._headers = {}
        self._body = bytearray()
        self._head_size = 0
        self._in_body = self._framed = False

    def _complete(self) -> None:
        if self._answer is None or self._answer.done():
            return
        try:
            encoding = "" if self._status_only else self._headers.get("content-encoding", "")
            body = _decoded(encoding, bytes(self._body[:ANSWER_LIMIT]))
        except (InvalidAnswer, AnswerTooLarge) as error:
            self._fail(error)
        else:
            self._answer.set_result(HttpResponse(self._parser.get_status_code(), self._headers, body))

    def _fail(self, error: Exception) -> None:
        self._keep = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _check_silence(self) -> None:
        left = self._heard_at + self._read_timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_silence)
        else:
            self._fail(ReadTimeout())


def _decoded(encoding: str, body: bytes) -> bytes:
    """We ask for no compression; some servers do it all the same. Raises InvalidAnswer, AnswerTooLarge."""
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in ("gzip", "deflate"):
        raise InvalidAnswer
    unpacking = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is
    try:
        plain = unpacking.decompress(body, ANSWER_LIMIT + 1)
    except zlib.error:
        raise InvalidAnswer from None
    if len(plain) > ANSWER_LIMIT:
        raise AnswerTooLarge
    if body and not unpacking.eof:
        raise InvalidAnswer  # its end is missing
    return plain


@lru_cache(maxsize=1024)
def _start(method: str, url: str) -> tuple[Origin, bytes]:
    """Where to connect, and the request line with the Host field. Raises InvalidUrl."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidUrl from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or not _TARGET.fullmatch(url):
        raise InvalidUrl
    tls = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    start = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode()
    return Origin(tls, host, port or (443 if tls else 80)), start + _HEAD


def _serialise(start: bytes, request: HttpRequest) -> bytes:
    """Raises ValueError for a header that would end its line."""
    if _NO_FIELD.search("".join((*request.headers, *request.headers.values()))):
        raise ValueError("a control character in a header")
    fields = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
    length = f"Content-Length: {len(request.body)}\r\n" if request.body or request.method != "GET" else ""
    return b"".join((start, fields.encode("latin-1"), length.encode(), b"\r\n", request.body))


def _socket(address: AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Closing drops what was not delivered. Else the kernel goes on, and a request given up long ago still arrives.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return made
