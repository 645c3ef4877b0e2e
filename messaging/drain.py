"""A process's hands for one lane: a thread that owns its database connection, claims, offers and settles."""

import logging
import queue
import random
import threading
import time
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from messaging import delivery
from messaging.apart import settle_apart
from messaging.delivery import Offer, Outcomes, claim, distrust, next_due, read
from providers.outcomes import Accepted, Rejected, Scope
from providers.transport import Result, transport

log = logging.getLogger(__name__)

GROUP_WAIT = 0.02  # seconds for which the first outcome of a group waits for others
CLAIM_PAUSE = 0.05  # seconds between two claims for messages that were put off; below throughput.BURST
_WAKE = object()


class Drain(threading.Thread):
    """One lane of one process: claims while there are free slots, settles what comes back.

    `wake()` is cheap and may be called from any thread; besides, it looks by itself every POLL seconds,
    so that losing every hint costs at most that.
    """

    def __init__(self, lane: str) -> None:
        super().__init__(name=f"drain-{lane}", daemon=True)
        self.lane = lane
        self._slots: int = settings.SLOTS[lane]
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._in_flight = 0
        self._stopping = threading.Event()
        self._unsettled: list[Outcomes] = []
        self._look_at = 0.0  # time.monotonic() of the next claim, hints or none

    def wake(self) -> None:
        self._inbox.put(_WAKE)

    def stop(self) -> None:
        """No more claims; the thread ends when its calls in flight are settled."""
        self._stopping.set()
        self.wake()

    def run(self) -> None:
        more = True
        while self._in_flight or self._unsettled or not self._stopping.is_set():
            try:
                if more and self._room():
                    more = self._claim()
                more |= self._collect(wait=self._patience(more))
                if self._unsettled:
                    settle_apart(self._unsettled, delivery.settle, distrust)
                    # Who was refused by one provider is due again at once for the next.
                    more |= any(not isinstance(done.outcome, Accepted) for done in self._unsettled)
                    self._unsettled = []
            except (DatabaseError, InterfaceError) as error:
                log.warning("%s: database error, going on in a second: %s", self.name, type(error).__name__)
                self._recover()
            except Exception:
                # A mistake of ours must not end the lane. What is lost here is an open attempt: the sweeper's.
                log.exception("%s: unexpected error, going on in a second", self.name)
                self._unsettled = []
                self._recover()
        connection.close()

    def _room(self) -> bool:
        """May we claim? Only with a quarter of the slots free: claims stay large when the lane is loaded."""
        return not self._stopping.is_set() and self._slots - self._in_flight >= max(1, self._slots // 4)

    def _patience(self, more: bool) -> float:
        if not more:
            return max(0.0, self._look_at - time.monotonic())
        return 0.0 if self._room() else float(settings.POLL)

    def _claim(self) -> bool:
        free = self._slots - self._in_flight
        offers, due = claim(self.lane, free)
        self._in_flight += len(offers)
        calls = [(offer, offer.call) for offer in offers if offer.call]
        for offer in offers:
            if offer.call is None:
                self._inbox.put((offer, Rejected(Scope.ROUTE, "unbuildable")))
        if calls:
            transport().offer(calls, lambda offer, result: self._inbox.put((offer, result)))
        if due == free:
            return True
        # A message that waits for its rate token must not wait for the poll as well.
        poll = settings.POLL * random.uniform(0.75, 1.25)
        self._look_at = time.monotonic() + min(max(CLAIM_PAUSE, next_due(self.lane)), poll)
        return False

    def _collect(self, wait: float) -> bool:
        """Takes outcomes as they come; True when somebody says that there is work, or when it is time to look."""
        news = False
        deadline = time.monotonic() + wait
        while True:
            try:
                item = (
                    self._inbox.get(timeout=max(0.0, deadline - time.monotonic())) if wait else self._inbox.get_nowait()
                )
            except queue.Empty:
                return news or not self._unsettled
            if item is _WAKE:
                news = True
                if not self._unsettled:
                    return True
                continue
            self._take(*item)
            if not self._in_flight or len(self._unsettled) >= self._slots:
                return news
            deadline = min(deadline, time.monotonic() + GROUP_WAIT) if wait else deadline

    def _take(self, offer: Offer, result: Result | Rejected) -> None:
        self._in_flight -= 1
        done = Outcomes(offer, result, wide=False) if isinstance(result, Rejected) else read(offer, result)
        self._unsettled.append(done)

    def _recover(self) -> None:
        """Outcomes are kept, no more than there are slots: one whose lease has ended writes nothing, or is evidence."""
        with suppress(DatabaseError, InterfaceError):
            connection.close()
        time.sleep(1.0)
