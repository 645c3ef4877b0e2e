"""What each call is for, in words. How it may be refused stands beside its view; the rest follows from the code."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from rest_framework.serializers import Serializer

from messaging import drafts, idempotency, views
from messaging.openapi import examples
from messaging.openapi.answers import (
    Accepted,
    BatchAnswer,
    Health,
    MessageAnswer,
    MessageList,
    QuoteAnswer,
    Readiness,
    SchemaList,
)
from messaging.openapi.requests import BatchRequest, MessageRequest, QuoteRequest, ecma
from messaging.states import Status
from routing import numbers

JSON = "application/json"
SAMPLES = Path(settings.BASE_DIR) / "templates" / "api"

OVERVIEW = """\
Sends SMS through several providers: the cheapest one that works, and the next one when it fails.

**Keys.** Every call of Messages, Verifications and Quotes carries `Authorization: Bearer mx_live_<id>_<secret>`.
Press *Authorize*, paste a key, and every example of this page runs against this installation: it really sends.

**Once.** `202` means stored durably. With an `Idempotency-Key` a request can be repeated safely for 7 days: after a
time-out or a 5xx, repeat it with the same key and body.

**Strict.** Unknown fields and parameters are refused, so that a typing mistake cannot change what a request means.
Times are RFC 3339 in UTC, money is a decimal number in a string, numbers are E.164 with the plus.

**Events.** What comes by webhook and Kafka: [`/api/events/asyncapi.json`](/api/events/asyncapi.json), AsyncAPI 3.0.

**Errors.** Every error is `application/problem+json` (RFC 9457) with a stable `code`. Any call may also be answered
`405 method_not_allowed`; an address that does not exist is answered `404 not_found`.
"""


@dataclass(frozen=True)
class Call:
    name: str  # operationId: generators name functions by it
    tag: str
    summary: str
    text: str
    status: int = 200
    answer: type[Serializer] | None = None
    answer_example: Any = None
    body: type[Serializer] | None = None
    body_examples: dict[str, Any] = field(default_factory=dict)
    query: tuple[dict[str, Any], ...] = ()
    samples: tuple[tuple[str, str, str], ...] = ()  # title, language, file
    key_text: str = ""  # of a call that takes an Idempotency-Key in a way of its own
    media_types: tuple[str, ...] = (JSON,)


def query(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def page_query(cursor: re.Pattern[str]) -> tuple[dict[str, Any], ...]:
    return (
        query("limit", "How many.", type="integer", minimum=1, maximum=views.LONGEST_PAGE, default=views.PAGE),
        query("cursor", "`next_cursor` of the page before.", type="string", pattern=ecma(cursor)),
    )


#: By the name of the view and the method.
CALLS = {
    "MessagesView POST": Call(
        name="send_message",
        tag="Messages",
        summary="Send a message",
        text="Accepts one message: it is stored durably before the answer and sent a moment later, or at `send_at`. "
        "At most 64 kB.",
        status=202,
        answer=Accepted,
        answer_example=examples.ACCEPTED,
        body=MessageRequest,
        body_examples={"A text": examples.REQUEST, "Later": examples.LATER, "A template": examples.TEMPLATE},
        samples=(("curl", "sh", "send.sh"), ("Python with requests", "python", "send.py")),
    ),
    "MessagesView GET": Call(
        name="list_messages",
        tag="Messages",
        summary="List messages",
        text="One's own, newest first. Messages that arrive while you page do not move the pages.",
        answer=MessageList,
        answer_example=examples.MESSAGES,
        query=(
            query("status", "One status.", type="string", enum=[*Status]),
            query("to", "One number; the plus is written `%2B`.", type="string", maxLength=numbers.LONGEST),
            query("reference", "One reference.", type="string", minLength=1, maxLength=drafts.LONGEST_REFERENCE),
            *page_query(views.CURSOR),
        ),
    ),
    "BatchView POST": Call(
        name="send_batch",
        tag="Messages",
        summary="Send up to 1000 messages",
        text="What is right is stored although other items are wrong: `results` has the `id` or the `error` of every "
        "item, in their order, and the answer is `202` even where every item is wrong. The accepted ones are stored "
        "together: after a time-out or a 5xx either all of them are or none. At most 4 MB.",
        status=202,
        answer=BatchAnswer,
        answer_example=examples.BATCH,
        body=BatchRequest,
        body_examples={"One right, one wrong": examples.BATCH_REQUEST},
    ),
    "MessageView GET": Call(
        name="get_message",
        tag="Messages",
        summary="Read a message",
        text="With every submit to a provider, refused ones too. The text is not shown. A message of another client "
        "answers like one that does not exist.",
        answer=MessageAnswer,
        answer_example=examples.MESSAGE,
    ),
    "CancelView POST": Call(
        name="cancel_message",
        tag="Messages",
        summary="Cancel a message",
        text="While it is `scheduled` or `queued`; then it is surely not sent. Cancelling it again is answered alike. "
        "A body is not read.",
        answer=MessageAnswer,
        answer_example=examples.CANCELLED,
    ),
    "QuotesView POST": Call(
        name="quote_message",
        tag="Quotes",
        summary="Ask for a price",
        text="Every provider in the order in which a message would be offered to them now. Nothing is stored and "
        "nothing is sent. Where no candidate has a usable price the answer is `200` all the same, and the reasons "
        "say why. At most 64 kB.",
        answer=QuoteAnswer,
        answer_example=examples.QUOTE,
        body=QuoteRequest,
        body_examples={"A text": examples.QUOTE_REQUEST},
    ),
    "ReceiptView POST": Call(
        name="take_receipt",
        tag="Receipts",
        summary="Take delivery receipts",
        text="The body is what the provider documents and its signature is the key. `204` means stored: it is applied "
        "a moment later. Repeats are stored once. At most 64 kB.",
        status=204,
    ),
    "LiveView GET": Call(
        name="live",
        tag="Service",
        summary="Does the process answer?",
        text="Asks nothing and nobody.",
        answer=Health,
        answer_example={"status": "ok"},
    ),
    "ReadyView GET": Call(
        name="ready",
        tag="Service",
        summary="Can it store messages?",
        text="Asks the database. A message broker that is away does not count: sending goes on without it.",
        answer=Readiness,
        answer_example={"status": "ok", "database": "ok"},
    ),
    "MetricsView GET": Call(
        name="metrics",
        tag="Service",
        summary="What Prometheus scrapes",
        text="Counts, latencies and backlogs of the whole installation; needs `METRICS_TOKEN` as bearer where that is "
        "set. Not to be shown outside.",
        media_types=("text/plain", "application/openmetrics-text"),
    ),
    "EventSchemasView GET": Call(
        name="list_event_schemas",
        tag="Service",
        summary="List the schemas of events and commands",
        text="What comes and goes by Kafka: every type with the address of its JSON Schema.",
        answer=SchemaList,
        answer_example={
            "schemas": [
                {
                    "type": "message.delivered",
                    "title": "What became of a message",
                    "schema": "https://sms.example.com/api/events/schemas/message.event.v1.json",
                }
            ]
        },
    ),
    "EventSchemaView GET": Call(
        name="get_event_schema",
        tag="Service",
        summary="Get one of these schemas",
        text="JSON Schema 2020-12.",
        media_types=("application/schema+json",),
    ),
    "AsyncSchemaView GET": Call(
        name="get_asyncapi",
        tag="Service",
        summary="Events and commands as AsyncAPI",
        text="AsyncAPI 3.0: topics of Kafka and webhooks with their keys, headers and examples, around these schemas.",
    ),
    "SchemaView GET": Call(
        name="schema",
        tag="Service",
        summary="This document",
        text="OpenAPI 3.1, in JSON or YAML.",
        query=(query("format", "Default: what `Accept` asks for, else JSON.", type="string", enum=["json", "yaml"]),),
        media_types=(JSON, "application/yaml"),
    ),
}

PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "message_id": {
        "description": "`id` of the message.",
        "schema": {"type": "string", "format": "uuid"},
        "example": examples.ACCEPTED["id"],
    },
    "name": {
        "description": "The last part of the address in the list.",
        "schema": {"type": "string"},
        "example": "message.event.v1.json",
    },
    "provider": {
        "description": "The provider's name here.",
        "schema": {"type": "string", "pattern": "^[-a-zA-Z0-9_]+$"},
        "example": "carrier-a",
    },
    "our_reference": {
        "description": "The reference of the attempt, as it was given to the provider.",
        "schema": {"type": "string", "pattern": "^[-a-zA-Z0-9_]+$"},
        "example": "01a2041085297221",
    },
}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": 'Yours to choose: 1 to 255 visible ASCII characters; `"key"` and `key` are the same.',
    "schema": {"type": "string", "pattern": ecma(idempotency.KEY)},
    "example": "order-4711-sms",
}
