"""The sweeper: one leader by advisory lock, any number of standbys."""

import logging
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection

from messaging import lifecycle, sweeper, tasks
from providers.sql import rows

log = logging.getLogger(__name__)

LOCK = 0x4D58_5357  # one number in the database for "the sweeper leads"


class Command(BaseCommand):
    help = (
        "Takes over messages of workers that are gone, expires, schedules, and runs periodic work. "
        "Start as many as you like: one leads, the others wait to take over."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="Run one round without waiting to lead, then stop.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            lanes = sweeper.sweep()
            self.stdout.write(f"one round done, due lanes: {', '.join(sorted(lanes)) or 'none'}")
            return
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        with lifecycle.logged():
            self._sweep(stopping)
        connection.close()

    @staticmethod
    def _sweep(stopping: threading.Event) -> None:
        leading, periodic = False, sweeper.Periodic()
        while not stopping.is_set():
            try:
                leads = rows("SELECT pg_try_advisory_lock(%(lock)s)", {"lock": LOCK})[0][0] if not leading else True
                if leads and not leading:
                    log.info("this sweeper leads")
                leading = leads
                if leading:
                    for lane in sweeper.sweep():
                        tasks.hint(lane)
                    periodic.run()
            except (DatabaseError, InterfaceError) as error:
                log.warning("database error: %s", type(error).__name__)
                connection.close()
                leading = False  # the lock went with the connection
            except Exception:
                # A mistake of ours in one step must not leave lost leases to nobody.
                log.exception("unexpected error, going on")
            stopping.wait(settings.SWEEP)
