"""The adapter contract. An adapter builds requests and reads responses; it performs no I/O."""

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import ClassVar

from providers.outcomes import (
    Accepted,
    Ambiguous,
    Lookup,
    Outcome,
    Rejected,
    Scope,
    Throttled,
    Undecided,
)
from providers.types import Account, Balance, HttpRequest, HttpResponse, ParsedReceipt, Submission, Webhook

# What reading a body of any shape may raise; int() of JSON's 1e999 is an ArithmeticError.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
# A phone number or a code that a vendor quotes, also in groups: four digits or more.
_DIGITS = re.compile(r"\+?\d(?:[ .()-]*\d){3,}")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]+")
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,40}")


class Resolve(StrEnum):
    """What can settle an ambiguous submit. Measured per provider, not believed."""

    KEY = "key"  # the same reference may be posted again: honoured as a key, or refused as a repeat
    LOOKUP = "lookup"  # the provider can be asked for our reference; "not found" is proof after its lag
    LIST = "list"  # messages can be listed by number and time: found is proof, not found is not
    ECHO = "echo"  # only a receipt that carries our reference proves acceptance
    NONE = "none"


class SignatureError(Exception):
    """A receipt request that the provider did not sign."""


class UnreadableReceipt(ValueError):
    """A signed receipt request that does not say what the vendor documents."""


class Adapter:
    """One vendor's wire format.

    The base owns the order in which an answer is read; a vendor declares its words in `errors` and
    fills in the `build_*` and `read_*` blanks. Instances are immutable and shared between threads.
    """

    slug: ClassVar[str]
    name: ClassVar[str]
    base_url: ClassVar[str]  # the vendor's own
    credential_fields: ClassVar[tuple[str, ...]]
    optional_credential_fields: ClassVar[tuple[str, ...]] = ()
    resolve: ClassVar[Resolve] = Resolve.NONE
    lag: ClassVar[float] = 0.0  # seconds until a look-up or list surely shows an accepted submit
    window: ClassVar[float] = 0.0  # seconds for which a repeated key is honoured
    supports_balance: ClassVar[bool] = False
    errors: ClassVar[Mapping[str, Outcome]] = {}  # vendor error code -> what it means

    def __init__(self, account: Account) -> None:
        self.account = account
        self.url = account.base_url or self.base_url

    def build_send(self, submission: Submission) -> HttpRequest:
        raise NotImplementedError

    def read_send(self, response: HttpResponse) -> Outcome:
        """HTTP status first, the vendor's code second; what nobody documented is ambiguous or a refusal by status."""
        if 200 <= response.status < 300:
            try:
                return self.read_accepted(response)
            except UNREADABLE as error:
                return Ambiguous("unreadable_answer", type(error).__name__)
        code, detail = self._error(response)
        if code in self.errors:
            return _documented(self.errors[code], response, detail)
        return self._by_status(response, code or f"http_{response.status}", detail)

    def read_accepted(self, response: HttpResponse) -> Outcome:
        """Reads a 2xx. Any error raised here makes the outcome ambiguous: an answer we cannot read proves nothing."""
        raise NotImplementedError

    def read_error(self, response: HttpResponse) -> tuple[str, str]:
        """The vendor's error code and words in an answer outside 2xx; raises what UNREADABLE names without them.

        The base cleans both: the words lose numbers and credentials, a code that is not one word is dropped.
        """
        raise NotImplementedError

    def build_lookup(self, submission: Submission) -> HttpRequest:
        """Asks for `our_reference` (LOOKUP) or for the number and time (LIST)."""
        raise NotImplementedError(f"{self.slug} has no look-up")

    def read_lookup(self, submission: Submission, response: HttpResponse) -> Lookup:
        """HTTP status first: only a 2xx that can be read proves anything. A vendor whose 404 is proof overrides it."""
        if not 200 <= response.status < 300:
            return undecided(response)
        try:
            return self.read_found(submission, response)
        except UNREADABLE as error:
            return Undecided("unreadable_answer", type(error).__name__)

    def read_found(self, submission: Submission, response: HttpResponse) -> Lookup:
        """Reads a 2xx of the look-up. Any error raised here makes it undecided."""
        raise NotImplementedError(f"{self.slug} has no look-up")

    def build_balance(self) -> HttpRequest:
        """Asks what is left on the account. Only where `supports_balance`."""
        raise NotImplementedError(f"{self.slug} tells no balance")

    def read_balance(self, response: HttpResponse) -> Balance:
        """Reads a 2xx; raises what UNREADABLE names where it tells no balance."""
        raise NotImplementedError(f"{self.slug} tells no balance")

    def verify_receipt(self, webhook: Webhook) -> None:
        """Raises SignatureError. The base refuses all: every adapter must decide."""
        raise SignatureError(f"{self.slug} does not verify receipts")

    def read_receipts(self, webhook: Webhook) -> list[ParsedReceipt]:
        """Raises UnreadableReceipt."""
        raise NotImplementedError(f"{self.slug} does not read receipts")

    def _error(self, response: HttpResponse) -> tuple[str, str]:
        try:
            code, detail = self.read_error(response)
        except UNREADABLE:
            return "", ""
        for secret in filter(None, self.account.credentials.values()):
            detail = detail.replace(secret, "*")
        return code if _CODE.fullmatch(code) else "", redact(detail)

    def _by_status(self, response: HttpResponse, code: str, detail: str) -> Outcome:
        match response.status:
            case 401 | 402 | 403:
                return Rejected(Scope.ACCOUNT, code, detail)
            case 429:
                return Throttled(code, retry_after(response), detail)
            case 408 | 409:  # a timeout of somebody's, or a repeat while the first post is still being worked on
                return Ambiguous(code, detail)
            case status if 400 <= status < 500:
                return Rejected(Scope.ROUTE, code, detail)
            case _:  # 5xx may come after the message was queued; 1xx and 3xx are not answers to a submit
                return Ambiguous(code, detail, wait_asked(response))


def rejections(scope: Scope, *codes: str) -> dict[str, Outcome]:
    """Lines of an `errors` table."""
    return {code: Rejected(scope, code) for code in codes}


def undecided(response: HttpResponse) -> Undecided:
    """The word for a look-up answer that proves nothing."""
    return Undecided(f"http_{response.status}", retry_after=wait_asked(response))


def wait_asked(response: HttpResponse) -> float:
    """Seconds that a 429 or 503 asks for, 0 where it says nothing."""
    return retry_after(response, default=0.0) if response.status in (429, 503) else 0.0


def retry_after(response: HttpResponse, default: float = 1.0, longest: float = 300.0) -> float:
    """Retry-After in seconds (RFC 9110 10.2.3; the date form is not used by any provider we know)."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return default
    return min(max(seconds, 0.0), longest) if seconds == seconds else default


def decimal_or_none(value: object) -> Decimal | None:
    """A vendor's price as a positive Decimal; None for null, empty and anything that is not a number."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return abs(number) if number.is_finite() else None


def balance_of(amount: object, currency: object) -> Balance:
    """A vendor's balance, which may be below zero. Raises ValueError, ArithmeticError."""
    number = Decimal(str(amount))
    word = str(currency)
    if not number.is_finite() or abs(number) >= 10**12 or not re.fullmatch("[A-Z]{3}", word):
        raise ValueError("no balance")
    return Balance(number, word)


def network_of(mcc: object, mnc: object) -> tuple[str, str]:
    """A vendor's MCC and MNC; two empty words for anything that is none."""
    found = str(mcc), str(mnc)
    return found if re.fullmatch("[0-9]{3} [0-9]{2,3}", " ".join(found), re.ASCII) else ("", "")


def printable(words: object, longest: int = 64) -> str:
    """Foreign words as the database takes them: no control characters (NUL), no lone surrogates, cut."""
    return _UNPRINTABLE.sub(" ", str(words))[:longest]


def redact(words: object, longest: int = 200) -> str:
    """A vendor's sentence as we may keep it: printable, and without anything that can be a number or a code."""
    return _DIGITS.sub("*", printable(words, longest * 5))[:longest]


def _documented(outcome: Outcome, response: HttpResponse, detail: str) -> Outcome:
    match outcome:
        case Accepted():  # a refused repeat can be an acceptance: the message is there already
            return outcome
        case Throttled():
            return replace(outcome, retry_after=retry_after(response, outcome.retry_after), detail=detail)
        case _:
            return replace(outcome, detail=detail)
