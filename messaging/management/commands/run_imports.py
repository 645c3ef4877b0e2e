"""The import process: reads price lists that staff upload, compares them, writes what is to be approved."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection

from messaging import leading, lifecycle
from routing.imports import work


class Command(BaseCommand):
    help = (
        "Reads and compares uploaded price lists, and writes what is to be approved. Start as many as you like: "
        "each import is one process's work, and goes on in another when that one dies."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        lifecycle.give_way()
        stopping = leading.until_told()
        with lifecycle.logged():
            while not stopping.is_set():
                if not self._work(stopping.is_set):
                    stopping.wait(settings.POLL)
            connection.close()

    def _work(self, stopping: Callable[[], bool]) -> bool:
        try:
            return work.work(stopping)
        except (DatabaseError, InterfaceError) as error:
            work.log.warning("imports: database error: %s", type(error).__name__)
        except Exception:
            work.log.exception("imports: unexpected error")
        connection.close()  # and with it the lock of an import, which goes on from the start of its step
        return False
