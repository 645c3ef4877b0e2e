"""The simulated carriers of providers/simulator, as a vendor: the wire format is ours."""

import hmac
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import urlencode

import orjson

from providers.adapters.base import (
    UNREADABLE,
    Adapter,
    Resolve,
    SignatureError,
    UnreadableReceipt,
    balance_of,
    decimal_or_none,
    network_of,
    printable,
    rejections,
)
from providers.outcomes import Accepted, Found, Lookup, NotFound, Outcome, ReceiptStatus, Rejected, Scope
from providers.types import Balance, HttpRequest, HttpResponse, ParsedReceipt, Submission, Webhook

TOLERANCE = 300  # seconds between the carrier's clock and ours, both ways
STATUSES = {
    "sent": ReceiptStatus.SENT,
    "delivered": ReceiptStatus.DELIVERED,
    "undelivered": ReceiptStatus.UNDELIVERED,
    "expired": ReceiptStatus.EXPIRED,
}
KEPT = ("id", "reference", "status", "error_code", "at", "price", "currency", "mcc", "mnc")
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Simulator(Adapter):
    slug = "simulator"
    name = "Simulated carrier"
    base_url = "http://127.0.0.1:18001"
    credential_fields = ("token",)
    resolve = Resolve.KEY  # a carrier in mode lookup or none is declared so in its provider row
    lag = 2.0
    window = 86400.0
    supports_balance = True
    errors: ClassVar[Mapping[str, Outcome]] = {
        **rejections(Scope.ACCOUNT, "bad_token", "out_of_balance"),
        **rejections(Scope.NUMBER, "invalid_number", "blocked"),
        **rejections(Scope.ROUTE, "sender_not_allowed", "no_route"),
        "opted_out": Rejected(Scope.NUMBER, "opted_out", opted_out=True),
    }

    def build_send(self, submission: Submission) -> HttpRequest:
        body = {
            "to": submission.to,
            "text": submission.text,
            "sender": submission.sender,
            "reference": submission.our_reference,
            "validity": submission.validity,
            "receipt_url": submission.receipt_url,
        }
        headers = {
            **self._authorization(),
            "Content-Type": "application/json",
            "Idempotency-Key": submission.our_reference,
        }
        return HttpRequest("POST", f"{self.url}/v1/messages", headers, orjson.dumps(body))

    def read_accepted(self, response: HttpResponse) -> Outcome:
        message = response.json()
        return Accepted(
            provider_reference=_read_id(message["id"]),
            price=decimal_or_none(message.get("price")),
            currency=printable(message.get("currency") or "", 3),
            segments=int(message["segments"]),
        )

    def read_error(self, response: HttpResponse) -> tuple[str, str]:
        error = response.json()["error"]
        return str(error["code"]), str(error["message"])

    def build_lookup(self, submission: Submission) -> HttpRequest:
        query = urlencode({"reference": submission.our_reference})
        return HttpRequest("GET", f"{self.url}/v1/messages?{query}", self._authorization())

    def read_found(self, submission: Submission, response: HttpResponse) -> Lookup:
        messages = response.json()["messages"]
        ours = [message for message in messages if message["reference"] == submission.our_reference]
        if not ours:
            return NotFound()
        return Found(_read_id(ours[0]["id"]), STATUSES.get(ours[0]["status"], ReceiptStatus.SENT))

    def build_balance(self) -> HttpRequest:
        return HttpRequest("GET", f"{self.url}/v1/balance", self._authorization())

    def read_balance(self, response: HttpResponse) -> Balance:
        answer = response.json()
        return balance_of(answer["balance"], answer["currency"])

    def verify_receipt(self, webhook: Webhook) -> None:
        """Signed: hex HMAC-SHA256(token, timestamp + "." + body), the timestamp in seconds since 1970."""
        token = self.account.credentials.get("token", "")
        if not token:  # an empty key would let anybody sign
            raise SignatureError("no token to verify with")
        timestamp = webhook.headers.get("x-carrier-timestamp", "").encode(errors="replace")
        given = webhook.headers.get("x-carrier-signature", "").encode(errors="replace")
        expected = hmac.digest(token.encode(), timestamp + b"." + webhook.body, "sha256").hex()
        if not hmac.compare_digest(expected.encode(), given):
            raise SignatureError("the signature does not match")
        if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE:
            raise SignatureError("the timestamp is too far from our clock")

    def read_receipts(self, webhook: Webhook) -> list[ParsedReceipt]:
        try:
            return [_read_receipt(webhook.json(), webhook.our_reference)]
        except UNREADABLE as error:
            raise UnreadableReceipt(type(error).__name__) from None

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.account.credentials['token']}"}


def _read_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError("not an id")
    return value


def _read_receipt(receipt: Mapping[str, Any], our_reference: str) -> ParsedReceipt:
    word, code = str(receipt["status"]), str(receipt.get("error_code") or "")
    occurred_at = datetime.fromisoformat(receipt["at"])
    if occurred_at.tzinfo is None:
        raise ValueError("a time without a zone")
    reference = printable(receipt["reference"])
    mcc, mnc = network_of(receipt.get("mcc"), receipt.get("mnc"))
    if our_reference and reference and our_reference != reference:  # the path is not signed, the body is
        raise ValueError("the address and the body name two attempts")
    return ParsedReceipt(
        status=STATUSES.get(word, ReceiptStatus.UNKNOWN),
        provider_status=printable(word),
        our_reference=reference or our_reference,
        provider_reference=_read_id(receipt["id"]),
        error_code=printable(code),
        opted_out=code == "opted_out",
        occurred_at=occurred_at,
        price=decimal_or_none(receipt.get("price")),
        currency=printable(receipt.get("currency") or "", 3),
        mcc=mcc,
        mnc=mnc,
        raw={name: printable(receipt[name]) for name in KEPT if name in receipt},
    )
