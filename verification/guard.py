"""May this start cost money? What is refused is on record, with its reason, and so is what is only noted."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from messaging.clients import Caller
from providers.sql import records, rows
from routing.snapshot import tables
from verification import countries, evidence, limits
from verification.drafts import StartDraft
from verification.errors import DestinationBlocked, LimitReached, Recorded
from verification.fraud_models import Block, BlockKind, Mode
from verification.profiles import Policy
from verification.records import Row
from verification.rules import Finding, Start, decided, findings

log = logging.getLogger(__name__)

REFUSALS = (LimitReached, DestinationBlocked)
ALARM = Decimal("0.8")  # of a cap
# What a refusal on record can be for.
RULES = (
    *("profile_country", "number_type", "country"),
    *(f"blocked_{kind}" for kind in BlockKind),
    *("prefix_blocked", "prefix_ratio", "country_day", "country_hour", "ip_day", "ip_countries"),
    *("limit_number", "limit_prefix", "limit_ip", "limit_device", "limit_failed", "limit_failed_row"),
    *("spend_cap", "resend_too_early", "no_sends_left"),
)


@dataclass(frozen=True, slots=True)
class Note:
    start: Start
    rule: str
    detail: str


@contextmanager
def recorded() -> Iterator[None]:
    """Stores why a start or a resend was refused, after its transaction was rolled back."""
    try:
        yield
    except Recorded as refusal:
        if isinstance(refusal.note, Note):
            with transaction.atomic():
                _store([refusal.note], monitored=False)
                if refusal.note.rule == "prefix_ratio":
                    evidence.block(refusal.note.start, refusal.note.detail)
        raise


def told(refusal: Recorded, start: Start, rule: str) -> Recorded:
    """The refusal with what it is about."""
    refusal.note = Note(start, rule, refusal.detail or refusal.title)
    return refusal


def of_draft(caller: Caller, draft: StartDraft) -> Start:
    return Start(caller.id, caller.slug, draft.purpose, draft.msisdn, draft.country, draft.ip, draft.device)


def of_challenge(caller: Caller, challenge: Row) -> Start:
    return Start(
        caller.id,
        caller.slug,
        challenge.purpose,
        challenge.to,
        challenge.country,
        challenge.ip,
        challenge.device,
        challenge.reference,
    )


def admit(caller: Caller, draft: StartDraft, policy: Policy) -> None:
    """Counts a start against its limits, and judges it.

    Raises DestinationBlocked, LimitReached; then nothing is counted, since the transaction rolls back.
    """
    if draft.msisdn in settings.VERIFY_TEST_NUMBERS:
        return
    start = of_draft(caller, draft)
    mode = countries.mode(caller.id, draft.country)
    notes = []
    for finding in findings(start, policy, mode, evidence.Database()):
        if finding.hard or not _monitors(policy, mode):
            raise told(_refusal(finding), start, finding.rule)
        notes.append(Note(start, finding.rule, finding.detail))
    _store(notes, monitored=True)


def admit_again(caller: Caller, challenge: Row, policy: Policy) -> None:
    """Judges a resend by what people have decided since its start. Raises DestinationBlocked."""
    if challenge.to in settings.VERIFY_TEST_NUMBERS:
        return
    start = of_challenge(caller, challenge)
    mode = countries.mode(caller.id, challenge.country)
    for finding in decided(start, policy, mode, evidence.Database()):
        raise told(_refusal(finding), start, finding.rule)


def spend(caller: Caller, challenge: Row, cost: Decimal, currency: str, policy: Policy) -> None:
    """Counts the expected cost of a message against the cap of the UTC day. Raises LimitReached."""
    now = datetime.now(UTC)
    cap = countries.cap(caller.id, challenge.country, now)
    if cap is None:
        return
    # A message whose price has no exchange rate has no route.
    amount = tables.get().reporting(cost, currency, now) or Decimal(0)
    limit = limits.of_spend(caller.slug, challenge.country, amount.quantize(Decimal("0.000001")), cap)
    counted = limits.count([limit])
    used = counted.get(limit.key)
    if used is not None:
        if used - amount < ALARM * cap <= used:
            transaction.on_commit(partial(_alarm, caller.slug, challenge.country))
        return
    start = of_challenge(caller, challenge)
    if evidence.trusted(start):
        return
    (full,) = limits.missed([limit], counted)
    finding = Finding("spend_cap", f"The cap of the day for {challenge.country} is used up.", seconds=full.seconds)
    if not _monitors(policy, countries.mode(caller.id, challenge.country)):
        raise told(_refusal(finding), start, finding.rule)
    _store([Note(start, finding.rule, finding.detail)], monitored=True)


def lift(blocks: Iterable[int], user: int | None) -> int:
    """Ends blocks, from the next start on; those that are over stay as they are. Returns how many it ended."""
    return Block.objects.filter(holding(), pk__in=blocks).update(lifted_at=Now(), lifted_by_id=user)


def holding() -> Q:
    """Blocks that are neither lifted nor over."""
    return Q(lifted_at=None) & (Q(expires_at=None) | Q(expires_at__gt=Now()))


def _alarm(client: str, country: str) -> None:
    log.warning("80 percent of a daily spend cap are used up", extra={"client": client, "country": country})


def _monitors(policy: Policy, mode: str) -> bool:
    return policy.monitor_only or mode == Mode.MONITOR


def _refusal(finding: Finding) -> Recorded:
    if finding.seconds is None:
        return DestinationBlocked(finding.detail)
    return LimitReached(finding.detail, retry_after=max(1, math.ceil(finding.seconds)))


def _store(notes: Sequence[Note], *, monitored: bool) -> None:
    if not notes:
        return
    rows(
        """
        INSERT INTO verification_refused (client_id, purpose, reference, "to", country, rule, detail, monitored,
          created_at)
        SELECT client, purpose, reference, "to", country, rule, detail, %(monitored)s, clock_timestamp()
        FROM jsonb_to_recordset(%(rows)s::jsonb)
          AS r(client uuid, purpose text, reference text, "to" text, country text, rule text, detail text)""",
        {
            "monitored": monitored,
            "rows": records(
                {
                    "client": note.start.client,
                    "purpose": note.start.purpose,
                    "reference": note.start.reference,
                    "to": note.start.msisdn,
                    "country": note.start.country,
                    "rule": note.rule,
                    "detail": note.detail[:200],
                }
                for note in notes
            ),
        },
    )
