"""A pair of hands of a process: begins calls that run elsewhere, and settles what comes of them in groups."""

import logging
import queue
import threading
import time
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, InterfaceError, connection

from providers.sql import keep_plans

log = logging.getLogger(__name__)

GROUP_WAIT = 0.02  # seconds for which the first outcome of a group waits for others
_WAKE = object()


class Hands(threading.Thread):
    """Owns its database connection. `wake()` is cheap and may be called from any thread.

    A round begins calls, counts them `_in_flight`, collects and settles; whoever ends a call puts it into the inbox.
    """

    def __init__(self, name: str, slots: int) -> None:
        super().__init__(name=name, daemon=True)
        self._slots = slots
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._in_flight = 0
        self._unsettled: list[Any] = []
        self._stopping = threading.Event()

    def wake(self) -> None:
        self._inbox.put(_WAKE)

    def stop(self) -> None:
        """No more claims; the thread ends when its calls in flight are settled."""
        self._stopping.set()
        self.wake()

    def run(self) -> None:
        keep_plans()
        while self._in_flight or self._unsettled or not self._stopping.is_set():
            try:
                self._round()
            except (DatabaseError, InterfaceError) as error:
                log.warning("%s: database error, going on in a second: %s", self.name, type(error).__name__)
                self._recover()
            except Exception:
                # A mistake of ours must not end the thread. What is lost here has a lease, which runs out.
                log.exception("%s: unexpected error, going on in a second", self.name)
                self._unsettled = []
                self._recover()
        connection.close()

    def _round(self) -> None:
        raise NotImplementedError

    def _ended(self, *call: Any) -> Any:
        """What came of a call, as it is settled."""
        raise NotImplementedError

    def _collect(self, wait: float) -> bool:
        """Takes outcomes as they come; True when somebody says that there is work, or when it is time to look."""
        news = False
        deadline = time.monotonic() + wait
        while True:
            try:
                item = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return news or not self._unsettled
            if item is _WAKE:
                news = True
                if not self._unsettled:
                    return True
                continue
            self._in_flight -= 1
            self._unsettled.append(self._ended(*item))
            if not self._in_flight or len(self._unsettled) >= self._slots:
                return news
            deadline = min(deadline, time.monotonic() + GROUP_WAIT)

    def _recover(self) -> None:
        """Outcomes are kept, no more than there are slots: one whose lease has ended writes nothing, or is evidence."""
        with suppress(DatabaseError, InterfaceError):
            connection.close()
        time.sleep(1.0)
