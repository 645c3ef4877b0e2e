"""How often: one table of counters, one statement for all that a request counts against.

A counter begins with the first thing it counts, and anew with the first one after its time is over: in no such
window is there ever more than the limit, however many requests run at once. Two windows may meet.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import ip_network
from typing import NamedTuple

from django.conf import settings

from providers.sql import records, rows

HOUR, DAY = 3600, 86_400
Key = tuple[str, str, int]  # kind, value, span
FOREVER = 10 * 365 * DAY  # until staff or a success end it


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` in `span` seconds of what `kind` and `value` name; this request adds `weight`.

    `daily`: the window is the UTC day, whenever it began to count.
    """

    kind: str
    value: str = field(repr=False)
    span: int
    most: int | Decimal
    weight: int | Decimal = 1
    daily: bool = False

    @property
    def key(self) -> Key:
        return self.kind, self.value, self.span


class Full(NamedTuple):
    """A limit that had no room, and in how many seconds it begins anew."""

    limit: Limit
    seconds: float


def take(limits: Sequence[Limit]) -> list[Full]:
    """Counts against each limit that has room, and returns those that have none.

    The rows stay locked until the transaction ends and roll back with it. They are taken in one order, so no two
    requests can deadlock.
    """
    return missed(limits, count(limits))


def count(limits: Sequence[Limit]) -> dict[Key, Decimal]:
    """Counts against each limit that has room, and returns how much of those is used now."""
    return {(kind, value, span): n for kind, value, span, n in rows(_TAKE, {"rows": records(limits)})}


def missed(limits: Sequence[Limit], counted: Mapping[Key, Decimal]) -> list[Full]:
    """Those that had no room, whatever has become of them since."""
    without = [limit for limit in limits if limit.key not in counted]
    seconds = {full.limit.key: full.seconds for full in peek(without)} if without else {}
    return [Full(limit, seconds.get(limit.key) or _pause(limit)) for limit in without]


def _pause(limit: Limit) -> float:
    """Of a limit that nobody uses: it has just begun anew, or is smaller than what this request would add."""
    if limit.weight <= limit.most:
        return 1.0
    return limit.span - time.time() % limit.span if limit.daily else limit.span


def peek(limits: Sequence[Limit]) -> list[Full]:
    """Which of them have no room, without counting."""
    found = rows(
        """
        SELECT b.kind, b.value, b.span, extract(epoch FROM b.until - clock_timestamp())::float8
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(kind text, value text, span int, most numeric, weight numeric)
        JOIN verification_bucket b USING (kind, value, span)
        WHERE b.until > clock_timestamp() AND b.n + r.weight > r.most""",
        {"rows": records(limits)},
    )
    seconds = {row[:3]: row[3] for row in found}
    return [Full(limit, seconds[limit.key]) for limit in limits if limit.key in seconds]


def taking(condition: str = "true") -> str:
    """INSERT that counts %(rows)s against those that have room, where `condition`, a literal, holds."""
    return f"""
INSERT INTO verification_bucket AS b (kind, value, span, n, most, until)
SELECT kind, value, span, weight, most,
  CASE WHEN daily THEN date_trunc('day', clock_timestamp(), 'UTC') + interval '24 hours'
    ELSE clock_timestamp() + span * interval '1 second' END
FROM jsonb_to_recordset(%(rows)s::jsonb)
  AS r(kind text, value text, span int, most numeric, weight numeric, daily bool)
WHERE weight <= most AND {condition} ORDER BY kind, value, span
ON CONFLICT (kind, value, span) DO UPDATE SET
  n = excluded.n + CASE WHEN b.until > clock_timestamp() THEN b.n ELSE 0 END,
  until = CASE WHEN b.until > clock_timestamp() THEN b.until ELSE excluded.until END,
  most = excluded.most
WHERE b.until <= clock_timestamp() OR b.n + excluded.n <= excluded.most
RETURNING kind, value, span, n
"""  # noqa: S608  a literal


_TAKE = taking()


def of_start(client: str, msisdn: str, ip: str, device: str) -> list[Limit]:
    """What a start counts against: the number and its neighbours for all clients together, the person per client."""
    most = settings.VERIFY_LIMITS
    found = [
        Limit("number", msisdn, HOUR, most["number_hour"]),
        Limit("number", msisdn, DAY, most["number_day"]),
        Limit("prefix", prefix(msisdn), HOUR, most["prefix_hour"]),
    ]
    if ip:
        found += [Limit("ip", network(ip), HOUR, most["ip_hour"]), Limit("ip", network(ip), DAY, most["ip_day"])]
    if device:
        name = f"{client} {device}"
        found += [Limit("device", name, HOUR, most["ip_hour"]), Limit("device", name, DAY, most["ip_day"])]
    return found


def of_failure(purpose: str, msisdn: str) -> list[Limit]:
    """What a wrong guess counts against, over all challenges of a number (NIST SP 800-63B: 100 in a row)."""
    most, value = settings.VERIFY_LIMITS, f"{purpose} {msisdn}"
    return [
        Limit("failed", value, HOUR, most["failed_hour"]),
        Limit("failed", value, DAY, most["failed_day"]),
        Limit("failed_row", value, FOREVER, most["failed_row"]),
    ]


def of_spend(client: str, country: str, cost: Decimal, most: Decimal) -> Limit:
    """What a message counts against, in the reporting currency."""
    return Limit("spend", f"{client} {country}", DAY, most, cost, daily=True)


def prefix(msisdn: str) -> str:
    """Ten thousand neighbours: the number without its last four digits."""
    return msisdn[:-4]


def network(ip: str) -> str:
    """What one person easily has many addresses of: a /24, or a /64 of IPv6."""
    return str(ip_network(f"{ip}/{64 if ':' in ip else 24}", strict=False))
