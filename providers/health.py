"""The breaker: which providers the fleet leaves alone, and who may try them again.

A row per provider (country empty: connection and account faults) and per provider and country (the
rest); the stricter one counts. A breaker opens after BREAKER_FAILURES failures in a row, or when half
of at least 20 submits failed within 30 s, or at once on an account fault. Its pause doubles from
BREAKER_SECONDS to ten minutes. When the pause is over one message of the whole fleet is the probe.
"""

import random
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from providers.models import ProviderHealth
from providers.sql import now, rows

WINDOW = timedelta(seconds=30)
WINDOW_MINIMUM = 20
LONGEST_PAUSE = 600.0  # seconds
PROBE_TIMEOUT = 60.0  # seconds until another message may probe in place of one that never reported
BOARD_MAX_AGE = 0.25  # seconds

Key = tuple[int, str]  # provider id, country ("" = all)
State = ProviderHealth.State


@dataclass(frozen=True, slots=True)
class Fact:
    """One submit as health sees it. `wide`: the fault is of the connection or the account, not of a country."""

    provider_id: int
    country: str
    failed: bool
    started_at: datetime
    wide: bool = False
    account: bool = False
    code: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    provider_id: int
    country: str
    state: str
    reason: str


@dataclass(slots=True)
class _Tally:
    succeeded: int = 0
    failed: int = 0
    account: bool = False
    code: str = ""
    last_success: datetime | None = None
    last_failure: datetime | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """The breakers that are not in perfect order, as read at most BOARD_MAX_AGE seconds ago."""

    marked: frozenset[Key] = field(default_factory=frozenset)
    open: Mapping[Key, str] = field(default_factory=dict)  # -> reason
    probe_due: frozenset[Key] = field(default_factory=frozenset)

    def blocked(self, provider_id: int, country: str) -> str:
        """Why this provider is left alone for this country, "" when it is not."""
        return self.open.get((provider_id, "")) or self.open.get((provider_id, country)) or ""

    def may_probe(self, provider_id: int, country: str) -> bool:
        """Worth asking `win_probe`, which decides."""
        keys = {(provider_id, ""), (provider_id, country)} & self.open.keys()
        return keys <= self.probe_due


_board = Board()
_board_read_at = float("-inf")
_board_lock = threading.Lock()


def board(*, fresh: bool = False) -> Board:
    global _board, _board_read_at
    with _board_lock:
        if fresh or time.monotonic() - _board_read_at > BOARD_MAX_AGE:
            found = rows("""
                SELECT provider_id, country, state, reason, coalesce(probe_at, '-infinity') <= clock_timestamp()
                FROM providers_providerhealth WHERE state <> 'closed' OR failures > 0 OR window_failed > 0
            """)
            _board = Board(
                marked=frozenset((provider, country) for provider, country, *_ in found),
                open={(p, c): reason or "open" for p, c, state, reason, _ in found if state != State.CLOSED},
                probe_due=frozenset((p, c) for p, c, _, _, due in found if due),
            )
            _board_read_at = time.monotonic()
        return _board


def record(facts: Iterable[Fact]) -> list[Transition]:
    """Counts what happened and moves the breakers; returns the moves, for the caller to announce.

    A success where all was well before writes nothing: the common case costs no statement.
    """
    tallies = _tally(facts, board())
    if not tallies:
        return []
    with transaction.atomic():
        ProviderHealth.objects.bulk_create(
            [ProviderHealth(provider_id=p, country=c) for p, c in sorted(tallies)], ignore_conflicts=True
        )
        at = now()
        locked = (
            ProviderHealth.objects.select_for_update()
            .filter(provider_id__in={p for p, _ in tallies}, country__in={c for _, c in tallies})
            .order_by("provider_id", "country")
        )
        moves = []
        for row in locked:
            tally = tallies.get((row.provider_id, row.country))
            if tally is None:
                continue
            before = row.state
            _apply(row, tally, at)
            row.save()
            if row.state != before:
                moves.append(Transition(row.provider_id, row.country, row.state, row.reason))
    board(fresh=True)
    return moves


def win_probe(provider_id: int, country: str) -> bool:
    """True for the one message in the fleet that may try a provider whose pause is over."""
    return _win(provider_id, country, "probe_at", f"state = 'half_open', probe_at = {_in(PROBE_TIMEOUT)}")


def give_back(provider_id: int, country: str, *, wait: float = 0.0) -> None:
    """The probe proved nothing: another message may be the probe, in `wait` seconds, PROBE_TIMEOUT at most."""
    rows(
        """
        UPDATE providers_providerhealth SET probe_at = clock_timestamp() + %(wait)s * interval '1 second'
        WHERE provider_id = %(provider)s AND country IN ('', %(country)s) AND state = 'half_open'""",
        {"provider": provider_id, "country": country, "wait": min(wait, PROBE_TIMEOUT)},
    )


def win_panic(provider_id: int, country: str) -> bool:
    """True once a second: where every breaker is open the best provider is tried all the same."""
    return _win(provider_id, country, "panic_at", f"panic_at = {_in(1.0)}")


def close(provider_id: int) -> None:
    """Staff say that it works again."""
    ProviderHealth.objects.filter(provider_id=provider_id).update(
        state=State.CLOSED, failures=0, window_total=0, window_failed=0, openings=0, reason="", probe_at=None
    )


def _in(seconds: float) -> str:
    return f"clock_timestamp() + interval '{seconds:g} seconds'"


def _win(provider_id: int, country: str, due: str, change: str) -> bool:
    won = rows(
        f"""
        UPDATE providers_providerhealth h SET {change}
        WHERE h.provider_id = %(provider)s AND h.country IN ('', %(country)s) AND h.state <> 'closed'
          AND coalesce(h.{due}, '-infinity') <= clock_timestamp()
          AND NOT EXISTS (SELECT FROM providers_providerhealth o
            WHERE o.provider_id = h.provider_id AND o.country IN ('', %(country)s) AND o.state <> 'closed'
              AND coalesce(o.{due}, '-infinity') > clock_timestamp())
        RETURNING h.id""",  # noqa: S608  both fragments are literals of this module
        {"provider": provider_id, "country": country},
    )
    return bool(won)


def _tally(facts: Iterable[Fact], known: Board) -> dict[Key, _Tally]:
    tallies: dict[Key, _Tally] = {}
    for fact in facts:
        if fact.failed:
            keys: tuple[Key, ...] = ((fact.provider_id, "" if fact.wide else fact.country),)
        else:
            keys = ((fact.provider_id, ""), (fact.provider_id, fact.country))
        for key in keys:
            tally = tallies.setdefault(key, _Tally())
            if fact.failed:
                tally.failed += 1
                tally.account |= fact.account
                tally.code = fact.code
                tally.last_failure = max(tally.last_failure or fact.started_at, fact.started_at)
            else:
                tally.succeeded += 1
                tally.last_success = max(tally.last_success or fact.started_at, fact.started_at)
    return {key: tally for key, tally in tallies.items() if tally.failed or key in known.marked}


def _apply(row: ProviderHealth, tally: _Tally, now: datetime) -> None:
    if row.window_start is None or now - row.window_start > WINDOW:
        row.window_start, row.window_total, row.window_failed = now, 0, 0
    row.window_total += tally.succeeded + tally.failed
    row.window_failed += tally.failed
    row.failures = 0 if tally.succeeded else row.failures + tally.failed
    if row.state == State.CLOSED:
        half_failed = row.window_total >= WINDOW_MINIMUM and row.window_failed * 2 >= row.window_total
        if tally.account or row.failures >= settings.BREAKER_FAILURES or half_failed:
            _open(row, tally.code, now)
        return
    # Only what was started after the opening is news; stragglers from before say nothing.
    opened_at = row.opened_at or now
    if tally.last_success and tally.last_success > opened_at:
        row.state, row.openings, row.reason, row.failures = State.CLOSED, 0, "", 0
        row.window_total = row.window_failed = 0
    elif row.state == State.HALF_OPEN and tally.last_failure and tally.last_failure > opened_at:
        _open(row, tally.code, now)


def _open(row: ProviderHealth, code: str, now: datetime) -> None:
    pause = min(settings.BREAKER_SECONDS * 2**row.openings, LONGEST_PAUSE)
    row.state, row.reason, row.opened_at = State.OPEN, code, now
    row.openings = min(row.openings + 1, 16)
    row.probe_at = now + timedelta(seconds=pause * random.uniform(0.8, 1.2))


def forget() -> None:
    """The next look at the board reads it anew."""
    global _board_read_at
    _board_read_at = float("-inf")
