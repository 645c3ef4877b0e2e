"""The figures of the dashboard: from the tally, so that they cost the same however many messages there are."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from messaging import tally
from messaging.states import AttemptStatus, MessageClass, Status
from messaging.tally import ATTEMPT, BOUNDS, MESSAGE, RECENT, UNTIMED
from providers.models import Provider, ProviderHealth
from providers.sql import rows
from routing.snapshot import tables

HOURS = 24
#: What became of messages, for the chart.
OUTCOMES = (Status.DELIVERED, Status.UNDELIVERED, Status.FAILED, Status.EXPIRED, Status.CANCELLED)


@dataclass(slots=True)
class Span:
    """What happened in some time. Latencies are counted by bucket."""

    accepted: int = 0
    sent: int = 0
    delivered: int = 0
    undelivered: int = 0  # by a receipt: what never left is not the provider's doing
    submits: Counter[int] = field(default_factory=Counter)
    deliveries: Counter[int] = field(default_factory=Counter)

    @property
    def delivery_rate(self) -> float | None:
        """Of those whose receipt has come: one that is still to come is no failure."""
        heard = self.delivered + self.undelivered
        return self.delivered / heard if heard else None


@dataclass(slots=True)
class Spans:
    hour: Span = field(default_factory=Span)  # since the quarter of an hour that began an hour ago or before
    day: Span = field(default_factory=Span)


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one currency. `so_far` is yesterday's to the same quarter of an hour."""

    today: Decimal
    so_far: Decimal
    yesterday: Decimal


# --- messages -------------------------------------------------------------------------------------


def states() -> dict[tuple[str, str], int]:
    """(class, status) -> messages that are there now."""
    standing = tally.standing(tally.totals(), MESSAGE)
    return {(lane, status): standing[lane, 0, status] for lane in MessageClass for status in Status}


def waits() -> dict[str, float]:
    """Class -> seconds for which the message that is due longest has waited."""
    return {str(lane): seconds for lane, seconds in rows(BACKLOG, {"lanes": list(MessageClass)})}


# index message_due
BACKLOG = """
SELECT lane, greatest(0, coalesce(extract(epoch FROM clock_timestamp() - (
  SELECT m.not_before FROM messaging_message m WHERE m.status = 'queued' AND m.message_class = lane
  ORDER BY m.not_before LIMIT 1)), 0))::float8
FROM unnest(%(lanes)s::text[]) lane
"""


def spans(now: datetime) -> tuple[dict[str, Spans], dict[int, Spans]]:
    """By class and by provider, of the last hour and the last day."""
    lanes: dict[str, Spans] = {lane: Spans() for lane in MessageClass}
    providers: dict[int, Spans] = {}
    for lane, provider, origin, target, bucket, day, hour in rows(
        _SPANS, {"since": _slot(now - timedelta(hours=HOURS)), "hour": _slot(now - timedelta(hours=1))}
    ):
        for found in (lanes[lane], providers.setdefault(provider, Spans())):
            _add(found.day, origin, target, bucket, day)
            _add(found.hour, origin, target, bucket, hour)
    return lanes, providers


_SPANS = f"""
SELECT message_class, provider_id, origin, target, bucket, sum(n)::bigint,
  coalesce(sum(n) FILTER (WHERE slot >= %(hour)s), 0)::bigint
FROM {RECENT} WHERE kind = '{MESSAGE}' GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608  literals of this project
LEFT = frozenset({Status.SENT, Status.UNKNOWN, Status.HELD})


def _add(span: Span, origin: str, target: str, bucket: int, n: int) -> None:
    if not origin:
        span.accepted += n
    match target:
        case Status.SENT:
            span.sent += n
            span.submits[bucket] += n
        case Status.DELIVERED:
            span.delivered += n
            span.deliveries[bucket] += n
        case Status.UNDELIVERED | Status.EXPIRED if origin in LEFT:
            span.undelivered += n


def hours(now: datetime) -> list[tuple[datetime, int, dict[str, int]]]:
    """(hour, accepted, outcome -> messages) of the last 24 hours, this one included."""
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    outcomes = ", ".join(f"'{status}'" for status in OUTCOMES)
    found = rows(
        f"""
        SELECT date_trunc('hour', slot), CASE origin WHEN '' THEN '' ELSE target END, sum(n)::bigint FROM {RECENT}
        WHERE kind = '{MESSAGE}' AND (origin = '' OR target IN ({outcomes})) GROUP BY 1, 2""",  # noqa: S608
        {"since": first},
    )
    counts = {(hour, what): n for hour, what, n in found}
    every = [first + timedelta(hours=number) for number in range(HOURS)]
    return [(hour, counts.get((hour, ""), 0), {o: counts.get((hour, o), 0) for o in OUTCOMES}) for hour in every]


def percentile(buckets: Mapping[int, int], share: float, bounds: Sequence[float] = BOUNDS) -> float | None:
    """Seconds that this share (0 to 1) stayed below, between two bounds in proportion; None without any.

    Infinite beyond the last bound.
    """
    timed = {bucket: n for bucket, n in buckets.items() if bucket != UNTIMED and n > 0}
    wanted, so_far = share * sum(timed.values()), 0
    for bucket in sorted(timed):
        if so_far + timed[bucket] >= wanted:
            if bucket == len(bounds):
                return float("inf")
            lower = bounds[bucket - 1] if bucket else 0.0
            return lower + (bounds[bucket] - lower) * (wanted - so_far) / timed[bucket]
        so_far += timed[bucket]
    return None


# --- providers and money --------------------------------------------------------------------------


def breakers() -> list[tuple[Provider, str, list[str]]]:
    """(provider, its state, the countries in which it is not closed)."""
    closed = ProviderHealth.State.CLOSED
    states: dict[int, dict[str, str]] = {}
    for row in ProviderHealth.objects.exclude(state=closed):
        states.setdefault(row.provider_id, {})[row.country] = row.state
    found = []
    for provider in Provider.objects.all():
        mine = states.get(provider.pk, {})
        found.append((provider, mine.get("", closed), sorted(country for country in mine if country)))
    return found


def call_latencies(now: datetime) -> dict[int, Counter[int]]:
    """Provider -> how long its calls of the last hour took, by bucket."""
    found: dict[int, Counter[int]] = {}
    for provider, bucket, n in rows(
        f"""
        SELECT provider_id, bucket, sum(n)::bigint FROM {RECENT}
        WHERE kind = '{ATTEMPT}' AND origin = '{AttemptStatus.INTENT}' GROUP BY 1, 2""",  # noqa: S608
        {"since": _slot(now - timedelta(hours=1))},
    ):
        found.setdefault(provider, Counter())[bucket] += n
    return found


def costs(now: datetime) -> dict[str, Costs]:
    """By currency; days are those of UTC."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    found = rows(
        f"""
        SELECT currency, coalesce(sum(cost) FILTER (WHERE slot >= %(today)s), 0),
          coalesce(sum(cost) FILTER (WHERE slot <= %(same)s), 0), coalesce(sum(cost) FILTER (WHERE slot < %(today)s), 0)
        FROM {RECENT} WHERE kind = '{ATTEMPT}' AND cost <> 0 GROUP BY 1 ORDER BY 1""",  # noqa: S608
        {"since": today - timedelta(days=1), "today": today, "same": _slot(now - timedelta(days=1))},
    )
    return {currency: Costs(*amounts) for currency, *amounts in found}


def in_reporting(found: dict[str, Costs], now: datetime) -> Costs | None:
    """All together in REPORTING_CURRENCY at today's rates; None where one has no rate."""
    book = tables.get()

    def together(pick: Callable[[Costs], Decimal]) -> Decimal | None:
        amounts = [book.reporting(pick(cost), currency, now) for currency, cost in found.items()]
        return _sum(amounts)

    sums = [together(lambda c: c.today), together(lambda c: c.so_far), together(lambda c: c.yesterday)]
    known = [amount for amount in sums if amount is not None]
    return Costs(*known) if len(known) == len(sums) else None


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _slot(moment: datetime) -> datetime:
    """The beginning of the slot that it falls into."""
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
