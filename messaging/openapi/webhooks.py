"""The calls of webhook endpoints: words, requests, answers and examples for the document (OPENAPI_CALLS)."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from messaging.openapi.calls import Call, page_query
from messaging.openapi.requests import Instant, Seconds, Strict, Text
from messaging.webhook_models import REASONS, STATUSES
from messaging.webhook_views import CURSOR
from messaging.webhooks import addresses, drafts, signatures

TAG = "Webhooks"
ENDPOINT_ID = "01a20410-8529-7221-9a27-27e3aec8a0f1"
EVENT_ID = "01a20410-8530-7b12-8c44-51d0a2f6b7e8"


# --- requests -------------------------------------------------------------------------------------


class Url(Text):
    def __init__(self, **options: Any) -> None:
        text = "`https://`, without user name and fragment. Where its name leads is checked at every connection."
        super().__init__(pattern=drafts.URL, max_length=addresses.LONGEST_URL, help_text=text, **options)

    def to_internal_value(self, data: Any) -> str:
        url = super().to_internal_value(data)
        if addresses.problem(url)[0]:
            raise ValidationError("Not an address that can be used.")
        return url


class Wanted(serializers.ListField):
    """Types of events, `message.*` or `*`."""

    def __init__(self, **options: Any) -> None:
        choice = serializers.ChoiceField([*drafts.WANTED])
        super().__init__(child=choice, required=False, min_length=1, max_length=drafts.MOST_EVENTS, **options)

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, list) or not all(isinstance(entry, str) for entry in data):
            raise ValidationError("No list of strings.")
        if not set(data) <= set(drafts.WANTED):
            raise ValidationError("Not all of them are events.")
        return super().to_internal_value(data)


class EndpointChange(Strict):
    url = Url()
    events = Wanted(help_text='Which events; default `["*"]`.')
    description = Text(max_length=drafts.LONGEST_DESCRIPTION, allow_blank=True, help_text="For people.")


class EndpointRequest(EndpointChange):
    url = Url(required=True)


class RotateRequest(Strict):
    overlap_seconds = Seconds(
        required=False,
        min_value=0,
        max_value=signatures.LONGEST_OVERLAP,
        help_text=f"For so long the secrets before sign as well; default {signatures.OVERLAP}. 0: they end at once.",
    )


class Recent(Instant):
    def to_internal_value(self, value: Any) -> datetime:
        moment = super().to_internal_value(value)
        if moment < datetime.now(UTC) - drafts.LONGEST_REPLAY:
            raise ValidationError("Too long ago.")
        return moment


class Flag(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise ValidationError("Neither true nor false.")
        return data


class ReplayRequest(Strict):
    event_id = Text(pattern=drafts.EVENT_ID, help_text="One event, whatever the endpoint wants otherwise.")
    since = Recent(required=False, help_text="All that the endpoint wants, from this time on; at most 31 days ago.")
    until = Instant(required=False, help_text="... to this time; default: now.")
    failed_only = Flag(
        required=False, help_text="Only what was given up or never tried: not what was delivered or still is tried."
    )

    rules = {
        "oneOf": [{"required": ["event_id"]}, {"required": ["since"]}],
        "dependentRequired": {"until": ["since"], "failed_only": ["since"]},
    }

    def clashes(self, data: Mapping[str, Any]) -> Collection[str]:
        found = {"since"} if ("event_id" in data) == ("since" in data) else set()
        return found | ({"until", "failed_only"} & data.keys() if "since" not in data else set())


# --- answers --------------------------------------------------------------------------------------


class EndpointAnswer(serializers.Serializer):
    """An endpoint. Its secret is shown where it is made, and never again."""

    id = serializers.UUIDField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField())
    description = serializers.CharField()
    enabled = serializers.BooleanField(help_text="A disabled one gets nothing; what waits for it goes on later.")
    disabled_reason = serializers.ChoiceField(
        ["", *(word for word, _ in REASONS)],
        help_text="`gone`: it answered 410. `failing`: nothing but failures for five days.",
    )
    disabled_at = serializers.DateTimeField(allow_null=True)
    failing_since = serializers.DateTimeField(allow_null=True, help_text="Since then every try failed.")
    last_success_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    last_failure_at = serializers.DateTimeField(allow_null=True)
    last_error = serializers.CharField(help_text="Why the last failure failed; empty: there was none.")
    created_at = serializers.DateTimeField()


class SecretAnswer(EndpointAnswer):
    secret = serializers.CharField(
        required=False,
        help_text="`whsec_...`: keep it. A repeat under the same Idempotency-Key shows it again, for as long as the "
        "installation has the key that it is stored under.",
    )


class EndpointList(serializers.Serializer):
    results = EndpointAnswer(many=True)


class EventAnswer(serializers.Serializer):
    event_id = serializers.UUIDField(help_text="What the test will have as `webhook-id`.")


class ReplayAnswer(serializers.Serializer):
    """What will be sent again."""

    event_id = serializers.UUIDField(required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
    failed_only = serializers.BooleanField(required=False)


class WebhookAttemptAnswer(serializers.Serializer):
    """One request to the endpoint, and where its event stands."""

    event_id = serializers.UUIDField(help_text="The `webhook-id`.")
    type = serializers.CharField()
    subject = serializers.CharField(help_text="Id of the message, reference of the verification.")
    number = serializers.IntegerField(min_value=1, help_text="Since the beginning or the last replay.")
    started_at = serializers.DateTimeField()
    seconds = serializers.FloatField()
    http_status = serializers.IntegerField(allow_null=True)
    error_code = serializers.CharField(help_text="Empty: delivered.")
    delivery_status = serializers.ChoiceField([word for word, _ in STATUSES])
    next_at = serializers.DateTimeField(allow_null=True, help_text="When it is tried again.")


class AttemptList(serializers.Serializer):
    results = WebhookAttemptAnswer(many=True)
    next_cursor = serializers.CharField(allow_null=True, help_text="`cursor` of the next page; null on the last one.")


# --- examples -------------------------------------------------------------------------------------

REQUEST: dict[str, Any] = {
    "url": "https://example.com/webhooks/sms",
    "events": ["message.delivered", "message.undelivered", "verification.*"],
    "description": "Core backend",
}
ENDPOINT: dict[str, Any] = {
    "id": ENDPOINT_ID,
    **REQUEST,
    "enabled": True,
    "disabled_reason": "",
    "disabled_at": None,
    "failing_since": None,
    "last_success_at": None,
    "last_failure_at": None,
    "last_error": "",
    "created_at": "2026-11-22T16:22:01.258Z",
}
# Not one that anything was ever signed with: the bytes 0 to 31.
CREATED: dict[str, Any] = ENDPOINT | {"secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
DISABLED: dict[str, Any] = ENDPOINT | {
    "enabled": False,
    "disabled_reason": "client",
    "disabled_at": "2026-11-22T17:00:00.000Z",
}
ATTEMPT: dict[str, Any] = {
    "event_id": EVENT_ID,
    "type": "message.delivered",
    "subject": "01a20410-8529-7221-9a27-27e3aec8a03c",
    "number": 1,
    "started_at": "2026-11-22T16:22:03.401Z",
    "seconds": 0.042,
    "http_status": 500,
    "error_code": "http_500",
    "delivery_status": "pending",
    "next_at": "2026-11-22T16:22:08.713Z",
}
SINCE: dict[str, Any] = {"since": "2026-11-22T12:00:00Z", "failed_only": True}
REPLAYING: dict[str, Any] = {
    "since": "2026-11-22T12:00:00.000Z",
    "until": "2026-11-22T16:30:00.000Z",
    "failed_only": True,
}

_call = partial(Call, tag=TAG)
_shown = partial(_call, answer=EndpointAnswer, answer_example=ENDPOINT)

#: By the name of the view and the method.
CALLS = {
    "WebhookEndpointsView POST": _call(
        name="create_webhook_endpoint",
        summary="Create a webhook endpoint",
        text="From now on events of the client go there, signed by Standard Webhooks with the secret of the answer. "
        "A client may have 20.",
        status=201,
        answer=SecretAnswer,
        answer_example=CREATED,
        body=EndpointRequest,
        body_examples={"Some events": REQUEST},
    ),
    "WebhookEndpointsView GET": _call(
        name="list_webhook_endpoints",
        summary="List webhook endpoints",
        text="One's own, the oldest first.",
        answer=EndpointList,
        answer_example={"results": [ENDPOINT]},
    ),
    "WebhookEndpointView GET": _shown(
        name="get_webhook_endpoint",
        summary="Read a webhook endpoint",
        text="With its health. One of another client answers like one that does not exist.",
    ),
    "WebhookEndpointView PATCH": _shown(
        name="update_webhook_endpoint",
        summary="Change a webhook endpoint",
        text="What is not named stays. What waits goes to the new address.",
        body=EndpointChange,
        body_examples={"Everything": {"events": ["*"]}},
    ),
    "WebhookEndpointView DELETE": _call(
        name="delete_webhook_endpoint",
        summary="Delete a webhook endpoint",
        text="What waits for it is not sent.",
        status=204,
    ),
    "WebhookRotateView POST": _call(
        name="rotate_webhook_secret",
        summary="Get a new secret",
        text="While the secret before signs as well, every request has both signatures: a receiver may change over at "
        "any moment of that time.",
        answer=SecretAnswer,
        answer_example=CREATED,
        body=RotateRequest,
        body_examples={"An hour": {"overlap_seconds": 3600}},
    ),
    "WebhookDisableView POST": _shown(
        name="disable_webhook_endpoint",
        summary="Disable a webhook endpoint",
        text="What waits for it goes on when it is enabled; what happens meanwhile can be replayed. "
        "A body is not read.",
        answer_example=DISABLED,
    ),
    "WebhookEnableView POST": _shown(
        name="enable_webhook_endpoint",
        summary="Enable a webhook endpoint",
        text="Also one that was disabled because it was gone or failing. A body is not read.",
    ),
    "WebhookTestView POST": _call(
        name="test_webhook_endpoint",
        summary="Send a test event",
        text="A `webhook.test`, whatever the endpoint wants otherwise. A body is not read.",
        status=202,
        answer=EventAnswer,
        answer_example={"event_id": EVENT_ID},
    ),
    "WebhookReplayView POST": _call(
        name="replay_webhooks",
        summary="Send events once more",
        text="One, or all of a time; each begins anew with all its tries, under the same `webhook-id`. `202`: it will "
        "be done in the background.",
        status=202,
        answer=ReplayAnswer,
        answer_example=REPLAYING,
        body=ReplayRequest,
        body_examples={"One event": {"event_id": EVENT_ID}, "What was missed": SINCE},
    ),
    "WebhookAttemptsView GET": _call(
        name="list_webhook_attempts",
        summary="List attempts",
        text="Every request to the endpoint, newest first, for as long as its delivery is kept (7 days by default).",
        answer=AttemptList,
        answer_example={"results": [ATTEMPT], "next_cursor": "4711"},
        query=page_query(CURSOR),
    ),
}

PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "endpoint_id": {
        "description": "`id` of the endpoint.",
        "schema": {"type": "string", "format": "uuid"},
        "example": ENDPOINT_ID,
    },
}
