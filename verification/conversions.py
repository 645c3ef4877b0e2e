"""Did the code come back? Counted once per closed challenge, for routing and for the figures.

A challenge is counted under the hour in which it began, so that starts and successes of an hour belong together.
One that a newer start took the place of is the same person asking again: its messages have not converted, and it is
counted apart from the starts that a conversion rate is of. What staff cancelled tells nothing about a provider.
"""

import uuid
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from messaging.states import AttemptStatus, MessageClass
from providers.sql import in_groups, records, rows
from routing import quality
from routing.quality import Sample
from routing.snapshot import tables
from verification.models import TIMES
from verification.states import ChallengeStatus

GROUP = 500
KEEP = "400 days"
DELIVERED = AttemptStatus.DELIVERED.value
# An intent that is still one has lost its worker: it may have gone out.
NOT_HANDED_OVER = frozenset({AttemptStatus.REJECTED, AttemptStatus.NOT_SENT})
SUMS = ("starts", "sends", "delivered", "verified", "expired", "locked", "cancelled", "superseded", "wrong", "unpriced")


@dataclass(frozen=True, slots=True)
class Closed:
    id: uuid.UUID
    client_id: uuid.UUID
    purpose: str
    to: str = field(repr=False)
    country: str
    status: str
    reason: str
    code_per_attempt: bool
    verified_generation: int | None
    sends: int
    checks: int
    created_at: datetime
    verified_at: datetime | None

    @property
    def verified(self) -> bool:
        return self.status == ChallengeStatus.VERIFIED

    @property
    def outcome(self) -> str:
        return "superseded" if self.reason == "newer_start" else self.status


@dataclass(frozen=True, slots=True)
class Handed:
    """One attempt. `generation` is that of its code, where every attempt has one of its own."""

    provider_id: int
    status: str
    receipt_status: str
    started_at: datetime
    cost: Decimal | None
    currency: str
    generation: int | None
    mcc: str = ""  # empty while the network is not known
    mnc: str = ""

    @property
    def handed_over(self) -> bool:
        return self.status not in NOT_HANDED_OVER

    @property
    def delivered(self) -> bool:
        return DELIVERED in (self.status, self.receipt_status)


def count() -> None:
    """Counts what was closed long enough ago for its calls to be settled. Any number may run at once."""
    in_groups(_count_group, GROUP)


def _count_group() -> int:
    # Sums and mark are of one transaction: whatever dies, each challenge is counted once.
    with transaction.atomic():
        due = {"group": GROUP, "settled": settings.GATE + settings.TOTAL_TIMEOUT}
        closed = [Closed(*row) for row in rows(_CLOSED, due)]
        ids = [challenge.id for challenge in closed]
        real = [challenge for challenge in closed if challenge.to not in settings.VERIFY_TEST_NUMBERS]
        attempts = _attempts(ids)
        _add(real, attempts)
        quality.record(sample for one in real for sample in samples(one, attempts[one.id]))
        rows("UPDATE verification_challenge SET counted_at = clock_timestamp() WHERE id = ANY(%(ids)s)", {"ids": ids})
    return len(closed)


_CLOSED = """
SELECT id, client_id, purpose, "to", country, status, reason, code_per_attempt, verified_generation, sends,
  checks, created_at, verified_at
FROM verification_challenge
WHERE counted_at IS NULL AND status <> 'pending'
  AND closed_at < statement_timestamp() - %(settled)s * interval '1 second'
ORDER BY closed_at LIMIT %(group)s FOR NO KEY UPDATE SKIP LOCKED
"""


def _attempts(challenges: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, list[Handed]]:
    found: dict[uuid.UUID, list[Handed]] = defaultdict(list)
    for challenge, *attempt in rows(
        """
        SELECT m.challenge_id, a.provider_id, a.status, a.receipt_status, a.started_at, a.cost, a.currency,
          g.generation, t.mcc, t.mnc
        FROM verification_codemessage m JOIN messaging_attempt a USING (message_id)
        JOIN messaging_message t ON t.id = m.message_id
        LEFT JOIN verification_codeattempt g ON g.attempt_id = a.id
        WHERE m.challenge_id = ANY(%(ids)s)""",
        {"ids": list(challenges)},
    ):
        found[challenge].append(Handed(*attempt))
    return found


def samples(challenge: Closed, attempts: Iterable[Handed]) -> list[Sample]:
    """What routing learns. With equal codes nobody can tell which of several messages was read: unattributed."""
    if challenge.reason == "staff":
        return []
    handed = [attempt for attempt in attempts if attempt.handed_over]
    found = []
    for attempt in handed:
        converted: bool | None = False
        if challenge.verified and challenge.code_per_attempt:
            converted = attempt.generation == challenge.verified_generation
        elif challenge.verified:
            converted = True if len(handed) == 1 else None
        found.append(
            Sample(
                at=attempt.started_at,
                message_class=MessageClass.OTP,
                provider_id=attempt.provider_id,
                country=challenge.country,
                # A code that came back has arrived, whatever the receipt says.
                delivered=attempt.delivered or converted is True,
                converted=converted,
                mcc=attempt.mcc,
                mnc=attempt.mnc,
            )
        )
    return found


# --- figures --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sums:
    counts: Counter[str] = field(default_factory=Counter)
    cost: Decimal = Decimal(0)
    times: list[int] = field(default_factory=lambda: [0] * (len(TIMES) + 1))


def _add(closed: Iterable[Closed], attempts: Mapping[uuid.UUID, Sequence[Handed]]) -> None:
    hours: dict[tuple[str, str, str, str], _Sums] = defaultdict(_Sums)
    for one in closed:
        hour = one.created_at.replace(minute=0, second=0, microsecond=0).isoformat()
        _sum_up(hours[hour, str(one.client_id), one.country, one.purpose], one, attempts[one.id])
    if hours:
        # In the order of the key, so that two counting at once cannot deadlock.
        rows(_ADD_HOURS, {"rows": records(_hour(key, hours[key]) for key in sorted(hours))})


def _sum_up(sums: _Sums, challenge: Closed, attempts: Sequence[Handed]) -> None:
    arrived = challenge.verified or any(attempt.delivered for attempt in attempts)
    counts = {"starts": 1, "sends": challenge.sends, "delivered": int(arrived), "wrong": challenge.checks}
    sums.counts.update({**counts, challenge.outcome: 1})
    if challenge.verified_at:
        seconds = (challenge.verified_at - challenge.created_at).total_seconds()
        sums.times[bisect_left(TIMES, seconds)] += 1
    book = tables.get()
    for attempt in attempts:
        if attempt.cost:
            cost = book.reporting(attempt.cost, attempt.currency, attempt.started_at)
            sums.cost += cost or 0
            sums.counts["unpriced"] += cost is None


def _hour(key: tuple[str, str, str, str], sums: _Sums) -> dict[str, Any]:
    named = dict(zip(("hour", "client_id", "country", "purpose"), key, strict=True))
    return {**named, **{name: sums.counts[name] for name in SUMS}, "cost": round(sums.cost, 6), "times": sums.times}


_NAMES = ", ".join(("hour", "client_id", "country", "purpose", *SUMS, "cost", "times"))
_ADD_HOURS = f"""
INSERT INTO verification_hour AS h ({_NAMES})
SELECT {_NAMES} FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(hour timestamptz, client_id uuid, country text,
  purpose text, {", ".join(f"{name} int" for name in SUMS)}, cost numeric, times int[])
ON CONFLICT (hour, client_id, country, purpose) DO UPDATE SET
  {", ".join(f"{name} = h.{name} + excluded.{name}" for name in SUMS)}, cost = h.cost + excluded.cost,
  times = ARRAY(SELECT a + b FROM unnest(h.times, excluded.times) WITH ORDINALITY t(a, b, i) ORDER BY i)
"""  # noqa: S608  literals of this module


def purge() -> None:
    """Forgets old hours, here and in routing."""
    statement = f"""
        DELETE FROM verification_hour WHERE id IN (SELECT id FROM verification_hour
          WHERE hour < statement_timestamp() - interval '{KEEP}' LIMIT {GROUP} FOR UPDATE SKIP LOCKED)
        RETURNING 1"""  # noqa: S608  literals of this module
    in_groups(lambda: len(rows(statement)), GROUP)
    quality.purge()
