"""Where a message and an attempt may be, and which moves exist. Nothing else decides that.

`docs/states.md` draws these tables and a test holds the two together.
"""

from enum import StrEnum


class Status(StrEnum):
    """A message's life."""

    SCHEDULED = "scheduled"  #: accepted, not to be sent before its time
    QUEUED = "queued"  #: waiting for a worker, a provider or a rate token
    SENDING = "sending"  #: an attempt is open and its worker is at it
    SENT = "sent"  #: a provider has accepted it
    UNKNOWN = "unknown"  #: it may have gone out; being found out
    HELD = "held"  #: it may have gone out and nothing can tell; staff or a receipt decide
    DELIVERED = "delivered"  #: the provider reports it on the handset
    UNDELIVERED = "undelivered"  #: the provider accepted it and reports that it will not arrive
    FAILED = "failed"  #: nobody took it, surely not sent
    EXPIRED = "expired"  #: its time ran out
    CANCELLED = "cancelled"  #: called back before it left


# Where a message ends for which nobody is left, though an earlier attempt of it has left (moves._truly).
_LEFT_BEFORE = frozenset({Status.SENT, Status.UNDELIVERED, Status.HELD})
TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.SCHEDULED: frozenset({Status.QUEUED, Status.CANCELLED, Status.EXPIRED}),
    Status.QUEUED: frozenset({Status.SENDING, Status.CANCELLED, Status.EXPIRED, Status.FAILED}) | _LEFT_BEFORE,
    Status.SENDING: frozenset({Status.QUEUED, Status.UNKNOWN, Status.FAILED, Status.EXPIRED}) | _LEFT_BEFORE,
    Status.UNKNOWN: frozenset({Status.SENT, Status.DELIVERED, Status.UNDELIVERED, Status.QUEUED, Status.HELD}),
    Status.HELD: frozenset({Status.QUEUED, Status.SENT, Status.DELIVERED, Status.UNDELIVERED, Status.FAILED}),
    Status.SENT: frozenset({Status.DELIVERED, Status.UNDELIVERED, Status.EXPIRED, Status.QUEUED}),
    Status.DELIVERED: frozenset(),
    Status.UNDELIVERED: frozenset(),
    Status.FAILED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.CANCELLED: frozenset(),
}
FINAL = frozenset(status for status, onward in TRANSITIONS.items() if not onward)

# A delivered receipt is proof, for whichever attempt: it lifts every state but these. While an attempt
# is open (`sending`) it waits for settle; a cancelled message was answered as never to be sent.
NOT_LIFTED_BY_DELIVERY = frozenset({Status.SENDING, Status.CANCELLED, Status.DELIVERED})
LIFTED_BY_DELIVERY = frozenset(Status) - NOT_LIFTED_BY_DELIVERY

# They say that it surely was not sent, where they end what was on its way out.
NEVER_SENT = frozenset({Status.FAILED, Status.EXPIRED, Status.CANCELLED})

# What clients are told. The others are our own business.
PUBLIC = frozenset(
    {
        Status.SENT,
        Status.DELIVERED,
        Status.UNDELIVERED,
        Status.FAILED,
        Status.EXPIRED,
        Status.CANCELLED,
        Status.UNKNOWN,
        Status.HELD,
    }
)


def allowed(origin: Status, target: Status) -> bool:
    return target in TRANSITIONS[origin] or (target == Status.DELIVERED and origin in LIFTED_BY_DELIVERY)


#: Every allowed move as "from>to": the guard of the one UPDATE that changes a message's status.
MOVES = sorted(f"{origin}>{target}" for origin in Status for target in Status if allowed(origin, target))


class AttemptStatus(StrEnum):
    """One submit to one provider."""

    INTENT = "intent"  #: committed before the first byte leaves
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"  #: surely not processed
    UNKNOWN = "unknown"  #: may have been processed
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"  #: another attempt was allowed although this one may have gone out


_A = AttemptStatus
ATTEMPT_TRANSITIONS: dict[AttemptStatus, frozenset[AttemptStatus]] = {
    _A.INTENT: frozenset({_A.ACCEPTED, _A.REJECTED, _A.NOT_SENT, _A.UNKNOWN}),
    _A.UNKNOWN: frozenset({_A.ACCEPTED, _A.NOT_SENT, _A.SUPERSEDED}),
    _A.ACCEPTED: frozenset({_A.DELIVERED, _A.UNDELIVERED, _A.EXPIRED, _A.SUPERSEDED}),
    _A.REJECTED: frozenset(),
    _A.NOT_SENT: frozenset(),
    _A.DELIVERED: frozenset(),
    _A.UNDELIVERED: frozenset(),
    _A.EXPIRED: frozenset(),
    _A.SUPERSEDED: frozenset(),
}
ATTEMPT_MOVES = sorted(f"{origin}>{target}" for origin, onward in ATTEMPT_TRANSITIONS.items() for target in onward)


class MessageClass(StrEnum):
    """How urgent a message is; each class is a lane with its own queue, drain and slots."""

    OTP = "otp"
    TRANSACTIONAL = "transactional"
    BULK = "bulk"


#: The lane of what is not a message: receipts to apply, unknown attempts to resolve, webhooks to send.
EVENTS = "events"
LANES = (*(lane.value for lane in MessageClass), EVENTS)
