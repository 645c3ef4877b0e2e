"""Short words for the stages, for tests that play the provider's part themselves."""

from datetime import UTC, datetime

from messaging import delivery
from messaging.delivery import Offer, Outcomes
from messaging.models import Attempt, Message
from providers.outcomes import Accepted, Outcome


def claim(lane: str = "transactional", limit: int = 100) -> list[Offer]:
    return delivery.claim(lane, limit)[0]


def claim_one(lane: str = "transactional") -> Offer:
    (offer,) = claim(lane)
    return offer


def settle(offer: Offer, outcome: Outcome, *, wide: bool = False) -> None:
    delivery.settle([Outcomes(offer, outcome, wide)])


def accepted(reference: str = "their-1") -> Accepted:
    return Accepted(reference)


def only_message() -> Message:
    return Message.objects.get()


def only_attempt() -> Attempt:
    return Attempt.objects.get()


def now() -> datetime:
    return datetime.now(UTC)
