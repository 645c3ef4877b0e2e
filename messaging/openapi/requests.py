"""What requests look like. The doors read them by hand (`drafts`): these document, and a test holds both alike."""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from messaging import drafts
from messaging.states import MessageClass
from routing import encoding, numbers

TO = re.compile(r"\+[0-9]([ .()-]*[0-9])*")


def ecma(pattern: re.Pattern[str]) -> str:
    """The expression as JSON Schema writes one that must match the whole."""
    return f"^(?:{pattern.pattern})$"


class Text(serializers.CharField):
    """A string as it stands: nothing is cut off it, and no other type becomes one."""

    def __init__(self, *, pattern: re.Pattern[str] | None = None, **options: Any) -> None:
        super().__init__(trim_whitespace=False, required=options.pop("required", False), **options)
        self.pattern = pattern

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or (self.pattern and not self.pattern.fullmatch(data)):
            raise ValidationError("Not a string of the expected form.")
        return data


class Body(Text):
    """The text of a message."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not text.strip() or encoding.measure(text).segments > drafts.MAX_SEGMENTS:
            raise ValidationError("It is empty or too long.")
        return text


class PhoneNumber(Text):
    def to_internal_value(self, data: Any) -> str:
        try:
            return numbers.parse(super().to_internal_value(data)).msisdn
        except numbers.InvalidNumber as error:
            raise ValidationError(error.reason) from None


class Seconds(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            raise ValidationError("Not a whole number.")
        return data


class Instant(serializers.DateTimeField):
    def to_internal_value(self, value: Any) -> datetime:
        try:
            return drafts.parse_moment(value)
        except ValueError:
            raise ValidationError("No ISO 8601 date and time with its offset.") from None


class Moment(Instant):
    def to_internal_value(self, value: Any) -> datetime:
        moment = super().to_internal_value(value)
        if moment > datetime.now(UTC) + drafts.MAX_AHEAD:
            raise ValidationError("Too far ahead.")
        return moment


class Strings(serializers.DictField):
    """An object of strings."""

    def __init__(self, *, names: re.Pattern[str], longest: int, **options: Any) -> None:
        super().__init__(child=Text(max_length=longest, allow_blank=True), required=False, **options)
        self.names = names
        self.most = drafts.MAX_ENTRIES

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if isinstance(data, dict) and len(data) > self.most:
            raise ValidationError("Too many entries.")
        return super().to_internal_value(data)

    def run_child_validation(self, data: Mapping[str, Any]) -> Any:
        errors = {}
        for name, value in data.items():
            try:
                self.child.run_validation(value)
                Text(pattern=self.names).run_validation(name)
            except ValidationError as error:
                errors[name] = error.detail
        if errors:
            raise ValidationError(errors)
        return data


class Strict(serializers.Serializer):
    """An object without other fields than these, all of whose errors are told at once."""

    #: JSON Schema for what no field can say.
    rules: ClassVar[dict[str, Any]] = {}

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        return False, data  # null is no object, like any other

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValidationError({"": "No object."})
        errors: dict[str, Any] = {
            drafts.clean(name): "There is no such field." for name in data.keys() - self.fields.keys()
        }
        errors |= {name: "It does not go with the others." for name in self.clashes(data)}
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            errors |= self._named(cast(dict[str, Any], error.detail))
        if errors:
            raise ValidationError(errors)
        return value

    def clashes(self, data: Mapping[str, Any]) -> Collection[str]:
        """The fields that are wrong because of others."""
        return ()

    @staticmethod
    def _named(detail: dict[str, Any]) -> dict[str, Any]:
        """The wrong fields as the doors name them: an entry of an object with its owner in front."""
        found: dict[str, Any] = {}
        for name, inner in detail.items():
            if isinstance(inner, dict):
                found |= {f"{name}.{drafts.clean(entry)}": errors for entry, errors in inner.items()}
            else:
                found[name] = inner
        return found


class Messages(serializers.ListField):
    """Messages of a batch: each of them is judged for itself, and a wrong one does not refuse the others."""

    def run_child_validation(self, data: list[Any]) -> list[Any]:
        return data


class QuoteRequest(Strict):
    to = PhoneNumber(
        required=True,
        max_length=numbers.LONGEST,
        pattern=TO,
        help_text="With plus and country code. Spaces, hyphens, dots and brackets between digits are dropped.",
    )
    text = Body(required=True, min_length=1, max_length=drafts.MAX_TEXT, help_text="At most 10 segments.")
    max_price = Text(
        pattern=drafts.PRICE,
        help_text="The most that the message may cost, in the reporting currency: no provider above it is taken.",
    )
    sender = Text(
        pattern=drafts.SENDER,
        help_text="What the handset shows: 1 to 11 characters with a letter among them, or 3 to 15 digits. "
        "Default: the client's.",
    )

    def get_fields(self) -> dict[str, serializers.Field]:
        choice = serializers.ChoiceField([*MessageClass], default="transactional", help_text="How urgent it is.")
        return {**super().get_fields(), "class": choice}  # a keyword is no name of an attribute


class MessageRequest(QuoteRequest):
    text = Body(
        min_length=1, max_length=drafts.MAX_TEXT, help_text="Exactly one of text and template; at most 10 segments."
    )
    template = Text(pattern=drafts.TEMPLATE, help_text="The name of a template, filled in with `params`.")
    params = Strings(
        names=drafts.PARAMETER, longest=drafts.MAX_TEXT, help_text="Exactly the parameters that the template names."
    )
    locale = Text(
        pattern=drafts.LOCALE,
        max_length=drafts.LONGEST_LOCALE,
        help_text="The language of the template: `pt-BR` falls back to `pt`, then to `en`.",
    )
    send_at = Moment(
        required=False,
        help_text="Not before this time, at most 90 days ahead, with its offset. A time in the past means now.",
    )
    validity_seconds = Seconds(
        required=False,
        min_value=drafts.SHORTEST_VALIDITY,
        max_value=drafts.LONGEST_VALIDITY,
        help_text="From `send_at` or now; after it the message is not sent. "
        "Default: 600 (otp), 14400 (transactional), 86400 (bulk).",
    )
    reference = Text(
        max_length=drafts.LONGEST_REFERENCE,
        allow_blank=True,
        help_text="Your own name for it; the list can be filtered by it. It need not be unique.",
    )
    metadata = Strings(
        names=drafts.METADATA, longest=drafts.LONGEST_ENTRY, help_text="Comes back with the message and its events."
    )

    rules = {
        "oneOf": [{"required": ["text"]}, {"required": ["template"]}],
        "dependentRequired": {"params": ["template"]},
    }

    def clashes(self, data: Mapping[str, Any]) -> Collection[str]:
        found = {"text"} if ("text" in data) == ("template" in data) else set()
        return found | ({"params"} if "params" in data and "template" not in data else set())


class BatchRequest(Strict):
    messages = Messages(child=MessageRequest(), min_length=1, max_length=drafts.MAX_BATCH)
