"""Past starts against the rules of today: what would have been refused, and what would that have saved.

The rules are those of rules.py; only the evidence is another one, kept in memory and by the clock of the file.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from messaging.models import Client
from messaging.states import MessageClass
from providers.health import Board
from routing.lcr import candidates
from routing.snapshot import tables
from verification import countries, limits, profiles
from verification.fraud_models import Block, Mode, TrustedNumber
from verification.limits import DAY, HOUR, Full, Key, Limit, prefix
from verification.profiles import Policy
from verification.rules import (
    BEST_DAYS,
    BLOCK_MEMORY,
    PREFIX_STARTS,
    Count,
    Facts,
    Finding,
    Standing,
    Start,
    block_seconds,
    findings,
)

PRUNE = 50_000  # starts between two looks for what is over


@dataclass(frozen=True, slots=True)
class Past:
    """One start of the file. `at` in seconds since 1970."""

    at: float
    msisdn: str = field(repr=False)
    country: str
    client: str
    purpose: str
    ip: str = field(repr=False)
    device: str = field(repr=False)
    verified: bool


class Verdict(NamedTuple):
    """`refused` is what would have stopped it, `noted` what a monitor would only have noted; `cost` where known."""

    past: Past
    refused: Finding | None
    noted: Sequence[Finding]
    cost: Decimal | None


def replay(starts: Iterable[Past]) -> Iterator[Verdict]:
    """A verdict for each, in the order of time, which they must have."""
    memory, prices, policies = Memory(), _Prices(), _Policies()
    for number, past in enumerate(starts, 1):
        client, policy = policies.find(past.client, past.purpose)
        start = Start(client, past.client, past.purpose, past.msisdn, past.country, past.ip, past.device)
        mode = countries.mode(client, past.country)
        memory.begin(past.at)
        refused, noted = _judge(start, policy, mode, memory, prices)
        if refused:
            memory.undo()
            if refused.rule == "prefix_ratio":
                memory.block(start)
        else:
            memory.count(start, verified=past.verified)
        if number % PRUNE == 0:
            memory.prune()
        yield Verdict(past, refused, noted, prices.of(start))


def _judge(
    start: Start, policy: Policy, mode: str, memory: "Memory", prices: "_Prices"
) -> tuple[Finding | None, list[Finding]]:
    monitors = policy.monitor_only or mode == Mode.MONITOR
    noted: list[Finding] = []
    for finding in (*findings(start, policy, mode, memory), *_capped(start, memory, prices)):
        if finding.hard or not monitors:
            return finding, noted
        noted.append(finding)
    return None, noted


def _capped(start: Start, memory: "Memory", prices: "_Prices") -> Iterator[Finding]:
    at = datetime.fromtimestamp(memory.now, UTC)
    cap, cost = countries.cap(start.client, start.country, at), prices.of(start)
    if cap is None or cost is None:
        return
    if memory.take([limits.of_spend(start.slug, start.country, cost, cap)]) and not memory.trusts(start):
        yield Finding("spend_cap", f"The cap of the day for {start.country} is used up.")


class Memory:
    """Evidence as the database would have it at `now`, but for wrong guesses, which the file does not tell."""

    def __init__(self) -> None:
        self.now = 0.0
        self._buckets: dict[Key, tuple[Decimal, float]] = {}  # used, until
        self._before: list[tuple[Key, tuple[Decimal, float] | None]] = []
        self._counts: dict[tuple[str, int, int], Count] = {}  # country, span, window
        self._networks: dict[tuple[str, int], dict[str, Count]] = {}
        self._prefixes: dict[str, dict[int, Count]] = {}
        self._blocked: dict[str, tuple[float, int]] = {}  # until, level
        held = Block.objects.filter(lifted_at=None, by_rule=False).exclude(expires_at__lt=datetime.now(UTC))
        self._staff = set(held.values_list("kind", "value", "client_id"))
        trusted = TrustedNumber.objects.exclude(expires_at__lt=datetime.now(UTC))
        self._trusted = set(trusted.values_list("msisdn", "client_id"))

    def begin(self, now: float) -> None:
        self.now = now
        self._before.clear()

    def undo(self) -> None:
        """What a refused start has counted."""
        for key, bucket in reversed(self._before):
            if bucket is None:
                del self._buckets[key]
            else:
                self._buckets[key] = bucket

    def trusts(self, start: Start) -> bool:
        return bool({(start.msisdn, None), (start.msisdn, start.client)} & self._trusted)

    def facts(self, start: Start) -> Facts:
        day, hour, country = int(self.now // DAY), int(self.now // HOUR), start.country
        countries_of = self._networks.get((start.names.get("ip", ""), day), {})
        unverified = {name for name, count in countries_of.items() if not count.verified}
        if start.ip and not countries_of.get(country, Count()).verified:
            unverified.add(country)
        return Facts(
            trusted=self.trusts(start),
            blocks=list(self._blocks(start)),
            day=self._counts.get((country, DAY, day), Count()),
            best=max(self._counts.get((country, DAY, day - ago), Count()).verified for ago in range(1, BEST_DAYS + 1)),
            hour=self._counts.get((country, HOUR, hour), Count()),
            ip_day=_sum(countries_of.values()),
            ip_countries=len(unverified),
            prefix=self._last(prefix(start.msisdn)),
        )

    def _blocks(self, start: Start) -> Iterator[Standing]:
        for kind, value in start.names.items():
            if {(kind, value, None), (kind, value, start.client)} & self._staff:
                yield Standing(kind, by_rule=False)
        until, _ = self._blocked.get(prefix(start.msisdn), (0.0, 0))
        if until > self.now:
            yield Standing("prefix", by_rule=True)

    def _last(self, name: str) -> list[Count]:
        since = self._blocked.get(name, (0.0, 0))[0] - HOUR
        hours = sorted(self._prefixes.get(name, {}).items(), reverse=True)
        return [count for hour, count in hours if hour * HOUR > since][:PREFIX_STARTS]

    def take(self, wanted: Sequence[Limit]) -> list[Full]:
        full = []
        for limit in wanted:
            bucket = self._buckets.get(limit.key)
            used, until = bucket if bucket and bucket[1] > self.now else (Decimal(0), self._end(limit))
            if used + limit.weight > limit.most:
                full.append(Full(limit, until - self.now))
            else:
                self._before.append((limit.key, bucket))
                self._buckets[limit.key] = (used + limit.weight, until)
        return full

    def _end(self, limit: Limit) -> float:
        return (self.now // DAY + 1) * DAY if limit.daily else self.now + limit.span

    def peek(self, wanted: Sequence[Limit]) -> list[Full]:
        return []

    def count(self, start: Start, *, verified: bool) -> None:
        one, day, hour = Count(1, int(verified)), int(self.now // DAY), int(self.now // HOUR)
        for key in ((start.country, DAY, day), (start.country, HOUR, hour)):
            self._counts[key] = _sum([one, self._counts.get(key, Count())])
        if start.ip:
            found = self._networks.setdefault((start.names["ip"], day), {})
            found[start.country] = _sum([one, found.get(start.country, Count())])
        hours = self._prefixes.setdefault(prefix(start.msisdn), {})
        hours[hour] = _sum([one, hours.get(hour, Count())])

    def block(self, start: Start) -> None:
        name = prefix(start.msisdn)
        until, level = self._blocked.get(name, (0.0, 0))
        level = level + 1 if until > self.now - BLOCK_MEMORY else 0
        self._blocked[name] = (self.now + block_seconds(level), level)

    def prune(self) -> None:
        """What can be asked for no more; else a long file would not fit into memory."""
        day, hour = int(self.now // DAY), int(self.now // HOUR)
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket[1] > self.now}
        self._before.clear()
        self._networks = {key: found for key, found in self._networks.items() if key[1] >= day}
        recent = {name: {h: n for h, n in hours.items() if h > hour - 48} for name, hours in self._prefixes.items()}
        self._prefixes = {name: hours for name, hours in recent.items() if hours}


def _sum(counts: Iterable[Count]) -> Count:
    found = list(counts)
    return Count(sum(count.starts for count in found), sum(count.verified for count in found))


class _Policies:
    """Clients and their profiles as they are now; a client that is unknown here has the defaults."""

    def __init__(self) -> None:
        self._clients = dict(Client.objects.values_list("slug", "pk"))

    def find(self, slug: str, purpose: str) -> tuple[uuid.UUID, Policy]:
        client = self._clients.get(slug, uuid.UUID(int=0))
        table: Mapping[tuple[uuid.UUID, str, str], Policy] = profiles.profiles.get()
        return client, table.get((client, purpose, "")) or profiles.DEFAULTS.get(purpose) or Policy()


class _Prices:
    """What one segment would cost now by the cheapest provider, in the reporting currency."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Decimal | None] = {}

    def of(self, start: Start) -> Decimal | None:
        key = (start.country, prefix(start.msisdn))
        if key not in self._known:
            self._known[key] = _price(start)
        return self._known[key]


def _price(start: Start) -> Decimal | None:
    found = candidates(
        tables.get(),
        Board(),
        msisdn=start.msisdn,
        country=start.country,
        segments=1,
        message_class=MessageClass.OTP,
        client=start.slug,
        sender="",
        at=datetime.now(UTC),
    )
    return next((candidate.cost for candidate in found if candidate.usable), None)
