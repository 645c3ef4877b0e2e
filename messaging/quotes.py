"""What would a message cost, and who would carry it right now? Nothing is stored."""

from datetime import UTC, datetime
from typing import Any

from messaging import drafts
from messaging.clients import Caller
from providers import health
from routing import encoding
from routing.lcr import Candidate, candidates
from routing.snapshot import tables


def quote(caller: Caller, data: Any) -> dict[str, Any]:
    """Every provider in the order in which a message would be offered to them, refused ones last with the reason.

    Raises InvalidRequest. A destination that nobody carries is an answer as well: every candidate has a reason.
    """
    draft = drafts.read_quote(data)
    measured = encoding.measure(draft.text)
    found = candidates(
        tables.get(),
        health.board(),
        msisdn=draft.msisdn,
        country=draft.country,
        segments=measured.segments,
        message_class=draft.message_class,
        client=caller.slug,
        sender=draft.sender or caller.sender,
        at=datetime.now(UTC),
    )
    return {
        "country": draft.country,
        "encoding": measured.name,
        "segments": measured.segments,
        "candidates": [_candidate(candidate) for candidate in found],
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    told = {
        "provider": candidate.slug,
        "price": None if candidate.price is None else str(candidate.price),
        "currency": candidate.currency,
        "total": None if candidate.total is None else str(candidate.total),
    }
    if reason := candidate.reason or (candidate.blocked and "breaker_open"):
        told["reason"] = reason
    return told
