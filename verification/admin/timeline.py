"""The life of one challenge in the order of time: its messages, their attempts and receipts, and how it ended."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from messaging.admin.timeline import (
    LONGEST,
    Entry,
    attempt_entry,
    event_entry,
    filled,
    moment,
    plain,
    receipt_entry,
)
from messaging.models import Attempt, Event, Message, Receipt
from verification.fraud_models import Refused
from verification.models import Challenge
from verification.states import ChallengeStatus

NEARBY = timedelta(hours=1)  # refusals of the same number, before it began and after it ended
ICONS = {
    ChallengeStatus.VERIFIED: "check",
    ChallengeStatus.EXPIRED: "timer_off",
    ChallengeStatus.LOCKED: "lock",
    ChallengeStatus.CANCELLED: "close",
}
REASONS = {
    "client": "by its client",
    "staff": "by staff",
    "newer_start": "by a newer start",
    "too_many_failures": "too many wrong guesses for this number",
}


def build(challenge: Challenge, attempts: Sequence[Attempt]) -> list[Entry]:
    """`attempts` are those of `attempts_of`."""
    entries = [_started(challenge)]
    messages = list(Message.objects.filter(code__challenge=challenge).select_related("code").order_by("code__seq"))
    seq_of = {message.pk: message.code.seq for message in messages}
    entries += map(_message, messages)
    receipts = Receipt.objects.filter(attempt__in=attempts).select_related("provider", "attempt")
    for attempt in attempts:
        entries.append(_of(seq_of[attempt.message_id], attempt_entry(attempt)))
    for receipt in receipts.order_by("received_at")[:LONGEST]:
        if receipt.attempt:
            entries.append(_of(seq_of[receipt.attempt.message_id], receipt_entry(receipt)))
    entries += map(event_entry, Event.objects.filter(subject=challenge.reference).order_by("sequence")[:LONGEST])
    entries += _ended(challenge)
    entries += map(_refused, refusals_near(challenge))
    return sorted(entries, key=lambda entry: (entry.at, entry.order))


def refusals_near(challenge: Challenge) -> Iterable[Refused]:
    """Index refused_to."""
    until = (challenge.closed_at or challenge.expires_at) + NEARBY
    found = Refused.objects.filter(to=challenge.to, created_at__range=(challenge.created_at - NEARBY, until))
    return found.select_related("client").order_by("-pk")[:LONGEST]


def attempts_of(challenge: Challenge) -> list[Attempt]:
    found = Attempt.objects.filter(message__code__challenge=challenge).select_related("provider")
    return list(found.order_by("started_at", "pk")[:LONGEST])


def total(attempts: Iterable[Attempt]) -> str:
    """What all attempts took together, by currency."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for attempt in attempts:
        if attempt.cost:
            sums[attempt.currency] += attempt.cost
    return " + ".join(f"{plain(cost)} {currency}" for currency, cost in sorted(sums.items()))


def _of(seq: int, entry: Entry) -> Entry:
    return replace(entry, title=f"Message {seq}: {entry.title[:1].lower()}{entry.title[1:]}")


def _refused(refused: Refused) -> Entry:
    what = "Resend" if refused.reference else "Start"
    title = f"{what} would have been refused" if refused.monitored else f"{what} refused"
    facts = [("rule", refused.rule), ("why", refused.detail), ("client", str(refused.client))]
    return Entry(refused.created_at, "block", title, facts=filled([*facts, ("purpose", refused.purpose)]), order=3)


def _started(challenge: Challenge) -> Entry:
    facts = [
        ("purpose", challenge.purpose),
        ("profile", challenge.profile),
        ("code", f"{challenge.code_length} digits"),
        ("valid until", moment(challenge.expires_at)),
    ]
    return Entry(challenge.created_at, "login", f"Started by {challenge.client}", facts=filled(facts), order=-1)


def _message(message: Message) -> Entry:
    seq = message.code.seq
    facts = [
        ("segments", f"{message.segments} ({message.encoding})"),
        ("locale", message.locale),
        ("reason", message.error_code),
        ("id", str(message.pk)),
    ]
    return Entry(message.created_at, "sms", f"Message {seq}", message.status, filled(facts), order=0)


def _ended(challenge: Challenge) -> list[Entry]:
    found = []
    if challenge.closed_at:
        status = ChallengeStatus(challenge.status)
        facts = [
            ("reason", REASONS.get(challenge.reason, challenge.reason)),
            ("wrong guesses", str(challenge.checks)),
            ("after", f"{(challenge.closed_at - challenge.created_at).total_seconds():,.0f} s"),
        ]
        found.append(Entry(challenge.closed_at, ICONS[status], "Closed", status, filled(facts), order=4))
    if challenge.redeemed_at:
        facts = [("by", str(challenge.redeemed_by))]
        found.append(Entry(challenge.redeemed_at, "task_alt", "Result redeemed", facts=facts, order=5))
    return found
