"""May this start cost money? Country, kind of number, limits; what is refused is on record."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from messaging.clients import Caller
from routing.numbers import number_type
from verification import limits
from verification.drafts import StartDraft
from verification.errors import DestinationBlocked, LimitReached
from verification.profiles import Policy

REFUSALS = (LimitReached, DestinationBlocked)


@contextmanager
def recorded(caller: Caller, draft: StartDraft) -> Iterator[None]:
    yield


def admit(caller: Caller, draft: StartDraft, policy: Policy) -> None:
    """Raises DestinationBlocked, LimitReached; then nothing is counted, since the transaction rolls back."""
    if policy.countries and draft.country not in policy.countries:
        raise DestinationBlocked(f"The profile does not allow {draft.country}.")
    kind = number_type(draft.msisdn)
    if kind not in policy.number_types:
        raise DestinationBlocked(f"The profile does not allow numbers of the type {kind}.")
    full = limits.take(limits.of_start(caller.slug, draft.msisdn, draft.ip, draft.device))
    full += limits.peek(limits.of_failure(draft.purpose, draft.msisdn))
    if full:
        worst = max(full, key=lambda found: found.seconds)
        raise LimitReached(f"The limit by {worst.limit.kind} is used up.", retry_after=max(1, int(worst.seconds) + 1))


def spend(caller: Caller, country: str, cost: Decimal, currency: str, policy: Policy) -> None:
    """Counts the expected cost of a message against the caps of the day."""
