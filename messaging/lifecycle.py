"""What a long-running process says of itself when it starts and when it stops; and whom it lets go first."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

log = logging.getLogger(__name__)

TOLD = ("GATE", "LEASE", "CONNECT_TIMEOUT", "READ_TIMEOUT", "TOTAL_TIMEOUT", "SLOTS", "POLL", "SWEEP", "DEBUG", "HTTPS")
GIVES_WAY = 10  # of 19
AUTOGROUP, AUTOGROUP_TRIES = Path("/proc/self/autogroup"), 10


def give_way(*, leader: int | None = None) -> None:
    """This process takes the cores that the others on its machine leave: codes go out there.

    `leader`: who leads the session where that is this process's alone; itself where none is given.
    """
    os.nice(GIVES_WAY)
    # Where Linux groups processes by session, that counts within ours; to others it is the group that has a weight.
    if os.getsid(0) != (leader or os.getpid()):
        return
    for _ in range(AUTOGROUP_TRIES):
        try:
            AUTOGROUP.write_text(str(GIVES_WAY))
            return
        except BlockingIOError:  # one such write in 100 ms is taken, of all processes (sched(7))
            time.sleep(0.15)
        except OSError:
            return


def started(**fields: Any) -> None:
    told = {name: getattr(settings, name) for name in TOLD}
    told["BROKER"] = urlsplit(settings.BROKER_URL).scheme  # the rest of an address holds a password
    log.info("started", extra={"version": settings.VERSION, "settings": told, **fields})


def stopped() -> None:
    log.info("stopped")


@contextmanager
def logged(**fields: Any) -> Iterator[None]:
    started(**fields)
    try:
        yield
    finally:
        stopped()
