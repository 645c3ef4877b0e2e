"""What requests look like. The door reads them by hand (`drafts`): these document, and a test holds both alike."""

from collections.abc import Collection, Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty

from messaging.drafts import LOCALE, LONGEST_LOCALE
from messaging.openapi.requests import TO, PhoneNumber, Strict, Text
from routing import numbers
from verification import drafts

PURPOSE = "What it is for: `login`, `signup`, `payment`, or one that the client has a profile for."


class Address(Text):
    def to_internal_value(self, data: Any) -> str:
        try:
            return drafts.parse_ip(super().to_internal_value(data))
        except ValueError:
            raise ValidationError("Not an address.") from None


class Code(Text):
    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not drafts.digits_of(text):
            raise ValidationError("There is nothing in it.")
        return text


class Context(Strict):
    """What a payment is: shown in the SMS, and part of what its code is bound to."""

    amount = Text(
        pattern=drafts.AMOUNT, help_text="A decimal number above zero: `250`, `250.0` and `250.00` are the same."
    )
    currency = Text(pattern=drafts.CURRENCY, help_text="ISO 4217.")
    payee = Text(pattern=drafts.PAYEE, help_text="In one line, without braces and invisible characters.")

    rules = {"dependentRequired": {"amount": ["currency"], "currency": ["amount"]}}

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        if data is empty:
            raise serializers.SkipField
        return False, data

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValidationError("No object.")
        return super().to_internal_value(data)

    def clashes(self, data: Mapping[str, Any]) -> Collection[str]:
        return {"currency"} if ("amount" in data) != ("currency" in data) else ()


class StartRequest(Strict):
    to = PhoneNumber(
        required=True,
        max_length=numbers.LONGEST,
        pattern=TO,
        help_text="With plus and country code. Spaces, hyphens, dots and brackets between digits are dropped.",
    )
    purpose = Text(required=True, pattern=drafts.PURPOSE, help_text=PURPOSE)
    profile = Text(pattern=drafts.PURPOSE, help_text="One of several profiles for the purpose, by its name.")
    locale = Text(
        pattern=LOCALE,
        max_length=LONGEST_LOCALE,
        help_text="The language of the text. Default: the one of the number's country.",
    )
    context = Context(required=False)  # type: ignore[assignment]  # no attribute: taken off the class
    client_ip = Address(max_length=45, help_text="Of the person, IPv4 or IPv6: limits per network count it.")
    device_id = Text(
        max_length=drafts.LONGEST_DEVICE,
        allow_blank=True,
        help_text="Your own name for the person's device: limits per device count it.",
    )


class CheckRequest(Strict):
    code = Code(
        required=True,
        min_length=1,
        max_length=drafts.LONGEST_CODE,
        help_text="As it was typed: digits of any script, with spaces or hyphens between them.",
    )
    purpose = Text(required=True, pattern=drafts.PURPOSE, help_text="The one it was started for.")
    context = Context(required=False)  # type: ignore[assignment]  # no attribute: taken off the class


class RedeemRequest(Strict):
    token = Text(required=True, min_length=1, max_length=drafts.LONGEST_TOKEN, help_text="`result_token` of a check.")
    purpose = Text(required=True, pattern=drafts.PURPOSE, help_text="The one it was started for.")
