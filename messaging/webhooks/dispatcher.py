"""The thread of an events worker that sends webhooks. It owns its connection; requests run on a loop's thread."""

import time
from collections import Counter
from uuid import UUID

from django.conf import settings

from messaging.hands import Hands
from messaging.webhooks import fanout, replays, sending
from messaging.webhooks.sending import Outcome, Shot
from providers.transport import Result

LOOK = 0.25  # seconds between two looks for work: nobody says that there is an event, which costs intake nothing


class Dispatcher(Hands):
    """Fans out, claims, sends and settles. Any number of processes may: each takes what no other holds."""

    def __init__(self) -> None:
        super().__init__("webhooks", settings.WEBHOOK_SLOTS)
        self._busy: Counter[UUID] = Counter()
        self._careful = 0  # of those in flight

    def _round(self) -> None:
        more = not self._stopping.is_set() and self._start()
        self._collect(0.0 if more and self._in_flight < self._slots else LOOK)
        if self._unsettled:
            sending.settle(self._unsettled)
            self._unsettled = []

    def _start(self) -> bool:
        """True where there is more to do at once."""
        more = fanout.fan_out() == fanout.GROUP
        more |= replays.step()
        free = self._slots - self._in_flight
        if not free:
            return more
        shots = sending.claim(free, self._busy, self._careful)
        self._in_flight += len(shots)
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

    def _ended(self, shot: Shot, outcome: Outcome) -> Outcome:
        self._busy[shot.endpoint_id] -= 1
        if not self._busy[shot.endpoint_id]:
            del self._busy[shot.endpoint_id]
        self._careful -= shot.careful
        return outcome
