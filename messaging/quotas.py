"""How much a client may send, kept by the fleet together: messages in a second and in a UTC day.

One row per client and window counts what was handed out in it, by the database's clock. A process leases a
block from that row and spends it in memory, so that busy accepts do not queue for one row. The block is a
share of what is left: near the limit every message is asked for by itself.

Guaranteed: in no window do all processes together accept more than the limit, so in any T seconds less than
rate x (T + 2): two full windows may meet. A message counts in the window in which its place was taken, just
before it is stored.
The price: who is refused may leave unused what other processes have leased, each at most BLOCK and at most
one SHARE-th of what was left then. A process that ends takes its lease with it.
"""

import math
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection

from messaging.clients import Caller
from messaging.errors import QuotaExceeded, RateLimited, Refusal
from providers.sql import rows
from providers.transport import boottime

SECOND, DAY = 1, 86_400
BLOCK = 100
SHARE = 8
REFUSALS = (RateLimited, QuotaExceeded)  # of a call that sends
KEEP = 60.0  # seconds; then a lease is renewed, so that two clocks cannot drift apart until midnight


@dataclass(slots=True)
class Room:
    """How many of a request's messages may still be accepted, and the refusal of those beyond."""

    places: int
    refusal: Refusal | None = None
    spent: int = 0  # set by who stores them


Rooms = Mapping[uuid.UUID, Room]  # by client


class Grant(NamedTuple):
    """Places in a window that ends after `seconds`; of what was leased, `block` may be kept in memory."""

    places: int
    block: int
    period: int
    seconds: float


@contextmanager
def reserve(caller: Caller, count: int) -> Iterator[Room]:
    """Takes places for `count` messages, or as many as there are, and gives back what was not spent.

    It belongs around the transaction that stores them. Inside one, the client's rows stay locked until it
    ends, and roll back with it. After an error that is no Refusal nobody knows what was stored, and all
    places count as spent. While it runs it holds all it took.
    """
    room = Room(count)
    grants: list[tuple[_Pool, Grant]] = []
    # The day first: who has nothing left until midnight is not told to come back in a second.
    for span, limit in ((DAY, caller.daily_quota), (SECOND, caller.rate_limit)):
        if limit is None or not room.places:
            continue
        pool = _pool(caller.id, span)
        grant = pool.take(limit, room.places)
        grants.append((pool, grant))
        if grant.places < room.places:
            room = Room(grant.places, _refusal(span, limit, grant.seconds))
    try:
        yield room
    except Refusal:
        room.spent = 0
        _put_back(grants, room)
        raise
    _put_back(grants, room)


@contextmanager
def reserve_each(callers: Iterable[Caller]) -> Iterator[Rooms]:
    """A place for each of many messages, by client: the rooms of `reserve`."""
    found = list(callers)
    wanted = Counter(caller.id for caller in found)
    by_id = {caller.id: caller for caller in found}  # its limits may change between two of them
    with ExitStack() as stack:
        yield {client: stack.enter_context(reserve(by_id[client], n)) for client, n in sorted(wanted.items())}


def _put_back(grants: list[tuple["_Pool", Grant]], room: Room) -> None:
    for pool, grant in grants:
        pool.put_back(grant.period, grant.places - room.spent)


def _refusal(span: int, limit: int, seconds: float) -> Refusal:
    wait = max(1, math.ceil(seconds))
    if span == DAY:
        return QuotaExceeded(f"At most {limit} messages in a day, which begins at 00:00 UTC.", retry_after=wait)
    return RateLimited(f"At most {limit} messages in a second.", retry_after=wait)


class _Pool:
    """What this process has leased of one window and not spent."""

    def __init__(self, client_id: uuid.UUID, span: int) -> None:
        self._row = {"client": client_id, "span": span}
        self._lock = threading.Lock()
        self._limit = 0  # ... under which it was leased
        self._left = 0
        self._block = 0
        self._period = 0
        self._until = 0.0

    def take(self, limit: int, wanted: int) -> Grant:
        if connection.in_atomic_block:  # nothing goes to memory that a rollback could not take back
            return self._lease(limit, wanted, block=0)
        # Held during the statement: a thread must not be refused while another is about to bring a block. Who
        # holds the row's lock in a transaction never waits here.
        with self._lock:
            if limit != self._limit or boottime() >= self._until:
                self._hand_back(self._period, self._left)
                self._limit, self._left = limit, 0
            seconds = 0.0
            while self._left < wanted:
                asked_at = boottime()
                count, self._block, period, seconds = self._lease(limit, wanted - self._left, block=BLOCK)
                self._left = count + (self._left if period == self._period else 0)
                self._period, self._until = period, asked_at + min(seconds, KEEP)
                if not count:
                    break
            count = min(self._left, wanted)
            self._left -= count
            return Grant(count, self._block, self._period, seconds)

    def put_back(self, period: int, count: int) -> None:
        if connection.in_atomic_block:
            self._hand_back(period, count)
            return
        with self._lock:
            if period == self._period:
                self._left += count
                self._hand_back(period, self._left - self._block)
                self._left = min(self._left, self._block)

    def _lease(self, limit: int, count: int, *, block: int) -> Grant:
        params = {**self._row, "limit": limit, "count": count, "block": block, "share": SHARE}
        while not (found := rows(_LEASE, params, planned_once=True)):  # once in a client's life
            rows(
                "INSERT INTO messaging_usage (client_id, span, period, used) VALUES (%(client)s, %(span)s, 0, 0) "
                "ON CONFLICT DO NOTHING",
                self._row,
            )
        return Grant(*found[0])

    def _hand_back(self, period: int, count: int) -> None:
        """What belongs to a window that is over is not missed."""
        if count > 0:
            rows(
                "UPDATE messaging_usage SET used = used - %(count)s "
                "WHERE client_id = %(client)s AND span = %(span)s AND period = %(period)s",
                {**self._row, "period": period, "count": count},
            )


# The period never goes back, whatever the clock does: a window that is over must not be handed out again.
_LEASE = """
WITH held AS (
  SELECT greatest(u.period, clock.period) AS period, clock.now,
    greatest(0, %(limit)s - CASE WHEN u.period >= clock.period THEN u.used ELSE 0 END) AS rest
  FROM messaging_usage u, LATERAL (
    SELECT now, floor(now / u.span)::bigint AS period FROM extract(epoch FROM clock_timestamp()) now
  ) clock
  WHERE u.client_id = %(client)s AND u.span = %(span)s FOR UPDATE OF u
), share AS (
  SELECT *, least(rest, greatest(%(count)s, block)) AS granted
  FROM held, LATERAL (SELECT least(%(block)s, rest / %(share)s) AS block) b
), leased AS (
  UPDATE messaging_usage SET period = share.period, used = %(limit)s - share.rest + share.granted
  FROM share WHERE client_id = %(client)s AND span = %(span)s AND share.granted > 0
)
SELECT granted, block, period, ((period + 1) * %(span)s - now)::float8 FROM share
"""

_pools: dict[tuple[uuid.UUID, int], _Pool] = {}


def _pool(client_id: uuid.UUID, span: int) -> _Pool:
    key = (client_id, span)
    return _pools.get(key) or _pools.setdefault(key, _Pool(client_id, span))


def used_today(client_id: uuid.UUID) -> int:
    """Messages of this UTC day, with what processes have leased and not spent."""
    found = rows(
        "SELECT used FROM messaging_usage WHERE client_id = %(client)s AND span = %(day)s "
        "AND period >= floor(extract(epoch FROM clock_timestamp()) / %(day)s)",
        {"client": client_id, "day": DAY},
    )
    return int(found[0][0]) if found else 0


def forget() -> None:
    _pools.clear()
