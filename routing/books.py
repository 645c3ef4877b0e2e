"""What may happen to a price list: it is activated once, retired, or copied; its prices change while it is a draft.

Whatever changes what is in force holds the provider until its transaction ends: one change comes after the other.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from providers.sql import now, rows
from routing.models import PriceList

Status = PriceList.Status
LOCK = 0x4D58_4951
SAME_START = "Another list of this provider begins at the same moment: choose another start, or roll that one back."


class Refused(Exception):
    """The list is not in the state for it; the message says why."""


def four_eyes(user: Any, editors: Iterable[int]) -> None:
    """Nobody approves what they had a hand in, not even a superuser unless PRICE_FOUR_EYES says so. Raises Refused."""
    bound = settings.PRICE_FOUR_EYES == "all" or (settings.PRICE_FOUR_EYES == "staff" and not user.is_superuser)
    if bound and user.pk in editors:
        raise Refused("You had a hand in it: a second person approves it.")


def in_force(provider_id: int, at: datetime, *, but: int | None = None) -> int | None:
    """The list that decides then, or would without the list `but`."""
    active = PriceList.objects.filter(provider_id=provider_id, status=Status.ACTIVE, valid_from__lte=at)
    return active.exclude(pk=but or 0).order_by("-valid_from").values_list("pk", flat=True).first()


def begins_at(provider_id: int, at: datetime) -> bool:
    """Is that moment taken? One list of a provider begins at a time."""
    return PriceList.objects.filter(provider_id=provider_id, status=Status.ACTIVE, valid_from=at).exists()


def coming(provider_id: int, after: datetime) -> str:
    """For whoever changes what is in force: the list that begins later, which knows nothing of the change."""
    lists = PriceList.objects.filter(provider_id=provider_id, status=Status.ACTIVE, valid_from__gt=after)
    later = lists.select_related("provider").order_by("valid_from").first()
    if later is None:
        return ""
    begin = f"{later.valid_from.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{later} begins {begin}, and from then on its prices count, as a whole: look whether they still should."


def hold(provider_id: int) -> None:
    """Until the transaction ends nobody else changes what is in force of this provider."""
    rows("SELECT pg_advisory_xact_lock(%(lock)s::int, %(id)s::int)", {"lock": LOCK, "id": provider_id % 2**31})


def activate(price_list_id: int, *, by: Any = None, proposed_from: datetime | None = None) -> PriceList:
    """Puts a draft in force from its `valid_from`, but never earlier than now: what was sent has its price.

    `by` is the person who asks for it. What an import proposes is put in force by the import alone, which says from
    when. Raises Refused.
    """
    try:
        with transaction.atomic():
            book = _locked(price_list_id)
            if by is not None:
                four_eyes(by, book.editors)
            if book.status != (Status.PROPOSED if proposed_from else Status.DRAFT):
                raise Refused(f"It is {book.status}; only a draft can be activated.")
            book.valid_from = proposed_from or max(book.valid_from, now())
            if not book.prices.filter(Q(valid_to=None) | Q(valid_to__gt=book.valid_from)).exists():
                raise Refused("It has no prices from then on: the provider would carry nothing.")
            book.status = Status.ACTIVE
            book.save(update_fields=["status", "valid_from"])
    except IntegrityError:
        raise Refused(SAME_START) from None
    return book


def retire(price_list_id: int) -> PriceList:
    """Takes a list out of force; the active one before it is in force again. Raises Refused."""
    with transaction.atomic():
        book = _locked(price_list_id)
        if book.status == Status.RETIRED:
            raise Refused("It is retired already.")
        if book.status == Status.PROPOSED:
            raise Refused("An import proposes it: send that back, or cancel it.")
        book.status = Status.RETIRED
        book.save(update_fields=["status"])
    return book


def copy_as_draft(price_list_id: int, *, by: Any = None) -> PriceList:
    """A new draft with the same prices. `by` has a hand in it then. Raises Refused."""
    with transaction.atomic():
        source = _locked(price_list_id)
        if source.status == Status.PROPOSED:
            raise Refused("An import proposes it, and may still write it.")
        hands = source.editors if source.status == Status.DRAFT else []
        draft = PriceList.objects.create(
            provider_id=source.provider_id,
            name=f"copy of {source.name}"[:80],
            valid_from=now(),
            editors=list(dict.fromkeys([*hands, by.pk] if by else hands)),
        )
        rows(
            """
            INSERT INTO routing_price (price_list_id, country, mcc, mnc, prefix, price, price_delivered, currency,
              valid_from, valid_to)
            SELECT %(draft)s, country, mcc, mnc, prefix, price, price_delivered, currency, valid_from, valid_to
            FROM routing_price WHERE price_list_id = %(source)s""",
            {"draft": draft.pk, "source": source.pk},
        )
    return draft


def discard(price_list_id: int) -> None:
    """Throws away what an import proposed; any other list stays."""
    with transaction.atomic():
        book = _locked(price_list_id)
        if book.status == Status.PROPOSED:
            rows("DELETE FROM routing_price WHERE price_list_id = %(id)s", {"id": price_list_id})
            rows("DELETE FROM providers_version WHERE topic = %(topic)s", {"topic": f"book:{price_list_id}"})
            book.delete()


def lock_draft(price_list_id: int, *, by: Any = None) -> None:
    """Holds a draft for a change of its prices until the transaction ends; `by` has a hand in it. Raises Refused."""
    book = _locked(price_list_id)
    if book.status != Status.DRAFT:
        raise Refused("This list is not a draft any more: its prices are fixed.")
    if by is not None and by.pk not in book.editors:
        book.editors = [*book.editors, by.pk]
        book.save(update_fields=["editors"])


def _locked(price_list_id: int) -> PriceList:
    provider_id = PriceList.objects.filter(pk=price_list_id).values_list("provider_id", flat=True).first()
    if provider_id is not None:
        hold(provider_id)
    book = PriceList.objects.select_for_update().filter(pk=price_list_id).first()
    if book is None:
        raise Refused("It is gone.")
    return book
