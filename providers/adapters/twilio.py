"""Twilio Programmable Messaging, API 2010-04-01 (twilio.com/docs/messaging/api/message-resource)."""

import hmac
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from providers.adapters.base import (
    Adapter,
    Resolve,
    SignatureError,
    UnreadableReceipt,
    balance_of,
    decimal_or_none,
    printable,
    rejections,
)
from providers.outcomes import Accepted, Found, Lookup, Outcome, ReceiptStatus, Rejected, Scope, Throttled, Undecided
from providers.types import Balance, HttpRequest, HttpResponse, ParsedReceipt, Submission, Webhook

# twilio.com/docs/api/errors. The 30xxx are words of receipts; a message born dead carries them too.
ERRORS: dict[str, Outcome] = {
    # Not a number, a short code, not a mobile, a landline, no such subscriber.
    **rejections(Scope.NUMBER, "21211", "21265", "21614", "21635", "30005"),
    "21610": Rejected(Scope.NUMBER, "21610", opted_out=True),
    # The sender: invalid, the recipient itself, none, not this account's, not for this destination, not registered.
    **rejections(Scope.ROUTE, "21212", "21266", "21601", "21603", "21606", "21659", "21660", "21661", "30034"),
    **rejections(Scope.ROUTE, "21701", "21703", "21705"),  # the Messaging Service: unknown, empty, malformed
    **rejections(Scope.ROUTE, "21602", "21617", "21619", "30007"),  # the text: none, over 1600 characters, filtered
    # Not this way: 21612 is the pair of sender and recipient; 30003, 30004, 30006 are a handset, a block (not the
    # person's own STOP) and a carrier that another provider may well pass.
    **rejections(Scope.ROUTE, "21612", "30003", "30004", "30006"),
    # Our account's country permissions, and a trial account's unverified recipient: as account faults they would
    # close every country for one.
    **rejections(Scope.ROUTE, "21408", "21608"),
    # Inactive (mostly for lack of funds), credentials, suspended; 20404: the only resource in the URL is the account.
    **rejections(Scope.ACCOUNT, "10001", "20003", "20005", "20404", "30002"),
    **rejections(Scope.ACCOUNT, "63038"),  # the daily limit: comes as a 429, but no wait of seconds helps
    "20429": Throttled("20429"),
    # The sender's queue at Twilio, hours long, is full: a 400, but neither number nor account is at fault.
    "21611": Throttled("21611", retry_after=30.0),
    "30001": Throttled("30001", retry_after=30.0),
}
STATUSES = {
    **dict.fromkeys(("accepted", "queued", "scheduled", "sending", "sent"), ReceiptStatus.SENT),
    **dict.fromkeys(("delivered", "read"), ReceiptStatus.DELIVERED),
    **dict.fromkeys(("undelivered", "failed", "canceled"), ReceiptStatus.UNDELIVERED),
}
VALIDITY_EXPIRED = "30036"
LONGEST_VALIDITY = 36_000  # seconds
PAGE = 100
# A message of ours was created between its intent and the end of its call, give or take the two clocks.
CREATED_AFTER, CREATED_BEFORE = timedelta(seconds=-5), timedelta(seconds=20)
KEPT = ("MessageSid", "MessageStatus", "ErrorCode", "MessagingServiceSid", "RawDlrDoneDate")

_sid = re.compile("(SM|MM)[0-9a-fA-F]{32}")
_count = re.compile("[1-9][0-9]{0,2}")


class Twilio(Adapter):
    """Takes no key and no reference: an attempt is told by the list, or by a receipt on its own URL."""

    slug = "twilio"
    name = "Twilio"
    base_url = "https://api.twilio.com"
    credential_fields = ("account_sid", "auth_token")
    optional_credential_fields = ("webhook_shared_key",)
    resolve = Resolve.LIST
    lag = 15.0
    errors = ERRORS
    supports_balance = True

    def build_send(self, submission: Submission) -> HttpRequest:
        fields = {
            "To": submission.to,
            "Body": submission.text,
            "StatusCallback": submission.receipt_url,
            "ValidityPeriod": min(max(submission.validity, 1), LONGEST_VALIDITY),
        }
        if submission.sender:
            fields["MessagingServiceSid" if _is_service(submission.sender) else "From"] = submission.sender
        headers = {**self._authorization(), "Content-Type": "application/x-www-form-urlencoded"}
        return HttpRequest("POST", self._messages(), headers, urlencode(fields).encode())

    def read_accepted(self, response: HttpResponse) -> Outcome:
        message = response.json()
        sid = _read_sid(message["sid"])
        if STATUSES.get(message["status"]) is ReceiptStatus.UNDELIVERED:  # created, and dead already
            code = str(message.get("error_code") or message["status"])
            return self.errors.get(code, Rejected(Scope.ROUTE, printable(code)))
        price = decimal_or_none(message.get("price"))
        segments = str(message.get("num_segments"))  # "0" while a Messaging Service has not picked the sender yet
        return Accepted(
            provider_reference=sid,
            price=price,
            currency=printable(message.get("price_unit") or "", 3) if price else "",
            segments=int(segments) if _count.fullmatch(segments) else None,
        )

    def read_error(self, response: HttpResponse) -> tuple[str, str]:
        error = response.json()
        return str(error["code"]), str(error.get("message", ""))

    def build_lookup(self, submission: Submission) -> HttpRequest:
        since = (submission.submitted_at + CREATED_AFTER).date()  # UTC: the filter knows days only
        query = urlencode({"To": submission.to, "DateSent>": since.isoformat(), "PageSize": PAGE})
        return HttpRequest("GET", f"{self._messages()}?{query}", self._authorization())

    def read_found(self, submission: Submission, response: HttpResponse) -> Lookup:
        """An equal text to the same number some seconds before looks the same: a sid of another attempt is no proof."""
        answer = response.json()
        same = [message for message in answer["messages"] if _is_same(message, submission)]
        if answer["next_page_uri"]:  # a second match may be on the next page
            return Undecided("more_pages")
        if len(same) != 1:  # none: it may be late or never come, the list cannot tell
            return Undecided("several_matches" if same else "no_match")
        return Found(_read_sid(same[0]["sid"]), STATUSES.get(same[0]["status"], ReceiptStatus.SENT))

    def build_balance(self) -> HttpRequest:
        """Not for subaccounts, which have no balance of their own (twilio.com/docs/usage/api/balance)."""
        url = self._messages().removesuffix("Messages.json") + "Balance.json"
        return HttpRequest("GET", url, self._authorization())

    def read_balance(self, response: HttpResponse) -> Balance:
        answer = response.json()
        return balance_of(answer["balance"], answer["currency"])

    def verify_receipt(self, webhook: Webhook) -> None:
        """Signed: the URL, each field and its value by name (twilio.com/docs/usage/webhooks/webhooks-security)."""
        settings = webhook.headers.get("x-twilio-webhooks-signature-settings", "")
        shared = "algorithm=HMAC_SHA256" in settings
        key = self.account.credentials.get("webhook_shared_key" if shared else "auth_token", "")
        if not key:  # an empty key would let anybody sign
            raise SignatureError("no key for this kind of signature")
        try:
            fields = "".join(name + value for name, value in sorted(set(webhook.form())))
        except ValueError:
            raise SignatureError("not a form") from None
        given = webhook.headers.get("x-twilio-signature", "").encode()
        for url in _with_and_without_port(webhook.url):
            digest = hmac.digest(key.encode(), (url + fields).encode(), "sha256" if shared else "sha1")
            if hmac.compare_digest(b64encode(digest), given):
                return
        raise SignatureError("the signature does not match")

    def read_receipts(self, webhook: Webhook) -> list[ParsedReceipt]:
        try:
            fields = dict(webhook.form())
            sid, word = _read_sid(fields["MessageSid"]), fields["MessageStatus"]
        except (ValueError, LookupError):
            raise UnreadableReceipt("no message, or no status") from None
        code = fields.get("ErrorCode", "")
        status = ReceiptStatus.EXPIRED if code == VALIDITY_EXPIRED else STATUSES.get(word, ReceiptStatus.UNKNOWN)
        error = self.errors.get(code)
        return [
            ParsedReceipt(
                status=status,
                provider_status=printable(word),
                our_reference=webhook.our_reference,
                provider_reference=sid,
                error_code=printable(code),
                opted_out=isinstance(error, Rejected) and error.opted_out,
                # RawDlrDoneDate names no time zone: kept, not read as `occurred_at`.
                raw={name: printable(fields[name]) for name in KEPT if name in fields},
            )
        ]

    def _messages(self) -> str:
        return f"{self.url}/2010-04-01/Accounts/{quote(self.account.credentials['account_sid'], safe='')}/Messages.json"

    def _authorization(self) -> dict[str, str]:
        pair = f"{self.account.credentials['account_sid']}:{self.account.credentials['auth_token']}"
        return {"Authorization": "Basic " + b64encode(pair.encode()).decode()}


def _is_service(sender: str) -> bool:
    return len(sender) == 34 and sender.startswith("MG")


def _read_sid(value: str) -> str:
    if not _sid.fullmatch(value):
        raise ValueError("not a message sid")
    return value


def _is_same(message: Mapping[str, Any], submission: Submission) -> bool:
    sender = message["messaging_service_sid" if _is_service(submission.sender) else "from"]
    age = parsedate_to_datetime(message["date_created"]) - submission.submitted_at
    return (
        message["direction"] == "outbound-api"
        and (message["to"], message["body"]) == (submission.to, submission.text)
        and submission.sender in ("", sender)
        and CREATED_AFTER <= age <= CREATED_BEFORE
    )


def _with_and_without_port(url: str) -> Iterator[str]:
    """Twilio signs either form, whatever the URL we gave: both are tried."""
    parts = urlsplit(url)
    bare = parts.netloc.removesuffix(f":{parts.port}")
    yield parts._replace(netloc=bare).geturl()
    yield parts._replace(netloc=f"{bare}:{parts.port or (443 if parts.scheme == 'https' else 80)}").geturl()
