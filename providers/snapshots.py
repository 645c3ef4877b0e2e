"""Tables kept in memory, immutable, renewed when the version row of what they were read from changes.

Statement triggers raise the versions (see the migrations), so that nobody can change a table and
forget: not the admin, not `provision`, not a hand-written UPDATE.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from django.conf import settings

from providers.sql import rows

T = TypeVar("T")


class Snapshot(Generic[T]):
    """`get()` costs a dictionary look-up; at most once in SNAPSHOT_MAX_AGE seconds it reads the version row."""

    def __init__(self, topics: tuple[str, ...], load: Callable[[], T]) -> None:
        self._topics = list(topics)
        self._load = load
        self._lock = threading.Lock()
        self._version: tuple[int, ...] | None = None
        self._checked_at = 0.0
        self._ready = False
        self._value: T

    def get(self, *, fresh: bool = False) -> T:
        """`fresh` reads the version row now, for a caller that misses something it was just told of."""
        if (
            fresh
            or self._version is None
            or self._ready
            or time.monotonic() - self._checked_at > settings.SNAPSHOT_MAX_AGE
        ):
            self._renew()
        return self._value

    def _renew(self) -> None:
        # While one thread renews, the others go on with the table they have.
        if not self._lock.acquire(blocking=self._version is None):
            return
        try:
            # The version is read before the tables: a change in between is read twice, never missed.
            found = rows(
                "SELECT topic, version FROM providers_version WHERE topic = ANY(%(topics)s) ORDER BY topic",
                {"topics": self._topics},
            )
            version = tuple(number for _, number in found)
            ready, self._ready = self._ready, False
            if ready or version != self._version:
                self._value = self._load()
                self._version = version
            self._checked_at = time.monotonic()
        finally:
            self._lock.release()

    def soon(self) -> None:
        """The next `get` loads again: a part that takes long has been prepared aside. For any thread."""
        self._ready = True

    def forget(self) -> None:
        self._version = None


def version_trigger(table: str, topic: str, columns: str = "") -> tuple[str, str]:
    """Forward and backward SQL for a migration: changes of `table` raise the version of `topic`.

    `columns` limits it to updates of those.
    """
    name = f"{table}_version"
    update = f"UPDATE OF {columns}" if columns else "UPDATE"
    forward = f"""
        CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          INSERT INTO providers_version AS v (topic, version) VALUES ('{topic}', 1)
          ON CONFLICT (topic) DO UPDATE SET version = v.version + 1;
          RETURN NULL;
        END $$;
        CREATE TRIGGER {name} AFTER INSERT OR DELETE OR TRUNCATE OR {update} ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION {name}();
    """  # noqa: S608  the names come from migrations
    return forward, f"DROP TRIGGER IF EXISTS {name} ON {table}; DROP FUNCTION IF EXISTS {name}();"
