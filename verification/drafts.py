"""What did the caller ask for? Strict readers of the bodies, all errors at once."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv6Address, ip_address
from typing import Any

from messaging.drafts import LOCALE, LONGEST_LOCALE, Reader
from verification.models import CONTEXT_FIELDS

START_FIELDS = frozenset(["to", "purpose", "profile", "locale", "context", "client_ip", "device_id"])
CHECK_FIELDS = frozenset(["code", "purpose", "context"])
REDEEM_FIELDS = frozenset(["token", "purpose"])
PURPOSE = re.compile("[a-z][a-z0-9_]{0,39}")
# Above zero: who agrees to a payment of nothing has not been shown what it is about.
AMOUNT = re.compile(r"(?=.*[1-9])[0-9]{1,12}(\.[0-9]{1,4})?", re.ASCII)
CURRENCY = re.compile("[A-Z]{3}")
# It stands in an SMS beside a code: one line, no braces (the marks of a template), and nothing that is not seen or
# turns the line around (Unicode's Default_Ignorable_Code_Point and controls; tags are letters of their own), except the
# joiners that Persian and Indic names are written with and the selectors of emoji, which alone are no name.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufeff\uffa0\ufff0-\uffff"
    "\U000e0000-\U0010ffff"  # as they are: ECMAScript has no such escape
)
PAYEE = re.compile(rf"(?=.*[^\s\u200c\u200d\ufe00-\ufe0f])[^{_UNSEEN}{{}}]{{1,40}}")
# A device shares the name of its counter and of its block with the slug of its client.
LONGEST_CODE, LONGEST_DEVICE, LONGEST_TOKEN = 20, 64, 100  # characters
_CODE_SEPARATORS = str.maketrans("", "", " -\u00a0")


@dataclass(frozen=True, slots=True)
class StartDraft:
    """`context` in its canonical form: the same amount is the same string."""

    msisdn: str = field(repr=False)
    country: str
    purpose: str
    profile: str
    locale: str
    context: Mapping[str, str] = field(repr=False)
    ip: str = field(repr=False)
    device: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CheckDraft:
    code: str = field(repr=False)
    purpose: str
    context: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RedeemDraft:
    token: str = field(repr=False)
    purpose: str


def read_start(data: Any) -> StartDraft:
    """Reads the body of `POST /api/v1/verifications`. Raises InvalidRequest."""
    reader = _Reader(data, START_FIELDS)
    msisdn, country = reader.to()
    draft = StartDraft(
        msisdn=msisdn,
        country=country,
        purpose=reader.purpose(),
        profile=reader.matching("profile", PURPOSE, "Small letters, digits and _, at most 40."),
        locale=reader.matching("locale", LOCALE, "A language tag like en or pt-BR.", longest=LONGEST_LOCALE),
        context=reader.context(),
        ip=reader.ip(),
        device=reader.string("device_id", longest=LONGEST_DEVICE),
    )
    reader.finish()
    return draft


def read_check(data: Any) -> CheckDraft:
    """Reads the body of a check. Raises InvalidRequest; that is no guess, and is not counted."""
    reader = _Reader(data, CHECK_FIELDS)
    draft = CheckDraft(reader.code(), reader.purpose(), reader.context())
    reader.finish()
    return draft


def read_redeem(data: Any) -> RedeemDraft:
    """Reads the body of `POST /api/v1/verifications/redeem`. Raises InvalidRequest."""
    reader = _Reader(data, REDEEM_FIELDS)
    draft = RedeemDraft(reader.needed("token", LONGEST_TOKEN), reader.purpose())
    reader.finish()
    return draft


class _Reader(Reader):
    def needed(self, name: str, longest: int) -> str:
        if name not in self._data:
            self.wrong(name, "required", "It is needed.")
            return ""
        value = self.string(name, longest=longest)
        if not value and not self._failed(name):
            self.wrong(name, "empty", "It must not be empty.")
        return value

    def purpose(self) -> str:
        value = self.needed("purpose", 100)
        if value and not PURPOSE.fullmatch(value):
            self.wrong("purpose", "bad_format", "Small letters, digits and _, at most 40.")
        return value

    def code(self) -> str:
        """As people type it: digits of any script, with spaces or hyphens between them."""
        typed = self.needed("code", LONGEST_CODE)
        digits = digits_of(typed)
        if typed and not digits:
            self.wrong("code", "empty", "It must not be empty.")
        return digits

    def ip(self) -> str:
        value = self.string("client_ip", longest=45)
        if not value and "client_ip" not in self._data:
            return ""
        try:
            return parse_ip(value)
        except ValueError:
            if not self._failed("client_ip"):
                self.wrong("client_ip", "bad_format", "An IPv4 or IPv6 address is expected.")
            return ""

    def context(self) -> dict[str, str]:
        value = self._data.get("context", {})
        if not isinstance(value, dict):
            self.wrong("context", "wrong_type", "An object with amount, currency and payee is expected.")
            return {}
        inner = _Context(value, frozenset(CONTEXT_FIELDS))
        found = inner.read()
        for error in inner.errors:
            self.wrong(f"context.{error.field}", error.code, error.message)
        return found


class _Context(Reader):
    def read(self) -> dict[str, str]:
        amount = self.matching("amount", AMOUNT, 'A decimal number in a string, like "250.00".')
        currency = self.matching("currency", CURRENCY, "Three capital letters (ISO 4217).")
        payee = self.matching("payee", PAYEE, "1 to 40 characters in one line, without braces.")
        if ("amount" in self._data) != ("currency" in self._data):
            self.wrong("currency", "one_of", "An amount needs its currency, and a currency its amount.")
        found = {"amount": amount and _plain(amount), "currency": currency, "payee": payee}
        return {name: text for name, text in found.items() if text}


def digits_of(typed: str) -> str:
    """Without the separators that people put between digits, and in ASCII."""
    found = typed.translate(_CODE_SEPARATORS)
    return "".join(str(unicodedata.decimal(character, character)) for character in found)


def parse_ip(value: str) -> str:
    """An address in its one form. Raises ValueError."""
    address = ip_address(value)
    if isinstance(address, IPv6Address):
        if address.scope_id:  # names an interface of somebody's machine; no column takes it
            raise ValueError("an address with a zone")
        return str(address.ipv4_mapped or address)
    return str(address)


def _plain(amount: str) -> str:
    """250, 250.0 and 0250.00 are one amount: at least two decimals, no zeros beyond them."""
    whole, _, decimals = f"{Decimal(amount):f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"
