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
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop
from django.conf import settings

from providers import http1
from providers.outcomes import Ambiguous, GateRefused, Unavailable
from providers.types import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)

Key = TypeVar("Key")
Result = HttpResponse | Unavailable | Ambiguous | GateRefused


class GateClosed(Exception):
    """The moment after which the call must not be sent has passed."""


# Faults of our own machine, code or shutdown: they say nothing about the provider.
OWN_FAULTS = frozenset({"out_of_resources", "transport_closed", "not_sent"})
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})

# Looked up along the MRO of the error's class.
CODES: Mapping[type[BaseException], str] = {
    http1.InvalidUrl: "invalid_url",
    http1.AddressRefused: "address_refused",
    http1.ConnectTimeout: "connect_timeout",
    http1.ReadTimeout: "read_timeout",
    http1.Disconnected: "connection_lost",
    http1.InvalidAnswer: "invalid_answer",
    http1.AnswerTooLarge: "answer_too_large",
    socket.gaierror: "dns_failure",
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
    kind, generic = (Ambiguous, "failed_in_flight") if written else (Unavailable, "not_sent")
    if getattr(error, "errno", None) in EXHAUSTED:
        return kind("out_of_resources", _detail(error))
    return kind(next((CODES[cls] for cls in type(error).__mro__ if cls in CODES), generic), _detail(error))


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


class Transport:
    """Performs calls for plain threads on one event-loop thread, which starts with a process's first call.

    Timeouts in seconds: `connect` covers name, TCP and TLS, `read` every silence, `total` all of it. `admit` and
    `status_only` as in http1.Pool.
    """

    def __init__(
        self,
        *,
        connect: float,
        read: float,
        total: float,
        admit: Callable[[str], None] | None = None,
        status_only: bool = False,
    ) -> None:
        self._connect, self._read, self._total = connect, read, total
        self._admit, self._status_only = admit, status_only
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
        # No await before the pool is there: a call started meanwhile begins after this first step.
        self._pool = http1.Pool(
            connect=self._connect, read=self._read, admit=self._admit, status_only=self._status_only
        )
        await self._ended.wait()
        flights = [flight.task for flight in self._owed if flight.task is not None]
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._pool.close()

    def _start(self, flights: list[_Flight]) -> None:
        for flight in flights:
            if flight in self._owed and not self._ended.is_set():
                flight.task = self._loop.create_task(self._perform(flight))

    async def _perform(self, flight: _Flight) -> None:
        result: Result
        try:
            async with asyncio.timeout(self._total):
                result = await self._pool.exchange(flight.call.request, flight.pass_gate)
        except (Exception, asyncio.CancelledError) as error:
            result = verdict(error, written=flight.written)
        self._finish(flight, result)

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


_transports: dict[tuple[float, float, float], Transport] = {}


def transport() -> Transport:
    """The process's one transport; the only reader of settings here."""
    connect, read, total = key = (settings.CONNECT_TIMEOUT, settings.READ_TIMEOUT, settings.TOTAL_TIMEOUT)
    return _transports.get(key) or _transports.setdefault(key, Transport(connect=connect, read=read, total=total))
