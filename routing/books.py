"""What may happen to a price list: it is activated once, retired, or copied; its prices change while it is a draft."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from providers.sql import rows
from routing.models import PriceList

Status = PriceList.Status


class Refused(Exception):
    """The list is not in the state for it; the message says why."""


def four_eyes(user: Any, editors: Iterable[int]) -> None:
    """Nobody approves what they had a hand in, not even a superuser unless PRICE_FOUR_EYES says so. Raises Refused."""
    bound = settings.PRICE_FOUR_EYES == "all" or (settings.PRICE_FOUR_EYES == "staff" and not user.is_superuser)
    if bound and user.pk in editors:
        raise Refused("You had a hand in it: a second person approves it.")


def activate(price_list_id: int, *, by: Any = None) -> PriceList:
    """Puts a draft in force from its `valid_from`, but never earlier than now: what was sent has its price.

    `by` is the person who asks for it. Raises Refused.
    """
    try:
        with transaction.atomic():
            book = _locked(price_list_id)
            if by is not None:
                four_eyes(by, book.editors)
            if book.status != Status.DRAFT:
                raise Refused(f"It is {book.status}; only a draft can be activated.")
            if not book.prices.exists():
                raise Refused("It has no prices: the provider would carry nothing.")
            ((now,),) = rows("SELECT clock_timestamp()")
            book.valid_from = max(book.valid_from, now)
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
        book.status = Status.RETIRED
        book.save(update_fields=["status"])
    return book


def copy_as_draft(price_list_id: int, *, by: Any = None) -> PriceList:
    """A new draft with the same prices. `by` has a hand in it then."""
    with transaction.atomic():
        source = PriceList.objects.get(pk=price_list_id)
        ((now,),) = rows("SELECT clock_timestamp()")
        draft = PriceList.objects.create(
            provider_id=source.provider_id,
            name=f"copy of {source.name}"[:80],
            valid_from=now,
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


def lock_draft(price_list_id: int, *, by: Any = None) -> None:
    """Holds a draft for a change of its prices until the transaction ends; `by` has a hand in it. Raises Refused."""
    book = _locked(price_list_id)
    if book.status != Status.DRAFT:
        raise Refused("This list is not a draft any more: its prices are fixed.")
    if by is not None and by.pk not in book.editors:
        book.editors = [*book.editors, by.pk]
        book.save(update_fields=["editors"])


def _locked(price_list_id: int) -> PriceList:
    return PriceList.objects.select_for_update().get(pk=price_list_id)
