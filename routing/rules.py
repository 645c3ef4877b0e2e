"""What staff have decided beside the price: the rules and sender registrations that a message meets.

All rules that match count together. A bar is stronger than a pin; several pins allow each of their providers; of
several ceilings the lowest holds. Preferred providers come first, ordered by price among themselves; where weights
match, one of those providers is drawn for the first place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time

from routing.networks import Network
from routing.order_models import Rule, SenderRegistration
from routing.prices import MICRO

COST = 10**12  # costs in the reporting currency are whole numbers of its 10^-12
ALL = 0  # stands for every provider


@dataclass(frozen=True, slots=True)
class Condition:
    """One rule. Empty means: any."""

    name: str
    action: str
    provider_id: int
    weight: int = 0
    ceiling: int | None = None  # of a segment, in the reporting currency
    client: str = ""
    message_class: str = ""
    country: str = ""
    mcc: str = ""
    mnc: str = ""
    sender: str = ""
    begins: time | None = None
    ends: time | None = None

    def matches(self, client: str, message_class: str, country: str, sender: str) -> bool:
        return (
            self.country in ("", country)
            and self.client in ("", client)
            and self.message_class in ("", message_class)
            and self.sender in ("", sender)
        )

    def holds(self, network: Network, at: time) -> bool:
        if self.mcc and (self.mcc != network.mcc or self.mnc not in ("", network.mnc)):
            return False
        if self.begins is None or self.ends is None:
            return True
        if self.begins < self.ends:
            return self.begins <= at < self.ends
        return at >= self.begins or at < self.ends


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the matching rules say together."""

    barred: frozenset[int] = frozenset()
    pinned: frozenset[int] = frozenset()
    preferred: frozenset[int] = frozenset()
    weights: Mapping[int, int] = field(default_factory=dict)
    ceilings: Mapping[int, int] = field(default_factory=dict)  # provider, or ALL -> the most that a segment may cost
    names: tuple[str, ...] = ()

    def refuses(self, provider_id: int) -> str:
        if provider_id in self.barred:
            return "barred"
        return "not_pinned" if self.pinned and provider_id not in self.pinned else ""

    def ceiling(self, provider_id: int) -> int | None:
        """Of one segment."""
        found = [self.ceilings[who] for who in (ALL, provider_id) if who in self.ceilings]
        return min(found) if found else None


NONE = Wishes()


def wishes(
    conditions: Sequence[Condition],
    *,
    client: str,
    message_class: str,
    country: str,
    sender: str,
    network: Network,
    at: datetime,
) -> Wishes:
    clock = at.astimezone(UTC).time()
    found = [
        one for one in conditions if one.matches(client, message_class, country, sender) and one.holds(network, clock)
    ]
    if not found:
        return NONE
    ceilings: dict[int, int] = {}
    for one in found:
        if one.action == "ceiling" and one.ceiling is not None:
            ceilings[one.provider_id] = min(one.ceiling, ceilings.get(one.provider_id, one.ceiling))
    return Wishes(
        barred=_of(found, "bar"),
        pinned=_of(found, "pin"),
        preferred=_of(found, "prefer"),
        weights={one.provider_id: one.weight for one in found if one.action == "weight"},
        ceilings=ceilings,
        names=tuple(one.name for one in found),
    )


def _of(found: Iterable[Condition], action: str) -> frozenset[int]:
    return frozenset(one.provider_id for one in found if one.action == action)


def read_rules() -> tuple[Condition, ...]:
    return tuple(
        Condition(
            name=row.name,
            action=row.action,
            provider_id=row.provider_id or ALL,
            weight=row.weight or 0,
            ceiling=None if row.ceiling is None else int(row.ceiling * MICRO) * (COST // MICRO),
            client=row.client,
            message_class=row.message_class,
            country=row.country,
            mcc=row.mcc,
            mnc=row.mnc,
            sender=row.sender,
            begins=row.begins,
            ends=row.ends,
        )
        for row in Rule.objects.filter(enabled=True)
    )


# --- sender registrations -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    state: str
    expires_at: datetime | None

    def refuses(self, at: datetime) -> str:
        if self.state != SenderRegistration.State.APPROVED:
            return f"sender_{self.state}"
        return "sender_expired" if self.expires_at is not None and self.expires_at <= at else ""


Registrations = Mapping[tuple[int, str], Mapping[str, Registration]]  # (provider, country) -> sender -> registration


def read_registrations() -> Registrations:
    found: dict[tuple[int, str], dict[str, Registration]] = {}
    for row in SenderRegistration.objects.all():
        by_sender = found.setdefault((row.provider_id, row.country), {})
        by_sender[row.sender] = Registration(row.state, row.expires_at)
    return found


def sender_refused(registrations: Registrations, provider_id: int, country: str, sender: str, at: datetime) -> str:
    """Why this sender may not be used there, "" where it may: also wherever nothing is registered at all."""
    there = registrations.get((provider_id, country))
    if there is None:
        return ""
    one = there.get(sender)
    return "sender_not_registered" if one is None else one.refuses(at)
