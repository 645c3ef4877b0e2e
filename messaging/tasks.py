"""Hints: "lane L has work". They carry no state and may be lost; every worker looks by itself as well."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import dramatiq
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from messaging import receipts, reconcile
from messaging.drain import Drain
from messaging.states import EVENTS, LANES, MessageClass
from messaging.webhooks.dispatcher import Dispatcher
from providers.sql import keep_plans

log = logging.getLogger(__name__)

FULL = 100  # of so many found there are more: no pause
RECEIPTS_PAUSE = 0.05  # seconds: receipts come one by one and are applied in groups
RECONCILE_PAUSE = 0.5
HINT_PAUSE = 0.05  # seconds between two rounds of publishing: at most 20 hints a second and lane
# A hint costs more than a message does. Who works on these lanes is busy when hints come often, and looks again anyway.
UNHURRIED, LONG_PAUSE = {MessageClass.BULK, EVENTS}, 0.25


class Loop(threading.Thread):
    """Runs `work` while it finds something, else waits for a wake-up or POLL seconds.

    Between two rounds that find little lie `pause` seconds, so that what trickles in is worked on in groups.
    """

    def __init__(self, name: str, work: Callable[[], int], pause: float) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._pause = pause
        self._news = threading.Event()
        self._stopping = threading.Event()

    def wake(self) -> None:
        self._news.set()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()

    def run(self) -> None:
        keep_plans()
        while not self._stopping.is_set():
            self._news.clear()
            found = 0
            try:
                found = self._work()
            except (DatabaseError, InterfaceError) as error:
                log.warning("%s: database error: %s", self.name, type(error).__name__)
                connection.close()
            except Exception:
                log.exception("%s: unexpected error", self.name)
                connection.close()
            if found < FULL:
                self._stopping.wait(self._pause)
            if not found:
                self._news.wait(settings.POLL)
        connection.close()


_threads: dict[str, list[Drain | Loop | Dispatcher]] = {}


def start(lanes: Iterable[str]) -> None:
    """Starts this process's threads for those lanes. Called by the worker after its fork."""
    for lane in lanes:
        if lane not in LANES or lane in _threads:
            continue
        if lane == EVENTS:
            # One per class: a campaign of doubts at a provider that hangs must not keep a code waiting.
            asking = [
                Loop(f"reconcile-{name}", partial(reconcile.run, (name,)), RECONCILE_PAUSE) for name in MessageClass
            ]
            _threads[lane] = [Loop("receipts", apply_receipts, RECEIPTS_PAUSE), *asking, Dispatcher()]
        else:
            _threads[lane] = [Drain(lane)]
        for thread in _threads[lane]:
            thread.start()


def apply_receipts() -> int:
    """Applies one group and wakes the lanes of what goes on to another provider."""
    found, lanes = receipts.apply_due()
    for lane in lanes:
        hint(lane)
    return found


def stop() -> None:
    """Stops claiming and waits until every call in flight has its outcome written."""
    threads = [thread for found in _threads.values() for thread in found]
    for thread in threads:
        thread.stop()
    until = time.monotonic() + max(settings.TOTAL_TIMEOUT, settings.WEBHOOK_TIMEOUT) + settings.GATE
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    _threads.clear()


def _wake(lane: str) -> None:
    for thread in _threads.get(lane, ()):
        thread.wake()


def _actor(lane: str) -> dramatiq.Actor[[], None]:
    def wake() -> None:
        _wake(lane)

    return dramatiq.actor(actor_name=f"wake_{lane}", queue_name=lane, max_retries=0)(wake)


ACTORS = {lane: _actor(lane) for lane in LANES}


class Hints:
    """The one thread of a process that talks to the broker, so that no request ever waits for it."""

    def __init__(self) -> None:
        self._pending: set[str] = set()
        self._news = threading.Event()
        self._lock = threading.Lock()
        self._pid = 0
        self._due: dict[str, float] = {}  # time.monotonic() of a lane's next hint

    def add(self, lane: str) -> None:
        self._pending.add(lane)
        self._news.set()
        if self._pid != os.getpid():  # a fork takes no threads along
            with self._lock:
                if self._pid != os.getpid():
                    self._pid = os.getpid()
                    threading.Thread(target=self._run, name="hints", daemon=True).start()

    def _run(self) -> None:
        away = False
        while True:
            self._news.wait()
            self._news.clear()
            while self._pending:
                for lane in tuple(self._pending):
                    if time.monotonic() < self._due.get(lane, 0.0):
                        continue
                    self._pending.discard(lane)
                    self._due[lane] = time.monotonic() + (LONG_PAUSE if lane in UNHURRIED else HINT_PAUSE)
                    try:
                        ACTORS[lane].send()
                        away = False
                    except Exception as error:  # whatever the broker's client raises: a hint may be lost
                        if not away:
                            log.warning("the broker is away, workers poll: %s", type(error).__name__)
                        away = True
                threading.Event().wait(HINT_PAUSE)


_hints = Hints()


def hint(lane: str) -> None:
    """Says that a lane has work. Returns at once, never raises."""
    _hints.add(lane)
