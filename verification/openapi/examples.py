"""Requests and answers as they are: tests send the requests and compare the answers."""

from typing import Any

REFERENCE = "Zk3vQ8mN1xR7tYbL0pWc5A"
TOKEN = f"{REFERENCE}.5f2c8d6b1e9a40377c21f0b94ad86e135f2c8d6b1e9a40377c21f0b94ad86e13"
LOGIN: dict[str, Any] = {"to": "+380671234567", "purpose": "login"}
CONTEXT: dict[str, Any] = {"amount": "250.00", "currency": "EUR", "payee": "Olena K."}
PAYMENT: dict[str, Any] = {
    "to": "+380671234567",
    "purpose": "payment",
    "context": CONTEXT,
    "locale": "uk",
    "client_ip": "203.0.113.7",
    "device_id": "9f1c2a",
}
STARTED: dict[str, Any] = {
    "reference": REFERENCE,
    "status": "pending",
    "expires_at": "2026-11-22T16:27:01.258Z",
    "resend_at": "2026-11-22T16:22:31.258Z",
    "to_masked": "+380******567",
}
RESENT: dict[str, Any] = STARTED | {"resend_at": "2026-11-22T16:23:34.110Z"}
PENDING: dict[str, Any] = {
    "reference": REFERENCE,
    "status": "pending",
    "purpose": "payment",
    "profile": "",
    "to_masked": "+380******567",
    "country": "UA",
    "context": CONTEXT,
    "attempts_left": 5,
    "sends": 1,
    "created_at": "2026-11-22T16:22:01.258Z",
    "expires_at": "2026-11-22T16:27:01.258Z",
    "resend_at": "2026-11-22T16:22:31.258Z",
    "verified_at": None,
    "closed_at": None,
    "redeemed_at": None,
}
CANCELLED: dict[str, Any] = PENDING | {
    "status": "cancelled",
    "attempts_left": 0,
    "closed_at": "2026-11-22T16:22:41.912Z",
}
CHECK: dict[str, Any] = {"code": "04718263", "purpose": "payment", "context": CONTEXT}
VERIFIED: dict[str, Any] = {
    "reference": REFERENCE,
    "valid": True,
    "status": "verified",
    "attempts_left": 0,
    "result_token": TOKEN,
}
REDEEM: dict[str, Any] = {"token": TOKEN, "purpose": "payment"}
REDEEMED: dict[str, Any] = {
    "reference": REFERENCE,
    "purpose": "payment",
    "to_masked": "+380******567",
    "context": CONTEXT,
    "verified_at": "2026-11-22T16:22:19.044Z",
}
