"""Which starts are refused, and why. Pure: what has happened so far comes in, findings go out.

Whoever brings the evidence decides whose clock counts: guard.py brings the database's, replay.py that of a file.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from django.conf import settings

from routing.numbers import number_type
from verification.fraud_models import BlockKind, Mode
from verification.limits import Full, Limit, network, of_failure, of_start, prefix
from verification.profiles import Policy

BEST_DAYS = 14  # the best of which carries a quiet day
SIXTH = 6  # of a day's is what an hour may have
PREFIX_STARTS, FIFTH = 50, 5  # of the last so many at least a fifth must be verified
FIRST_BLOCK, LONGEST_BLOCK = 3600, 86_400  # seconds; doubles while it comes again within BLOCK_MEMORY
BLOCK_MEMORY = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Start:
    """Who asks for a code to which phone. `reference`: of the challenge, at a resend."""

    client: uuid.UUID
    slug: str
    purpose: str
    msisdn: str = field(repr=False)
    country: str
    ip: str = field(default="", repr=False)
    device: str = field(default="", repr=False)
    reference: str = ""

    @property
    def names(self) -> Mapping[str, str]:
        """What a block can name it by."""
        found = {BlockKind.NUMBER: self.msisdn, BlockKind.PREFIX: prefix(self.msisdn)}
        if self.ip:
            found[BlockKind.IP] = network(self.ip)
        if self.device:
            found[BlockKind.DEVICE] = f"{self.slug} {self.device}"
        return {kind.value: value for kind, value in found.items()}


class Count(NamedTuple):
    starts: int = 0
    verified: int = 0

    @property
    def unverified(self) -> int:
        return self.starts - self.verified


NOBODY = Count()


class Standing(NamedTuple):
    """A block that holds now."""

    kind: str
    by_rule: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at the moment of a start, without it. Days and hours are those of UTC, by the clock."""

    trusted: bool = False
    blocks: Sequence[Standing] = ()
    day: Count = NOBODY  # of the country, today
    best: int = 0  # verified on the best of the days before
    hour: Count = NOBODY
    ip_day: Count = NOBODY
    ip_countries: int = 0  # with this one; those where nobody was verified
    prefix: Sequence[Count] = ()  # by hour, the newest first, since the last block of it


class Evidence(Protocol):
    def facts(self, start: Start) -> Facts: ...

    def take(self, limits: Sequence[Limit]) -> list[Full]: ...

    def peek(self, limits: Sequence[Limit]) -> list[Full]: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a start is refused. `hard`: staff decided so, and no monitoring lets it through."""

    rule: str
    detail: str
    hard: bool = False
    seconds: float | None = None  # until a limit begins anew


def findings(start: Start, policy: Policy, mode: str, evidence: Evidence) -> Iterator[Finding]:
    """The hardest first. Who stops at the first one asks for no more evidence than it needs."""
    yield from _allowed(start, policy, mode)
    facts = evidence.facts(start)
    yield from _blocked(facts)
    if not facts.trusted:
        if mode != Mode.ALLOW:
            yield from unusual(facts)
        yield from _used_up(evidence.take(_limits(start, mode)))
    # Nobody is spared: a trusted or monitored number can be guessed at like any other.
    yield from _used_up(evidence.peek(of_failure(start.purpose, start.msisdn)), hard=True)


def decided(start: Start, policy: Policy, mode: str, evidence: Evidence) -> Iterator[Finding]:
    """What people have decided, without what is counted: a resend is of a start that was counted."""
    yield from _allowed(start, policy, mode)
    yield from _blocked(evidence.facts(start))


def _blocked(facts: Facts) -> Iterator[Finding]:
    for kind, by_rule in facts.blocks:
        if not by_rule:
            yield Finding(f"blocked_{kind}", f"The {kind} is blocked.", hard=True)


def _allowed(start: Start, policy: Policy, mode: str) -> Iterator[Finding]:
    if policy.countries and start.country not in policy.countries:
        yield Finding("profile_country", f"The profile does not allow {start.country}.", hard=True)
    kind = number_type(start.msisdn)
    if kind not in policy.number_types:
        yield Finding("number_type", f"The profile does not allow numbers of the type {kind}.", hard=True)
    if mode == Mode.BLOCK:
        yield Finding("country", f"Nothing is sent to {start.country}.", hard=True)


def unusual(facts: Facts) -> Iterator[Finding]:
    """What pumped traffic looks like: many codes that nobody enters (the formula is Authgear's, see docs)."""
    floors: Mapping[str, int] = settings.VERIFY_RULES
    if any(by_rule for _, by_rule in facts.blocks):
        yield Finding("prefix_blocked", "Too few codes to numbers like this one were entered.")
    elif _pumped(facts.prefix):
        yield Finding("prefix_ratio", "Too few codes to numbers like this one were entered.")
    most: float = max(floors["unverified_day"], _usual(facts.best), _usual(facts.day.verified))
    if facts.day.unverified >= most:
        yield Finding("country_day", "Too few codes to this country were entered today.")
    if facts.hour.unverified >= max(floors["unverified_hour"], most / SIXTH, _usual(facts.hour.verified)):
        yield Finding("country_hour", "Too few codes to this country were entered in this hour.")
    if facts.ip_day.unverified >= max(floors["unverified_ip"], _usual(facts.ip_day.verified)):
        yield Finding("ip_day", "Too few codes asked for from this network were entered today.")
    if facts.ip_countries > floors["ip_countries"]:
        yield Finding("ip_countries", "Codes to too many countries were asked for from this network today.")


def _usual(verified: int) -> float:
    """So many may go unverified beside them."""
    return float(verified * settings.VERIFY_RULES["unverified_percent"] / 100)


def _pumped(hours: Sequence[Count]) -> bool:
    """Less than a fifth of the last PREFIX_STARTS, or of some more where they share an hour."""
    starts = verified = 0
    for hour in hours:
        starts, verified = starts + hour.starts, verified + hour.verified
        if starts >= PREFIX_STARTS:
            return verified * FIFTH < starts
    return False


def _limits(start: Start, mode: str) -> list[Limit]:
    found = of_start(start.slug, start.msisdn, start.ip, start.device)
    return [limit for limit in found if limit.kind != "prefix"] if mode == Mode.ALLOW else found


def _used_up(full: Sequence[Full], *, hard: bool = False) -> Iterator[Finding]:
    if full:
        worst = max(full, key=lambda found: found.seconds)
        kind = worst.limit.kind
        yield Finding(f"limit_{kind}", f"The limit by {kind} is used up.", hard, worst.seconds)


def block_seconds(level: int) -> int:
    """How long a rule blocks a prefix that it has blocked `level` times in a row."""
    return int(min(FIRST_BLOCK * 2**level, LONGEST_BLOCK))
