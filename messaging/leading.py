"""One process of many leads: the one that holds an advisory lock of PostgreSQL. The others stand by."""

import logging
import signal
import threading
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, connection

from providers.sql import rows

log = logging.getLogger(__name__)


def until_told() -> threading.Event:
    """Set by SIGTERM or SIGINT."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def lead(
    name: str,
    lock: int,
    work: Callable[[], bool],
    *,
    pause: float,
    stopping: threading.Event,
    elected: Callable[[], None] = lambda: None,
    told: Callable[[bool], None] = lambda leads: None,
) -> None:
    """Does `work` again and again while this process leads, with `pause` seconds between where it returns False.

    `lock` is one number in the database for this leadership. `elected` is called first in each term, `told` in
    every round.
    """
    term: object = None  # the connection that holds the lock: a new one would not
    while not stopping.is_set():
        again = False
        try:
            if term is None or term is not connection.connection:
                term = None
                if rows("SELECT pg_try_advisory_lock(%(lock)s)", {"lock": lock})[0][0]:
                    term = connection.connection
                    log.info("this %s leads", name)
                    told(True)
                    elected()
            told(term is not None)
            if term is not None:
                again = work()
        except (DatabaseError, InterfaceError) as error:
            log.warning("database error: %s", type(error).__name__)
            connection.close()
        except Exception:
            # A mistake of ours in one step must not leave the rest of the work to nobody.
            log.exception("unexpected error, going on")
        if not again:
            stopping.wait(pause)
    connection.close()
