"""What a long-running process says of itself when it starts and when it stops; and whom it lets go first."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

log = logging.getLogger(__name__)

TOLD = ("GATE", "LEASE", "CONNECT_TIMEOUT", "READ_TIMEOUT", "TOTAL_TIMEOUT", "SLOTS", "POLL", "SWEEP", "DEBUG", "HTTPS")
GIVES_WAY = 10  # of 19


def give_way() -> None:
    """This process takes the cores that the others on its machine leave: codes go out there."""
    os.nice(GIVES_WAY)
    # Where Linux groups processes by session, that counts within ours; to others it is the group that has a weight.
    if os.getsid(0) in (os.getpid(), os.getppid()):
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(GIVES_WAY))


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
