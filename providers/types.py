"""The values that pass between an adapter and the rest. Frozen, and free of Django."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import orjson

from providers.outcomes import ReceiptStatus


@dataclass(frozen=True, slots=True)
class Account:
    """One provider row as its adapter sees it. `base_url` has no trailing slash."""

    slug: str
    base_url: str
    credentials: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Submission:
    """One attempt, ready to be offered.

    `our_reference` is 32 lower-case hex digits, new for every attempt, the same for every re-post of
    that attempt. `receipt_url` already ends in it. `validity` is in seconds, from now.
    """

    our_reference: str
    to: str = field(repr=False)  # E.164 with the plus
    text: str = field(repr=False)
    sender: str
    encoding: str  # "gsm7" | "ucs2"
    segments: int
    validity: int
    receipt_url: str
    submitted_at: datetime  # aware UTC, the database's clock at the intent


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    url: str = field(repr=False)  # some vendors take the number, or a password, in the query
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`headers` has lower-case names."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    def json(self) -> Any:
        """Raises ValueError for anything that is not JSON in UTF-8."""
        return _from_json(self.body)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receipt request as it came in. `url` is the public one the provider called; `headers` lower-case."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    our_reference: str = ""  # from the path, "" when the provider calls one URL for all

    def json(self) -> Any:
        """Raises ValueError."""
        return _from_json(self.body)

    def form(self) -> list[tuple[str, str]]:
        """Pairs of a form body in their order; raises ValueError for bytes that are not UTF-8."""
        return parse_qsl(self.body.decode(), keep_blank_values=True, max_num_fields=200)


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left on an account."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class ParsedReceipt:
    """One receipt in our words. `raw` is what we keep: redacted by the adapter, no text and no number."""

    status: ReceiptStatus
    provider_status: str
    our_reference: str = ""
    provider_reference: str = ""
    error_code: str = ""
    opted_out: bool = False
    occurred_at: datetime | None = None
    price: Decimal | None = None
    currency: str = ""
    segments: int | None = None
    mcc: str = ""  # the network that the number is in, where the provider says it
    mnc: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


def _from_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # perhaps only for what the standard library takes as well, a lone surrogate or a huge number
    try:
        return json.loads(body)
    except RecursionError:  # a hundred thousand brackets: somebody's body, our stack
        raise ValueError("nested too deeply") from None
