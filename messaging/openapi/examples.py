"""Requests and answers as they are: tests send the requests and compare the answers."""

from typing import Any

REQUEST: dict[str, Any] = {
    "to": "+380671234567",
    "text": "Your transfer of 100.00 EUR has arrived.",
    "sender": "MEXAR",
    "reference": "order-4711",
    "metadata": {"corridor": "PL-UA"},
}
LATER: dict[str, Any] = {
    "to": "+380671234567",
    "text": "Your rate ends today at 18:00.",
    "class": "bulk",
    "send_at": "2026-11-23T09:00:00+02:00",
    "validity_seconds": 28800,
}
TEMPLATE: dict[str, Any] = {
    "to": "+380671234567",
    "template": "transfer-arrived",
    "params": {"amount": "100.00 EUR"},
    "locale": "uk",
}
ACCEPTED: dict[str, Any] = {
    "id": "01a20410-8529-7221-9a27-27e3aec8a03c",
    "status": "queued",
    "to": "+380671234567",
    "class": "transactional",
    "country": "UA",
    "sender": "MEXAR",
    "encoding": "gsm7",
    "segments": 1,
    "estimated_cost": {"amount": "0.040000", "currency": "EUR"},
    "max_price": None,
    "reference": "order-4711",
    "metadata": {"corridor": "PL-UA"},
    "possible_duplicate": False,
    "created_at": "2026-11-22T16:22:01.258Z",
    "expires_at": "2026-11-22T20:22:01.258Z",
}
BATCH_REQUEST: dict[str, Any] = {
    "messages": [
        {"to": "+380671234567", "text": "Your transfer has arrived.", "class": "bulk"},
        {"to": "+380671234568", "text": ""},
    ]
}
EMPTY_TEXT: dict[str, Any] = {
    "type": "about:blank",
    "title": "Some fields are not valid",
    "status": 422,
    "code": "validation_failed",
    "errors": [{"field": "text", "code": "empty", "message": "The text must not be empty."}],
}
BATCH: dict[str, Any] = {
    "accepted": 1,
    "rejected": 1,
    "results": [
        {"index": 0, "id": "01a20410-8529-7221-9a27-27e3aec8a03c"},
        {"index": 1, "error": EMPTY_TEXT},
    ],
}
FIRST_ATTEMPT: dict[str, Any] = {
    "provider": "carrier-a",
    "status": "not_sent",
    "error_code": "connection_refused",
    "receipt_status": "",
    "price": "0.040000",
    "cost": None,
    "currency": "EUR",
    "segments": 1,
    "started_at": "2026-11-22T16:22:01.264Z",
    "finished_at": "2026-11-22T16:22:01.268Z",
}
SECOND_ATTEMPT: dict[str, Any] = {
    "provider": "carrier-b",
    "status": "delivered",
    "error_code": "",
    "receipt_status": "delivered",
    "price": "0.050000",
    "cost": "0.050000",
    "currency": "EUR",
    "segments": 1,
    "started_at": "2026-11-22T16:22:01.270Z",
    "finished_at": "2026-11-22T16:22:01.276Z",
}
MESSAGE: dict[str, Any] = ACCEPTED | {
    "status": "delivered",
    "error_code": "",
    "receipt_overdue": False,
    "sent_at": "2026-11-22T16:22:01.276Z",
    "closed_at": "2026-11-22T16:22:02.176Z",
    "attempts": [FIRST_ATTEMPT, SECOND_ATTEMPT],
}
CANCELLED: dict[str, Any] = MESSAGE | {
    "status": "cancelled",
    "sent_at": None,
    "closed_at": "2026-11-22T16:22:01.401Z",
    "attempts": [],
}
MESSAGES: dict[str, Any] = {"results": [MESSAGE], "next_cursor": "AaIEEIUpciGaJyfjrsigPA"}
QUOTE_REQUEST: dict[str, Any] = {"to": "+380671234567", "text": "Your transfer has arrived."}
QUOTE: dict[str, Any] = {
    "country": "UA",
    "network": None,
    "encoding": "gsm7",
    "segments": 1,
    "transliteration": None,
    "rules": [],
    "chosen": "carrier-b",
    "candidates": [
        {"provider": "carrier-b", "price": "0.050000", "currency": "EUR", "total": "0.050000", "by": "country UA"},
        {
            "provider": "carrier-a",
            "price": "0.040000",
            "currency": "EUR",
            "total": "0.040000",
            "by": "country UA",
            "reason": "breaker_open",
        },
        {"provider": "carrier-c", "price": None, "currency": "", "total": None, "reason": "no_price"},
    ],
}
