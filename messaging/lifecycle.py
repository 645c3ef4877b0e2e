"""What a long-running process says of itself when it starts and when it stops."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

log = logging.getLogger(__name__)

TOLD = ("GATE", "LEASE", "CONNECT_TIMEOUT", "READ_TIMEOUT", "TOTAL_TIMEOUT", "SLOTS", "POLL", "SWEEP", "DEBUG", "HTTPS")


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
