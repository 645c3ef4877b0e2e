"""Rows as the API shows them."""

from datetime import datetime
from typing import Any

from messaging.models import Attempt, Message, rfc3339
from routing.prices import plain


def message_body(message: Message) -> dict[str, Any]:
    """With its attempts in their order: the query prefetches them."""
    return {
        "id": str(message.id),
        "status": message.status,
        "to": message.to,
        "class": message.message_class,
        "country": message.country,
        "sender": message.sender,
        "encoding": message.encoding,
        "segments": message.segments,
        "estimated_cost": {"amount": str(message.estimated_cost), "currency": message.currency},
        "max_price": None if message.max_price is None else plain(message.max_price),
        "reference": message.reference,
        "metadata": message.metadata,
        "error_code": message.error_code,
        "possible_duplicate": message.possible_duplicate,
        "receipt_overdue": message.receipt_overdue,
        "created_at": moment(message.created_at),
        "expires_at": moment(message.expires_at),
        "sent_at": moment(message.sent_at),
        "closed_at": moment(message.closed_at),
        "attempts": [attempt_body(attempt) for attempt in message.attempts.all()],
    }


def attempt_body(attempt: Attempt) -> dict[str, Any]:
    return {
        "provider": attempt.provider.slug,
        "status": attempt.status,
        "error_code": attempt.error_code,
        "receipt_status": attempt.receipt_status,
        "price": None if attempt.price is None else str(attempt.price),
        "cost": None if attempt.cost is None else str(attempt.cost),
        "currency": attempt.currency,
        "segments": attempt.segments,
        "started_at": moment(attempt.started_at),
        "finished_at": moment(attempt.finished_at),
    }


def moment(value: datetime | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    return rfc3339(value) if value else None
