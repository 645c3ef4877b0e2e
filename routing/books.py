"""What may happen to a price list: it is activated once, retired, or copied; its prices change while it is a draft.

Whatever changes what is in force holds the provider until its transaction ends: one change comes after the other.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from providers.sql import now, rows
from routing.models import PriceList

Status = PriceList.Status
LOCK = 0x4D58_4951


class Refused(Exception):
    """The list is not in the state for it; the message says why."""


def four_eyes(user: Any, editors: Iterable[int]) -> None:
    """Nobody approves what they had a hand in, not even a superuser unless PRICE_FOUR_EYES says so. Raises Refused."""
    bound = settings.PRICE_FOUR_EYES == "all" or (settings.PRICE_FOUR_EYES == "staff" and not user.is_superuser)
    if bound and user.pk in editors:
        raise Refused("You had a hand in it: a second person approves it.")


def in_force(provider_id: int, at: datetime) -> int | None:
    active = PriceList.objects.filter(provider_id=provider_id, status=Status.ACTIVE, valid_from__lte=at)
    return active.order_by("-valid_from").values_list("pk", flat=True).first()


def hold(provider_id: int) -> None:
    """Until the transaction ends nobody else changes what is in force of this provider."""
    rows("SELECT pg_advisory_xact_lock(%(lock)s::int, %(id)s::int)", {"lock": LOCK, "id": provider_id % 2**31})


def activate(price_list_id: int, *, by: Any = None, was: Status = Status.DRAFT) -> PriceList:
    """Puts a list in force from its `valid_from`, but never earlier than now: what was sent has its price.

    `by` is the person who asks for it. Only the import itself says that it `was` proposed. Raises Refused.
    """
    try:
        with transaction.atomic():
            book = _locked(price_list_id)
            if by is not None:
                four_eyes(by, book.editors)
            if book.status != was:
                raise Refused(f"It is {book.status}; only a draft can be activated.")
            if not book.prices.exists():
                raise Refused("It has no prices: the provider would carry nothing.")
            book.valid_from = max(book.valid_from, now())
            book.status = Status.ACTIVE
            book.save(update_fields=["status", "valid_from"])
    except IntegrityError:
        raise Refused("Another active list of this provider begins at the same moment.") from None
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
        source = PriceList.objects.get(pk=price_list_id)
        if source.status == Status.PROPOSED:
            raise Refused("An import proposes it, and may still write it.")
        draft = PriceList.objects.create(
            provider_id=source.provider_id,
            name=f"copy of {source.name}"[:80],
            valid_from=now(),
            editors=[by.pk] if by else [],
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
    """Throws away what an import proposed."""
    with transaction.atomic():
        rows("DELETE FROM routing_price WHERE price_list_id = %(id)s", {"id": price_list_id})
        PriceList.objects.filter(pk=price_list_id, status=Status.PROPOSED).delete()


def lock_draft(price_list_id: int, *, by: Any = None) -> None:
    """Holds a draft for a change of its prices until the transaction ends; `by` has a hand in it. Raises Refused."""
    book = _locked(price_list_id)
    if book.status != Status.DRAFT:
        raise Refused("This list is not a draft any more: its prices are fixed.")
    if by is not None and by.pk not in book.editors:
        book.editors = [*book.editors, by.pk]
        book.save(update_fields=["editors"])


def _locked(price_list_id: int) -> PriceList:
    hold(PriceList.objects.values_list("provider_id", flat=True).get(pk=price_list_id))
    return PriceList.objects.select_for_update().get(pk=price_list_id)
