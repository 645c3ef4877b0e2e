"""A provider's rate, held by the fleet together: the generic cell rate algorithm on one row per provider.

`tat` is the theoretical arrival time of the next message (ITU-T I.371): a message may go when it is
not further than BURST in the future, and moves it by one interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from providers.models import ProviderThroughput
from providers.sql import records, rows

BURST = 0.1  # seconds worth of messages that may leave at once
RECOVERY = 30.0  # seconds after a pause until the rate doubles again
SHORTEST_PAUSE = 0.5  # seconds
LONGEST_WAIT = 30.0  # seconds a message is put off at most; then it looks again


@dataclass(slots=True)
class _Lane:
    interval: float  # seconds between two messages, 0 without a limit
    tat: float  # epoch seconds, like all times here
    paused_until: float
    horizons: dict[str, float] = field(default_factory=dict)
    changed: bool = False


class Reservations:
    """Tokens for one batch. Holds the rows of limited providers locked until the transaction ends."""

    def __init__(self, now: float, lanes: dict[int, _Lane]) -> None:
        self._now = now
        self._lanes = lanes

    def take(self, provider_id: int, name: str) -> float:
        """0.0 and a token is taken, or the seconds until this lane's turn and nothing is taken."""
        lane = self._lanes.get(provider_id)
        if lane is None:
            return 0.0
        if max(lane.paused_until, lane.tat - BURST if lane.interval else 0.0) > self._now:
            return self._turn(lane, name) - self._now
        lane.tat = max(lane.tat, self._now) + lane.interval
        lane.changed = True
        return 0.0

    def put_off(self, provider_id: int, name: str) -> float:
        """Seconds until it is this message's turn: those who wait in one lane are spread at the provider's rate."""
        lane = self._lanes[provider_id]
        lane.horizons[name] = self._turn(lane, name)
        lane.changed = True
        return lane.horizons[name] - self._now

    def _turn(self, lane: _Lane, name: str) -> float:
        first = max(lane.paused_until, lane.tat - BURST, self._now)
        return min(max(lane.horizons.get(name, 0.0), first) + lane.interval, self._now + LONGEST_WAIT)

    def save(self) -> None:
        changed = [
            {"id": provider, "tat": _moment(lane.tat), "horizons": lane.horizons}
            for provider, lane in self._lanes.items()
            if lane.changed
        ]
        if changed:
            rows(
                """
                UPDATE providers_providerthroughput t SET tat = r.tat, horizons = r.horizons
                FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id bigint, tat timestamptz, horizons jsonb)
                WHERE t.provider_id = r.id""",
                {"rows": records(changed)},
            )


def reserve(rates: Mapping[int, int | None]) -> Reservations:
    """Locks the rows of those providers, in id order. `rates` is messages per second, None without a limit."""
    found = _lock(list(rates))
    missing = sorted(p for p, rate in rates.items() if rate and p not in {row[0] for row in found})
    if missing:  # once in a provider's life
        ProviderThroughput.objects.bulk_create(
            [ProviderThroughput(provider_id=p) for p in missing], ignore_conflicts=True
        )
        found = _lock(list(rates))
    lanes = {}
    now = 0.0
    for provider_id, tat, horizons, paused_until, slowdown, moment in found:
        now = moment.timestamp()
        paused = paused_until.timestamp() if paused_until else 0.0
        halvings = max(0, slowdown - int(max(0.0, now - paused) / RECOVERY))
        rate = rates[provider_id]
        interval = 2**halvings / rate if rate else 0.0
        lanes[provider_id] = _Lane(interval, tat.timestamp() if tat else 0.0, paused, horizons)
    return Reservations(now, lanes)


def _lock(provider_ids: list[int]) -> list[tuple[Any, ...]]:
    return rows(
        """
        SELECT provider_id, tat, horizons, paused_until, slowdown, clock_timestamp()
        FROM providers_providerthroughput, set_config('idle_in_transaction_session_timeout', %(idle)s, true)
        WHERE provider_id = ANY(%(ids)s) ORDER BY provider_id FOR UPDATE OF providers_providerthroughput""",
        # A process that freezes here would stop the whole fleet; its claim is refused at the gate anyway.
        {"ids": provider_ids, "idle": f"{settings.GATE * 1000:.0f}"},
    )


def lower(provider_id: int, retry_after: float) -> None:
    """The provider said 429: pause for `retry_after` seconds, then go on at half the rate and recover by doubling.

    All that it says until the pause is over is about one burst: the rate is halved once.
    """
    rows(
        """
        INSERT INTO providers_providerthroughput AS t (provider_id, horizons, paused_until, slowdown)
        VALUES (%(id)s, '{}', clock_timestamp() + %(seconds)s * interval '1 second', 1)
        ON CONFLICT (provider_id) DO UPDATE SET
          slowdown = CASE WHEN t.paused_until > clock_timestamp() THEN greatest(1, t.slowdown)
            ELSE least(6, 1 + greatest(0, t.slowdown - coalesce(
              floor(extract(epoch FROM clock_timestamp() - t.paused_until) / %(recovery)s)::int, 6))) END,
          paused_until = greatest(t.paused_until, excluded.paused_until,
            -- who says it again and again, and says no time, is asked more and more seldom
            clock_timestamp() + %(shortest)s * 2 ^ t.slowdown * interval '1 second')""",
        {
            "id": provider_id,
            "seconds": max(retry_after, SHORTEST_PAUSE),
            "shortest": SHORTEST_PAUSE,
            "recovery": RECOVERY,
        },
    )


def _moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
