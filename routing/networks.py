"""Which mobile network does a number belong to? What a provider has seen lately, else the prefix, else unknown.

A prefix tells the network that the range was given to: where people take their number along to another one
(portability), only a provider's word is right, and it ages. What is remembered of it is keyed with NETWORKS_KEY:
the table names no number, and without the key nobody can try them all.
"""

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from django.conf import settings

from providers.snapshots import Snapshot
from providers.sql import in_groups, records, rows
from routing.order_models import Network as NetworkRow
from routing.order_models import NetworkPrefix

GROUP = 5000


class Network(NamedTuple):
    mcc: str = ""
    mnc: str = ""

    def __str__(self) -> str:
        return f"{self.mcc}-{self.mnc}" if self.mcc else "unknown"


UNKNOWN = Network()


@dataclass(frozen=True, slots=True)
class Seen:
    """A provider's word about where a number is."""

    msisdn: str
    mcc: str
    mnc: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The prefixes of networks, and the networks' names."""

    prefixes: Mapping[str, Network]
    lengths: tuple[int, ...]  # that occur, the longest first
    names: Mapping[tuple[str, str], str]

    def of(self, msisdn: str) -> Network:
        digits = msisdn[1:]
        for length in self.lengths:
            found = self.prefixes.get(digits[:length])
            if found is not None:
                return found
        return UNKNOWN

    def name(self, network: Network) -> str:
        return self.names.get((network.mcc, network.mnc), "")


def _load() -> Plan:
    prefixes = {prefix: Network(*of) for prefix, *of in NetworkPrefix.objects.values_list("prefix", "mcc", "mnc")}
    names: dict[tuple[str, str], str] = {}
    for mcc, mnc, name in NetworkRow.objects.values_list("mcc", "mnc", "name"):
        names.setdefault((mcc, mnc), name)
    return Plan(prefixes, tuple(sorted(set(map(len, prefixes)), reverse=True)), names)


plan: Snapshot[Plan] = Snapshot(("networks",), _load)


def resolve(msisdns: Collection[str]) -> dict[str, Network]:
    """The network of each number, as far as it is known: one query for all that were seen."""
    found = plan.get()
    seen = _seen(msisdns)
    return {msisdn: seen.get(msisdn) or found.of(msisdn) for msisdn in msisdns}


def key(msisdn: str) -> bytes:
    """What stands for a number in the table of sightings; empty where none are kept."""
    if not settings.NETWORKS_KEY:
        return b""
    return hmac.digest(settings.NETWORKS_KEY.encode(), msisdn.encode(), hashlib.sha256)[:16]


def remember(sightings: Iterable[Seen]) -> None:
    """Keeps the latest word about each number, in the caller's transaction. Nothing where there is no NETWORKS_KEY."""
    found = {one.msisdn: one for one in sightings if settings.NETWORKS_KEY and one.mcc and one.mnc}
    values = sorted(({"key": key(m).hex(), "mcc": one.mcc, "mnc": one.mnc} for m, one in found.items()), key=_by_key)
    if values:
        rows(_REMEMBER, {"rows": records(values)})


def _by_key(value: Mapping[str, str]) -> str:
    return value["key"]  # rows are locked in one order: no two can deadlock


_REMEMBER = """
INSERT INTO routing_networksighting AS s (key, mcc, mnc, seen_at)
SELECT decode(r.key, 'hex'), r.mcc, r.mnc, clock_timestamp()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(key text, mcc text, mnc text)
ON CONFLICT (key) DO UPDATE SET mcc = excluded.mcc, mnc = excluded.mnc, seen_at = excluded.seen_at
"""


def _seen(msisdns: Collection[str]) -> dict[str, Network]:
    if not settings.NETWORKS_KEY or not msisdns:
        return {}
    keys = {key(msisdn): msisdn for msisdn in msisdns}
    found = rows(
        """
        SELECT key, mcc, mnc FROM routing_networksighting
        WHERE key = ANY(%(keys)s) AND seen_at > statement_timestamp() - %(days)s * interval '1 day'""",
        {"keys": list(keys), "days": settings.NETWORKS_MAX_AGE},
    )
    return {keys[bytes(one)]: Network(mcc, mnc) for one, mcc, mnc in found}


def purge() -> None:
    """Forgets sightings that are too old to count."""
    statement = """
        DELETE FROM routing_networksighting WHERE id IN (SELECT id FROM routing_networksighting
          WHERE seen_at < statement_timestamp() - %(days)s * interval '1 day' LIMIT %(group)s FOR UPDATE SKIP LOCKED)
        RETURNING 1"""
    params = {"days": settings.NETWORKS_MAX_AGE, "group": GROUP}
    in_groups(lambda: len(rows(statement, params)), GROUP)
