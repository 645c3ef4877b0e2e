"""What is found by a whole number, and shown without it: masked, whoever looks."""

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest

from providers.pages import LongList
from routing.numbers import InvalidNumber, mask, parse
from verification.fraud_models import BlockKind

NO_COUNTRY = "No country with phone numbers: ISO 3166-1 alpha-2, like UA or GB."
NOT_A_NUMBER = "Not a phone number that can be reached: E.164 with the plus."


def masked(kind: str, value: str) -> str:
    """A block's or a bucket's value as anybody may see it."""
    if kind in (BlockKind.NUMBER, BlockKind.PREFIX):
        return mask(value)
    before, _, last = value.rpartition(" ")
    if kind == BlockKind.DEVICE:
        before, _, last = value.partition(" ")
        return f"{before} {last[:4]}…"
    return f"{before} {mask(last)}" if last.startswith("+") else value


def number_of(text: str) -> str:
    try:
        return parse(text.strip()).msisdn
    except InvalidNumber:
        raise forms.ValidationError(NOT_A_NUMBER) from None


class NumberSearch(LongList):
    """Found by the whole number."""

    search_fields = ("pk",)  # without it there is no search box
    search_help_text = "The whole number in E.164 form"

    def of_number(self, queryset: Any, msisdn: str) -> Any:
        raise NotImplementedError

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            return self.of_number(queryset, parse(search_term.strip()).msisdn), False
        except InvalidNumber:
            return queryset.none(), False
