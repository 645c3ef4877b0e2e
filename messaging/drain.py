"""A process's hands for one lane: a thread that owns its database connection, claims, offers and settles."""

import random
import time

from django.conf import settings

from messaging import delivery
from messaging.apart import settle_apart
from messaging.delivery import Offer, Outcomes, claim, distrust, next_due, read
from messaging.hands import Hands
from providers.outcomes import Accepted, Rejected, Scope
from providers.transport import Result, transport

CLAIM_PAUSE = 0.05  # seconds between two claims for messages that were put off; below throughput.BURST


class Drain(Hands):
    """One lane of one process: claims while there are free slots, settles what comes back.

    Beside hints it looks by itself every POLL seconds, so that losing every hint costs at most that.
    """

    def __init__(self, lane: str) -> None:
        super().__init__(f"drain-{lane}", settings.SLOTS[lane])
        self.lane = lane
        self._more = True
        self._look_at = 0.0  # time.monotonic() of the next claim, hints or none

    def _round(self) -> None:
        if self._more and self._room():
            self._more = self._claim()
        self._more |= self._collect(self._patience())
        if self._unsettled:
            settle_apart(self._unsettled, delivery.settle, distrust)
            # Who was refused by one provider is due again at once for the next.
            self._more |= any(not isinstance(done.outcome, Accepted) for done in self._unsettled)
            self._unsettled = []

    def _room(self) -> bool:
        """May we claim? Only with a quarter of the slots free: claims stay large when the lane is loaded."""
        return not self._stopping.is_set() and self._slots - self._in_flight >= max(1, self._slots // 4)

    def _patience(self) -> float:
        if not self._more:
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

    def _ended(self, offer: Offer, result: Result | Rejected) -> Outcomes:
        return Outcomes(offer, result, wide=False) if isinstance(result, Rejected) else read(offer, result)
