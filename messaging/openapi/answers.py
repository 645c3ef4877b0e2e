"""What answers look like. The doors write them by hand; the messaging tests hold every one against these."""

from rest_framework import serializers

from messaging.explain import BREAKER
from messaging.states import AttemptStatus, MessageClass, Status
from routing import lcr
from routing.encoding import LEVELS

#: Why one field of a request is refused.
FIELD_ERRORS = (
    "address_refused",
    "bad_character",
    "bad_choice",
    "bad_format",
    "bad_name",
    "empty",
    "missing_parameter",
    "needs_since",
    "needs_template",
    "not_a_number",
    "not_e164",
    "not_https",
    "not_possible",
    "not_valid",
    "one_of",
    "out_of_range",
    "repeated",
    "required",
    "too_long",
    "too_many",
    "unknown_field",
    "unknown_parameter",
    "unknown_profile",
    "unknown_purpose",
    "unknown_template",
    "wrong_type",
)
#: Why a provider of a quote is not taken.
REASONS = sorted({BREAKER, *lcr.REASONS} - {"already_tried"})


class Money(serializers.Serializer):
    amount = serializers.CharField(help_text="A decimal number, in a string.")
    currency = serializers.CharField(help_text="ISO 4217.")


class Accepted(serializers.Serializer):
    """A message as it was stored."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField([*Status])
    to = serializers.CharField(help_text="E.164 with the plus.")
    country = serializers.CharField(help_text="ISO 3166 alpha-2 (XK for Kosovo).")
    sender = serializers.CharField()
    encoding = serializers.ChoiceField(["gsm7", "ucs2"])
    segments = serializers.IntegerField(min_value=1)
    estimated_cost = Money(help_text="The price of the cheapest provider when it was accepted.")
    max_price = serializers.CharField(
        allow_null=True, help_text="The most that it may cost, in the reporting currency; null: anything."
    )
    reference = serializers.CharField()
    metadata = serializers.DictField(child=serializers.CharField())
    possible_duplicate = serializers.BooleanField(help_text="It may have gone out twice.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="It is not sent later than this.")

    def get_fields(self) -> dict[str, serializers.Field]:
        return {**super().get_fields(), "class": serializers.ChoiceField([*MessageClass])}


class AttemptAnswer(serializers.Serializer):
    """One submit to one provider."""

    provider = serializers.CharField()
    status = serializers.ChoiceField([*AttemptStatus])
    error_code = serializers.CharField(help_text="Why it was not taken; empty otherwise.")
    receipt_status = serializers.CharField(help_text="What the provider reported last; empty before that.")
    price = serializers.CharField(allow_null=True, help_text="Per segment, as our price list has it.")
    cost = serializers.CharField(allow_null=True, help_text="What the provider charged, where it says so.")
    currency = serializers.CharField()
    segments = serializers.IntegerField(min_value=1)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class MessageAnswer(Accepted):
    """A message as it is now, with every submit to a provider."""

    error_code = serializers.CharField(help_text="Why it failed; empty otherwise.")
    receipt_overdue = serializers.BooleanField(help_text="No receipt came for 72 hours.")
    sent_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    attempts = AttemptAnswer(many=True)


class MessageList(serializers.Serializer):
    results = MessageAnswer(many=True)
    next_cursor = serializers.CharField(allow_null=True, help_text="`cursor` of the next page; null on the last one.")


class FieldProblem(serializers.Serializer):
    field = serializers.CharField(help_text="An entry of an object has its owner in front: `metadata.order`.")
    code = serializers.ChoiceField([*FIELD_ERRORS])
    message = serializers.CharField(help_text="For people; it may change.")


class Problem(serializers.Serializer):
    """RFC 9457 problem details. `code` is stable; `title` and `detail` are for people and may change."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField(required=False)
    retry_after = serializers.IntegerField(required=False, min_value=1, help_text="Seconds, as in `Retry-After`.")
    request_id = serializers.CharField(
        required=False, help_text="With a status of 500 and above: what support asks for."
    )

    def get_fields(self) -> dict[str, serializers.Field]:
        return {**super().get_fields(), "errors": FieldProblem(many=True, required=False)}  # not its own `errors`


class BatchResult(serializers.Serializer):
    """One of `id` and `error`."""

    index = serializers.IntegerField(min_value=0, help_text="The place of the message in the batch, from 0.")
    id = serializers.UUIDField(required=False)
    error = Problem(required=False, help_text="What this message would have been answered with alone.")


class BatchAnswer(serializers.Serializer):
    accepted = serializers.IntegerField(min_value=0)
    rejected = serializers.IntegerField(min_value=0)
    results = BatchResult(many=True)


class QuoteCandidate(serializers.Serializer):
    provider = serializers.CharField()
    price = serializers.CharField(allow_null=True, help_text="Per segment.")
    currency = serializers.CharField()
    total = serializers.CharField(allow_null=True, help_text="For the whole text.")
    by = serializers.CharField(
        required=False,
        help_text="What the price is for: `network 255-01`, `prefix 38067`, `mcc 255` or `country UA`; `dearest` of "
        "the country's networks where the number's is not known.",
    )
    reason = serializers.ChoiceField(
        [*REASONS], required=False, help_text="Why it is not taken, or only when the others cannot be."
    )


class TransliterationAnswer(serializers.Serializer):
    level = serializers.ChoiceField([*LEVELS], help_text="What is written otherwise.")
    applied = serializers.BooleanField(help_text="False: it would be, if the client allowed it.")
    segments_before = serializers.IntegerField(min_value=1)
    segments_after = serializers.IntegerField(min_value=1)


class QuoteAnswer(serializers.Serializer):
    country = serializers.CharField()
    network = serializers.CharField(allow_null=True, help_text="MCC-MNC; null where it is not known.")
    encoding = serializers.ChoiceField(["gsm7", "ucs2"])
    segments = serializers.IntegerField(min_value=1)
    transliteration = TransliterationAnswer(allow_null=True, help_text="Null where it saves no segment.")
    rules = serializers.ListField(child=serializers.CharField(), help_text="The routing rules that match.")
    chosen = serializers.CharField(allow_null=True, help_text="Who would carry it; null: nobody may.")
    candidates = QuoteCandidate(many=True, help_text="In the order in which a message would be offered to them now.")


class Health(serializers.Serializer):
    status = serializers.ChoiceField(["ok"])


class Readiness(Health):
    database = serializers.ChoiceField(["ok"])


class SchemaOfType(serializers.Serializer):
    type = serializers.CharField()
    title = serializers.CharField()
    schema = serializers.URLField()


class SchemaList(serializers.Serializer):
    schemas = SchemaOfType(many=True)
