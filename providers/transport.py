"""The only I/O of the send path: connections, timeouts, the gate, the names of network failures. It never repeats.

What a failure means depends on the phase it struck in, not on its class:

    before the gate was passed   no byte has left            Unavailable   surely not processed
    at the gate                  the call is too old to send GateRefused
    after it                     bytes may have left         Ambiguous     may have been processed
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

import aiohttp
import uvloop
from aiohttp import client_exceptions as errors
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import AddrInfoType, Connection
from django.conf import settings
from yarl import URL

from providers.outcomes import Ambiguous, GateRefused, Unavailable
from providers.types import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)

Key = TypeVar("Key")
Result = HttpResponse | Unavailable | Ambiguous | GateRefused

ANSWER_LIMIT = 64 * 1024  # bytes, decompressed
KEEP_ALIVE = 15.0  # seconds; below the idle limits of common load balancers, so that they rarely close first
DNS_TTL = 30  # seconds


class GateClosed(Exception):
    """The moment after which the call must not be sent has passed."""


class AnswerTooLarge(Exception):
    """The answer is longer than ANSWER_LIMIT."""


# Looked up along the MRO of the error's class.
CODES: Mapping[type[BaseException], str] = {
    errors.InvalidURL: "invalid_url",
    errors.NonHttpUrlClientError: "invalid_url",
    errors.ClientConnectorDNSError: "dns_failure",
    errors.ClientConnectorError: "connect_failed",
    errors.ConnectionTimeoutError: "connect_timeout",
    errors.ClientSSLError: "tls_failure",
    errors.ServerFingerprintMismatch: "tls_failure",
    errors.ServerTimeoutError: "read_timeout",
    errors.ClientConnectionError: "connection_lost",
    errors.UploadAbortedError: "connection_lost",
    errors.ClientResponseError: "invalid_answer",
    errors.ClientPayloadError: "invalid_answer",
    errors.RedirectClientError: "invalid_answer",
    AnswerTooLarge: "answer_too_large",
    ssl.SSLError: "tls_failure",
    TimeoutError: "total_timeout",
    ConnectionRefusedError: "connection_refused",
    ConnectionError: "connection_lost",
    OSError: "connect_failed",
    asyncio.CancelledError: "transport_closed",
    RuntimeError: "transport_closed",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request to perform; no byte of it is written after `gate`, in seconds of `boottime()`."""

    request: HttpRequest
    gate: float


def boottime() -> float:
    """Seconds of a clock that runs on while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def verdict(error: BaseException, *, written: bool) -> Unavailable | Ambiguous | GateRefused:
    """What a failure means. It never quotes the error, whose words may hold a URL or a body."""
    if isinstance(error, GateClosed):
        return GateRefused()
    cause = error.os_error if isinstance(error, errors.ClientConnectorError) else error
    named = cause if type(error) is errors.ClientConnectorError else error
    kind, generic = (Ambiguous, "failed_in_flight") if written else (Unavailable, "not_sent")
    return kind(next((CODES[cls] for cls in type(named).__mro__ if cls in CODES), generic), _detail(cause))


def _detail(error: BaseException) -> str:
    word = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return f"{type(error).__name__} {word or errno.errorcode.get(getattr(error, 'errno', None) or 0, '')}".rstrip()


@dataclass(slots=True, eq=False)
class _Flight:
    """A call for which done() is still owed."""

    key: Any
    call: Call
    done: Callable[[Any, Result], None]
    task: asyncio.Task[None] | None = None
    written: bool = False

    def pass_gate(self) -> None:
        if boottime() > self.call.gate:
            raise GateClosed
        self.written = True


_flight: ContextVar[_Flight] = ContextVar("flight")


class _GatedRequest(aiohttp.ClientRequest):
    """Passes the gate with the connection in hand, directly before the first byte is written."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is None or len(conn.protocol):
            raise ConnectionError  # an answer nobody asked for lies there: it would pass for ours
        if not self.body:
            _flight.get().pass_gate()
        return await super().send(conn)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        # Before Python 3.12 head and body are written by a task of their own, some time after send(): a process that
        # is frozen in between would send late.
        try:
            _flight.get().pass_gate()
        except GateClosed as error:
            if conn.protocol is not None:
                conn.protocol.set_exception(error)
        else:
            await super().write_bytes(writer, conn, content_length)


class Transport:
    """Performs calls for plain threads on one event-loop thread, which starts with a process's first call.

    Timeouts in seconds: `connect` covers name, TCP and TLS, `read` every silence, `total` all of it.
    """

    def __init__(self, *, connect: float, read: float, total: float) -> None:
        self._timeouts = aiohttp.ClientTimeout(connect=connect, sock_read=read, ceil_threshold=float("inf"))
        self._total = total
        self._owed: set[_Flight] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._inherited: list[object] = []
        os.register_at_fork(after_in_child=self._forget)

    def offer(self, calls: Iterable[tuple[Key, Call]], done: Callable[[Key, Result], None]) -> None:
        """Returns at once. done() is called exactly once per call, in the loop thread; it must not block.

        Where no loop thread is left or can be started, done() is called here.
        """
        flights = [_Flight(key, call, done) for key, call in calls]
        self._owed.update(flights)
        try:
            self._running().call_soon_threadsafe(self._start, flights)
        except (RuntimeError, OSError) as error:
            self._abandon(flights, error)

    def fetch(self, call: Call) -> Result:
        """Blocks until the result is there. Not for the loop thread."""
        answer: Future[Result] = Future()
        self.offer([(answer, call)], Future.set_result)
        return answer.result()

    def close(self) -> None:
        """Breaks the calls in flight, each with its done(); later ones are Unavailable. Not for the loop thread."""
        with self._lock:
            self._closed = True
        if self._thread is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RuntimeError("the transport is closed")
            if self._thread is None or not self._thread.is_alive():
                self._loop, self._ended = uvloop.new_event_loop(), asyncio.Event()
                self._thread = threading.Thread(target=self._run, name="transport", daemon=True)
                self._thread.start()
            return self._loop

    def _forget(self) -> None:
        # Kept, not freed: closing the parent's sockets here would say goodbye on its connections.
        self._inherited.append(vars(self).copy())
        self._owed, self._thread, self._lock = set(), None, threading.Lock()

    def _run(self) -> None:
        with contextlib.ExitStack() as at_end:
            at_end.callback(self._abandon, self._owed, asyncio.CancelledError())
            runner = at_end.enter_context(asyncio.Runner(loop_factory=lambda: self._loop))
            at_end.callback(self._ended.set)  # however the loop ended: nothing starts on it any more
            runner.run(self._serve())

    async def _serve(self) -> None:
        # No await before the session is there: a call started meanwhile begins after this first step.
        pool = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEEP_ALIVE, ttl_dns_cache=DNS_TTL, socket_factory=_socket
        )
        async with aiohttp.ClientSession(
            connector=pool,
            request_class=_GatedRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeouts,
            headers={"User-Agent": "mexar-messaging"},
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        ) as self._session:
            # aiohttp would repeat an idempotent request when a kept-alive connection drops.
            self._session._retry_connection = False
            await self._ended.wait()
            for flight in tuple(self._owed):
                if flight.task is not None:
                    flight.task.cancel()

    def _start(self, flights: list[_Flight]) -> None:
        for flight in flights:
            if flight in self._owed and not self._ended.is_set():
                flight.task = self._loop.create_task(self._perform(flight))

    async def _perform(self, flight: _Flight) -> None:
        _flight.set(flight)
        result: Result
        try:
            async with asyncio.timeout(self._total):
                result = await self._exchange(flight.call.request)
        except (Exception, asyncio.CancelledError) as error:
            result = verdict(error, written=flight.written)
        self._finish(flight, result)

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        url, headers, body = _url(request.url), request.headers, request.body or None
        response = await self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False)
        try:
            answer = bytearray()
            while not response.content.at_eof():
                answer += await response.content.readany()
                if len(answer) > ANSWER_LIMIT:
                    raise AnswerTooLarge
        finally:
            response.close()  # an answer read to its end has given its connection back already
        return HttpResponse(response.status, {n.lower(): v for n, v in response.headers.items()}, bytes(answer))

    def _abandon(self, flights: Iterable[_Flight], error: BaseException) -> None:
        for flight in tuple(flights):
            self._finish(flight, verdict(error, written=flight.written))

    def _finish(self, flight: _Flight, result: Result) -> None:
        try:
            self._owed.remove(flight)
        except KeyError:  # the loop's thread and an offering one may both give a call up
            return
        try:
            flight.done(flight.key, result)
        except Exception:
            logger.exception("the receiver of a result failed")


def _socket(address: AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    # Closing drops what was not delivered. Else the kernel goes on, and a request given up long ago still arrives.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return made


_url = lru_cache(maxsize=1024)(partial(URL, encoded=True))


_transports: dict[tuple[float, float, float], Transport] = {}


def transport() -> Transport:
    """The process's one transport; the only reader of settings here."""
    connect, read, total = key = (settings.CONNECT_TIMEOUT, settings.READ_TIMEOUT, settings.TOTAL_TIMEOUT)
    return _transports.get(key) or _transports.setdefault(key, Transport(connect=connect, read=read, total=total))
