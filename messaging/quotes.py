"""What would a message cost, and who would carry it right now? Nothing is stored."""

from typing import Any

from messaging import drafts
from messaging.clients import Caller
from messaging.explain import Explained, Transliteration, explain, reason
from routing.lcr import Candidate


def quote(caller: Caller, data: Any) -> dict[str, Any]:
    """Every provider in the order in which a message would be offered to them, refused ones last with the reason.

    Raises InvalidRequest. A destination that nobody carries is an answer as well: every candidate has a reason.
    """
    draft = drafts.read_quote(data)
    return _body(
        explain(
            msisdn=draft.msisdn,
            country=draft.country,
            text=draft.text,
            message_class=draft.message_class,
            client=caller.slug,
            sender=draft.sender or caller.sender,
            level=caller.transliteration,
            max_price=draft.max_price,
        )
    )


def _body(found: Explained) -> dict[str, Any]:
    return {
        "country": found.country,
        "network": str(found.network) if found.network.mcc else None,
        "encoding": found.encoding,
        "segments": found.segments,
        "transliteration": _transliteration(found.transliteration),
        "rules": list(found.rules),
        "chosen": found.chosen.slug if found.chosen else None,
        "candidates": [_candidate(candidate) for candidate in found.candidates],
    }


def _transliteration(found: Transliteration | None) -> dict[str, Any] | None:
    if found is None:
        return None
    segments = {"segments_before": found.before, "segments_after": found.after}
    return {"level": found.level, "applied": found.applied, **segments}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    told = {
        "provider": candidate.slug,
        "price": None if candidate.price is None else str(candidate.price),
        "currency": candidate.currency,
        "total": None if candidate.total is None else str(candidate.total),
    }
    if candidate.quote is not None:
        told["by"] = candidate.by
    if why := reason(candidate):
        told["reason"] = why
    return told
