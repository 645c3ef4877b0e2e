"""The figures of the page: sums of hourly rows, so that they cost the same however many challenges there are.

They are of closed challenges, by the hour in which they began: what is pending is in none of them yet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from messaging.figures import percentile
from messaging.states import MessageClass
from providers.sql import rows
from verification.conversions import SUMS
from verification.models import TIMES, Challenge
from verification.states import ChallengeStatus

COUNTED = 1000  # pending ones are counted up to here


@dataclass(frozen=True, slots=True)
class Range:
    """`step` is the width of a bar; bars begin at its multiples in UTC."""

    label: str
    bars: int
    step: timedelta
    form: str  # of the time under a bar

    def since(self, now: datetime) -> datetime:
        """When the first bar begins; the last one is running."""
        seconds = self.step.total_seconds()
        begun = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
        return begun - (self.bars - 1) * self.step


RANGES = {
    "24h": Range("24 hours", 24, timedelta(hours=1), "%H:00"),
    "7d": Range("7 days", 28, timedelta(hours=6), "%b %d %H:00"),
    "30d": Range("30 days", 30, timedelta(days=1), "%b %d"),
}


@dataclass(slots=True)
class Sums:
    """`starts` = verified + expired + locked + cancelled + superseded."""

    starts: int = 0
    sends: int = 0
    delivered: int = 0
    verified: int = 0
    expired: int = 0
    locked: int = 0
    cancelled: int = 0
    superseded: int = 0
    wrong: int = 0
    unpriced: int = 0
    cost: Decimal = Decimal(0)
    times: list[int] = field(default_factory=lambda: [0] * (len(TIMES) + 1))

    @property
    def persons(self) -> int:
        """A start that a newer one took the place of is the same person again."""
        return self.starts - self.superseded

    @property
    def conversion(self) -> float | None:
        return self.verified / self.persons if self.persons else None

    @property
    def wrong_share(self) -> float | None:
        """Of all guesses."""
        return self.wrong / (self.wrong + self.verified) if self.wrong else None

    @property
    def median(self) -> float | None:
        """Seconds from the start to the right code; infinite beyond the last bound."""
        return percentile(dict(enumerate(self.times)), 0.5, TIMES)

    @property
    def cost_per_verified(self) -> Decimal | None:
        """Of all that was sent, also to those who did not verify."""
        return self.cost / self.verified if self.verified else None

    def add(self, other: "Sums") -> None:
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.cost += other.cost
        self.times = [mine + more for mine, more in zip(self.times, other.times, strict=True)]


_SUMS = f"""{", ".join(f"sum({name})::bigint" for name in SUMS)}, sum(cost),
  ARRAY[{", ".join(f"sum(times[{number}])" for number in range(1, len(TIMES) + 2))}]::bigint[]"""


def countries(since: datetime) -> list[tuple[str, Sums]]:
    """The largest first. Constraint one_hour_per_key finds the hours."""
    found = rows(
        f"SELECT country, {_SUMS} FROM verification_hour WHERE hour >= %(since)s GROUP BY country "  # noqa: S608
        "ORDER BY sum(starts) DESC, country",
        {"since": since},
    )
    return [(country, Sums(*sums)) for country, *sums in found]


def bars(wanted: Range, since: datetime) -> list[tuple[datetime, Sums]]:
    """One for each step, also where nothing happened."""
    found = rows(
        f"SELECT date_bin(%(step)s, hour, %(since)s), {_SUMS} FROM verification_hour "  # noqa: S608
        "WHERE hour >= %(since)s GROUP BY 1",
        {"since": since, "step": wanted.step},
    )
    sums = {begun: Sums(*row) for begun, *row in found}
    every = [since + number * wanted.step for number in range(wanted.bars)]
    return [(begun, sums.get(begun, Sums())) for begun in every]


def together(parts: Iterable[Sums]) -> Sums:
    found = Sums()
    for part in parts:
        found.add(part)
    return found


@dataclass(frozen=True, slots=True)
class Carried:
    """What one provider was handed. A code that two of them had is no evidence for either."""

    provider: str
    attempts: int
    delivered: int
    converted: int
    unattributed: int

    @property
    def attributed(self) -> int:
        return self.attempts - self.unattributed

    @property
    def conversion(self) -> float | None:
        return self.converted / self.attributed if self.attributed else None


def providers(since: datetime) -> Sequence[Carried]:
    """The busiest first. Constraint one_quality_per_key finds the hours."""
    found = rows(
        """
        SELECT p.slug, sum(attempts)::bigint, sum(delivered)::bigint, sum(converted)::bigint, sum(unattributed)::bigint
        FROM routing_quality q JOIN providers_provider p ON p.id = q.provider_id
        WHERE hour >= %(since)s AND message_class = %(lane)s GROUP BY p.slug ORDER BY sum(attempts) DESC, p.slug""",
        {"since": since, "lane": MessageClass.OTP.value},
    )
    return [Carried(*row) for row in found]


def pending() -> int:
    """How many are open now; more than COUNTED is COUNTED + 1. Index challenge_expiry."""
    return Challenge.objects.filter(status=ChallengeStatus.PENDING)[: COUNTED + 1].count()
