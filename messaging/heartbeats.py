"""What relays and bridges tell of themselves, in the database: pages and metrics ask Kafka nothing."""

import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from providers.sql import rows

EVERY = 5.0  # seconds between two words of a process that goes on as it is
GRACE = 30.0  # seconds beyond the longest that a relay may be busy with one group
SHOWN = 50
RELAY, BRIDGE = "relay", "bridge"
LONGEST = 200


@dataclass(frozen=True, slots=True)
class Word:
    """The last word of a process. `waiting`: commands in its partitions that it has not taken; None: not known."""

    role: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    state: str
    detail: str
    partitions: list[int]
    waiting: int | None
    age: float  # seconds since it was told

    @property
    def alive(self) -> bool:
        return alive(self.age)


class Heartbeat:
    """Of one process. Raises what the database raises."""

    def __init__(self, role: str) -> None:
        self._row = {"id": uuid.uuid4(), "role": role, "host": socket.gethostname()[:100], "pid": os.getpid()}
        self._told: tuple[str, str, list[int]] | None = None
        self._at = 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() - self._at >= EVERY

    def tell(
        self, state: str, detail: str = "", partitions: list[int] | None = None, waiting: int | None = None
    ) -> None:
        """Writes what is new at once, and the rest now and then."""
        told = (state, detail[:LONGEST], partitions or [])
        if told == self._told and not self.due:
            return
        values = {"state": told[0], "detail": told[1], "partitions": told[2], "waiting": waiting}
        rows(_TELL, self._row | values)
        self._told, self._at = told, time.monotonic()

    def end(self) -> None:
        """A process that stopped in good order is no longer shown."""
        rows("DELETE FROM messaging_kafkaprocess WHERE id = %(id)s", self._row)


# One that was killed leaves its row: it is shown as gone for a day.
_TELL = """
WITH forgotten AS (
  DELETE FROM messaging_kafkaprocess
  WHERE seen_at < statement_timestamp() - interval '1 day' AND id <> %(id)s
)
INSERT INTO messaging_kafkaprocess (id, role, host, pid, started_at, seen_at, state, detail, partitions, waiting)
VALUES (%(id)s, %(role)s, %(host)s, %(pid)s, clock_timestamp(), clock_timestamp(), %(state)s, %(detail)s,
  %(partitions)s::int[], %(waiting)s)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, state = excluded.state, detail = excluded.detail,
  partitions = excluded.partitions, waiting = excluded.waiting
"""


def alive(age: float) -> bool:
    """Has it told of itself lately enough? A relay is silent while Kafka does not take what it has."""
    return age < EVERY + 2 * settings.KAFKA_DELIVERY_TIMEOUT + GRACE


def waiting(bridges: Sequence[Word]) -> int | None:
    """Commands in the partitions of all of them; None where one does not know."""
    found = [word.waiting for word in bridges]
    return None if not found or None in found else sum(n for n in found if n is not None)


def words() -> list[Word]:
    """Of all processes, the latest first."""
    found = rows(
        """
        SELECT role, host, pid, started_at, seen_at, state, detail, partitions, waiting,
          extract(epoch FROM statement_timestamp() - seen_at)::float8
        FROM messaging_kafkaprocess ORDER BY seen_at DESC LIMIT %(limit)s""",
        {"limit": SHOWN},
    )
    return [Word(*row) for row in found]
