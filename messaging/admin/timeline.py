"""The life of one message in the order of time, from its rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from messaging.models import Attempt, Event, Message, Receipt
from messaging.states import Status
from providers.pages import COLOUR_OF

LONGEST = 200  # rows of a kind: more than any healthy message has


@dataclass(frozen=True, slots=True)
class Entry:
    """`facts` are pairs of words; `candidates` is a routing decision."""

    at: datetime
    icon: str
    title: str
    status: str = ""
    facts: list[tuple[str, Any]] = field(default_factory=list)
    candidates: list[Mapping[str, str]] = field(default_factory=list)
    order: int = 0  # of what carries the same time

    @property
    def words(self) -> str:
        return self.status.replace("_", " ")

    @property
    def colour(self) -> str:
        return COLOUR_OF.get(self.status, "")


def build(message: Message) -> list[Entry]:
    attempts = list(message.attempts.select_related("provider").order_by("seq")[:LONGEST])
    receipts = Receipt.objects.filter(attempt__in=attempts).select_related("provider", "attempt")
    events = Event.objects.filter(subject=str(message.pk)).order_by("sequence")
    entries = [_accepted(message)]
    entries += _decision(message, attempts)
    entries += map(attempt_entry, attempts)
    entries += map(receipt_entry, receipts.order_by("received_at")[:LONGEST])
    entries += map(event_entry, events[:LONGEST])
    return sorted(entries, key=lambda entry: (entry.at, entry.order))


def _accepted(message: Message) -> Entry:
    estimate = f"{plain(message.estimated_cost)} {message.currency}" if message.estimated_cost is not None else ""
    facts = [
        ("class", message.message_class),
        ("segments", f"{message.segments} ({message.encoding})"),
        ("estimated cost", estimate),
        ("valid until", moment(message.expires_at)),
    ]
    return Entry(message.created_at, "login", f"Accepted from {message.client}", facts=filled(facts), order=0)


def _decision(message: Message, attempts: list[Attempt]) -> list[Entry]:
    """Only the last decision is kept. It belongs to the last attempt, or says why the message waits."""
    if not message.decision:
        return []
    chosen = next((row for row in message.decision if row.get("chosen")), None)
    waiting = chosen is None and message.status in (Status.QUEUED, Status.SCHEDULED)
    at = message.created_at
    if attempts:
        at = (attempts[-1].finished_at if waiting else None) or attempts[-1].started_at
    title = f"Routed to {chosen['provider']} ({chosen['chosen']})" if chosen else "No provider now"
    facts = [("due again", moment(message.not_before))] if waiting else []
    return [Entry(at, "alt_route", title, facts=facts, candidates=message.decision, order=1 if not waiting else 5)]


def attempt_entry(attempt: Attempt) -> Entry:
    facts = [
        ("reason", " ".join(filter(None, (attempt.error_code, attempt.error_detail)))),
        ("price per segment", f"{plain(attempt.price)} {attempt.currency}" if attempt.price is not None else ""),
        ("cost", cost(attempt)),
        ("took", _took(attempt)),
        ("provider's reference", attempt.provider_reference),
        ("our reference", attempt.our_reference.hex),
        ("next look-up", moment(attempt.resolve_at)),
    ]
    title = f"Attempt {attempt.seq} by {attempt.provider}"
    return Entry(attempt.started_at, "send", title, attempt.status, filled(facts), order=2)


def receipt_entry(receipt: Receipt) -> Entry:
    facts = [
        ("provider's word", receipt.provider_status),
        ("reason", receipt.error_code),
        ("cost", f"{plain(receipt.cost)} {receipt.currency}" if receipt.cost is not None else ""),
        ("happened", moment(receipt.occurred_at)),
        ("applied", moment(receipt.applied_at) or "not yet"),
    ]
    seq = f" for attempt {receipt.attempt.seq}" if receipt.attempt else ""
    title = f"Receipt of {receipt.provider}{seq}"
    return Entry(receipt.received_at, "receipt_long", title, receipt.status, filled(facts), order=3)


def event_entry(event: Event) -> Entry:
    facts = [("sequence", event.sequence), ("published", moment(event.published_at) or "not yet")]
    return Entry(event.created_at, "bolt", f"Event {event.type}", facts=facts, order=4)


def _took(attempt: Attempt) -> str:
    if attempt.finished_at is None:
        return ""
    milliseconds = (attempt.finished_at - attempt.started_at).total_seconds() * 1000
    return f"{milliseconds:,.0f} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:,.0f} s"


def filled(facts: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in facts if value not in ("", None)]


def cost(attempt: Attempt) -> str:
    """What it took; nothing where nothing was sent."""
    return "" if attempt.cost is None else f"{plain(attempt.cost)} {attempt.currency}"


def moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}" if at else ""


def plain(amount: Any) -> str:
    """0.045000 is 0.045."""
    return f"{amount:f}".rstrip("0").rstrip(".") if "." in f"{amount:f}" else f"{amount:f}"
