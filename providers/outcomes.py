"""What became of one submit, named by what the caller does next.

    Outcome
    ├── Accepted      the provider took it                      -> sent, wait for the receipt
    ├── Rejected      the provider said no, and said why
    │   ├── NUMBER    nobody would carry it                     -> failed
    │   ├── ROUTE     this provider will not                    -> next candidate
    │   └── ACCOUNT   our account there cannot                  -> next candidate, breaker opens
    ├── Throttled     alive, surely not processed               -> next candidate or later, rate is lowered
    ├── Unavailable   surely not processed                      -> next candidate, else later
    ├── GateRefused   we did not write a byte: the claim is old -> back to the queue, nobody's fault
    └── Ambiguous     may have been processed                   -> unknown; only reconcile may touch it

    Lookup
    ├── Found         the provider has our reference
    ├── NotFound      the provider surely does not have it (given its lag)
    └── Undecided     the answer proves nothing

An adapter may narrow the transport's verdict, never widen it: nothing turns an Ambiguous into a
"surely not processed" except the vendor's own documented word.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Scope(StrEnum):
    """How far a rejection reaches."""

    NUMBER = "number"
    ROUTE = "route"
    ACCOUNT = "account"


class ReceiptStatus(StrEnum):
    """The provider's later word about an attempt, in our words."""

    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Accepted:
    """`price` is per message, in `currency`, where the provider says it at once."""

    provider_reference: str
    price: Decimal | None = None
    currency: str = ""
    segments: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    scope: Scope
    code: str
    detail: str = ""
    opted_out: bool = False


@dataclass(frozen=True, slots=True)
class Throttled:
    code: str
    retry_after: float = 1.0  # seconds
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unavailable:
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class GateRefused:
    code: str = "gate_refused"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    code: str
    detail: str = ""
    retry_after: float = 0.0  # seconds before which the provider wants no other question


Outcome = Accepted | Rejected | Throttled | Unavailable | GateRefused | Ambiguous


@dataclass(frozen=True, slots=True)
class Found:
    provider_reference: str
    status: ReceiptStatus = ReceiptStatus.SENT


@dataclass(frozen=True, slots=True)
class NotFound:
    pass


@dataclass(frozen=True, slots=True)
class Undecided:
    code: str
    detail: str = ""
    retry_after: float = 0.0  # seconds before which the provider wants no other question


Lookup = Found | NotFound | Undecided
