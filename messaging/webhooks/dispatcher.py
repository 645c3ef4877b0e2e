"""The thread of an events worker that sends webhooks. It owns its connection; requests run on a loop's thread."""

import logging
import queue
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from messaging.webhooks import fanout, replays, sending
from messaging.webhooks.sending import Outcome, Shot
from providers.transport import Result

log = logging.getLogger(__name__)

LOOK = 0.25  # seconds between two looks for work: nobody says that there is an event, which costs intake nothing
GROUP_WAIT = 0.02  # seconds for which the first outcome of a group waits for others
_WAKE = object()


class Dispatcher(threading.Thread):
    """Fans out, claims, sends and settles. Any number of processes may: each takes what no other holds."""

    def __init__(self) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._busy: Counter[UUID] = Counter()
        self._careful = 0  # of those in flight
        self._unsettled: list[Outcome] = []

    def wake(self) -> None:
        self._inbox.put(_WAKE)

    def stop(self) -> None:
        """No more claims; the thread ends when its requests in flight are settled."""
        self._stopping.set()
        self.wake()

    def run(self) -> None:
        more = False
        while self._busy or self._unsettled or not self._stopping.is_set():
            try:
                if not self._stopping.is_set():
                    more = self._start()
                self._collect(0.0 if more and self._free() else LOOK)
                if self._unsettled:
                    sending.settle(self._unsettled)
                    self._unsettled = []
            except (DatabaseError, InterfaceError) as error:
                log.warning("webhooks: database error, going on in a second: %s", type(error).__name__)
                self._recover()
            except Exception:
                # A mistake of ours must not end the thread. What is lost here is a lease, which runs out.
                log.exception("webhooks: unexpected error, going on in a second")
                self._unsettled = []
                self._recover()
        connection.close()

    def _free(self) -> int:
        return int(settings.WEBHOOK_SLOTS) - self._busy.total()

    def _start(self) -> bool:
        """True where there is more to do at once."""
        more = fanout.fan_out() == fanout.GROUP
        more |= replays.step()
        free = self._free()
        if not free:
            return more
        shots = sending.claim(free, self._busy, self._careful)
        for shot in shots:
            self._busy[shot.endpoint_id] += 1
            self._careful += shot.careful
            if shot.call is None:
                self._inbox.put((shot, Outcome(shot, error=shot.problem)))
        begun = time.monotonic()
        calls = [(shot, shot.call) for shot in shots if shot.call]
        if calls:
            sending.transport().offer(calls, lambda shot, result: self._answered(shot, result, begun))
        return more or len(shots) == free

    def _answered(self, shot: Shot, result: Result, begun: float) -> None:
        """On the loop's thread."""
        self._inbox.put((shot, sending.read(shot, result, time.monotonic() - begun)))

    def _collect(self, wait: float) -> None:
        """Takes outcomes as they come: the first one waits a moment for others."""
        deadline = time.monotonic() + wait
        with suppress(queue.Empty):
            while True:
                item = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
                if item is _WAKE:
                    return
                self._take(*item)
                if len(self._unsettled) >= settings.WEBHOOK_SLOTS:
                    return
                deadline = min(deadline, time.monotonic() + GROUP_WAIT)

    def _take(self, shot: Shot, outcome: Outcome) -> None:
        self._busy[shot.endpoint_id] -= 1
        if not self._busy[shot.endpoint_id]:
            del self._busy[shot.endpoint_id]
        self._careful -= shot.careful
        self._unsettled.append(outcome)

    def _recover(self) -> None:
        with suppress(DatabaseError, InterfaceError):
            connection.close()
        time.sleep(1.0)
