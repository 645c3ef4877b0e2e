"""What goes by Kafka and by webhook, for machines: AsyncAPI 3.0 around the JSON Schemas as they are served."""

from collections.abc import Iterable
from typing import Any

import orjson
from django.conf import settings

from messaging import schema
from messaging.cloudevents import MEDIA_TYPE
from messaging.openapi import event_examples as examples

OVERVIEW = """\
Every record and every request is a CloudEvent 1.0 in structured JSON. At least once: deduplicate by its `id`. On Kafka
the events of one subject come in the order of their `sequence`; webhooks have no order, so ignore one whose `sequence`
is not above the last of its subject. Numbers are masked, and no text or code is ever in an event.
"""
SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"


def document() -> dict[str, Any]:
    known = settings.SPECTACULAR_SETTINGS
    return {
        "asyncapi": "3.0.0",
        "info": {"title": known["TITLE"], "version": known["VERSION"], "description": OVERVIEW},
        "defaultContentType": MEDIA_TYPE,
        "servers": SERVERS,
        "channels": {
            "messaging.events": {
                "address": settings.KAFKA_EVENTS_TOPIC,
                "description": "What became of messages, verifications, webhook endpoints and providers.",
                "servers": [_ref("servers/kafka")],
                "messages": _messages("event", examples.records()),
            },
            "messaging.commands": {
                "address": settings.KAFKA_COMMANDS_TOPIC,
                "description": "Whoever may write here may send as any client that has Kafka switched on.",
                "servers": [_ref("servers/kafka")],
                "messages": _messages("command", examples.commands()),
            },
            "messaging.commands.dlq": {
                "address": settings.KAFKA_DLQ_TOPIC,
                "description": "Commands that were not carried out, as they came: they may hold numbers and texts.",
                "servers": [_ref("servers/kafka")],
                "messages": {"dead_letter": DEAD_LETTER},
            },
            "webhook": {
                "address": None,
                "description": "The `url` of an endpoint, for the events of its client that it wants.",
                "servers": [_ref("servers/receiver")],
                "messages": _messages("webhook", examples.requests()),
            },
        },
        "operations": {
            "publish_events": _operation("send", "messaging.events", "Tell what happened."),
            "take_commands": _operation("receive", "messaging.commands", "Carry a command out, once by its `id`."),
            "bury_commands": _operation("send", "messaging.commands.dlq", "Tell what was not carried out, and why."),
            "post_webhooks": _operation("send", "webhook", "Post an event, signed, until it is answered 2xx.")
            | {"bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}}},
        },
        "components": {
            "schemas": {
                _stem(file): {"schemaFormat": SCHEMA_FORMAT, "schema": orjson.loads(text)}
                for file, text in schema.files().items()
            },
            "messageTraits": TRAITS,
            "securitySchemes": SECURITY,
        },
    }


def _ref(place: str) -> dict[str, str]:
    return {"$ref": f"#/{place}"}


def _stem(file: str) -> str:
    return file.removesuffix(".json")


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": _ref(f"channels/{channel}"), "summary": summary}


def _messages(trait: str, shown: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One for each schema that an example keeps to."""
    entries = {entry["type"]: entry for entry in schema.catalogue()}
    found: dict[str, Any] = {}
    for example in shown:
        entry = entries[example["name"]]
        name = _stem(entry["schema"])
        message = {
            "name": name,
            "title": entry["title"],
            "payload": _ref(f"components/schemas/{name}"),
            "traits": [_ref(f"components/messageTraits/{trait}")],
            "examples": [],
        }
        found.setdefault(name, message)["examples"].append(example)
    return found


def _headers(told: dict[str, str]) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": text} for name, text in told.items()}
    return {"type": "object", "required": [*told], "properties": properties}


def _key(text: str) -> dict[str, Any]:
    return {"kafka": {"key": {"type": "string", "description": text}, "bindingVersion": "0.5.0"}}


def _variable(default: str, text: str) -> dict[str, str]:
    return {"default": default, "description": text}


SERVERS = {
    "kafka": {
        "host": "{bootstrap}",
        "protocol": "kafka-secure",
        "description": "SASL_SSL or mutual TLS, as the operator has set it up.",
        "variables": {
            "bootstrap": _variable("kafka.example.com:9093", "`KAFKA_BOOTSTRAP_SERVERS` of the installation.")
        },
        "security": [
            _ref(f"components/securitySchemes/{name}") for name in ("scram_512", "scram_256", "plain", "mtls")
        ],
    },
    "receiver": {
        "host": "{host}",
        "pathname": "/{path}",
        "protocol": "https",
        "description": "A service of the client. Redirects are not followed, private networks are refused.",
        "variables": {
            "host": _variable("example.com", "Of the endpoint's `url`."),
            "path": _variable("webhooks/sms", "Of the endpoint's `url`."),
        },
        "security": [_ref("components/securitySchemes/signature")],
    },
}
SECURITY = {
    "scram_512": {"type": "scramSha512", "description": "SASL_SSL with SCRAM-SHA-512, the default."},
    "scram_256": {"type": "scramSha256", "description": "SASL_SSL with SCRAM-SHA-256."},
    "plain": {"type": "plain", "description": "SASL_SSL with PLAIN."},
    "mtls": {"type": "X509", "description": "Mutual TLS: SSL with a client certificate."},
    "signature": {
        "type": "httpApiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks, with the secret of the endpoint: verify it before anything else.",
    },
}
TRAITS = {
    "event": {
        "headers": _headers(
            {
                "content-type": "`application/cloudevents+json; charset=UTF-8`.",
                "ce_id": "The event's `id`.",
                "ce_type": "Its `type`.",
                "ce_sequence": "Its `sequence`.",
            }
        ),
        "bindings": _key("The event's `subject`."),
    },
    "command": {"bindings": _key("The command's `subject` where it has one: these keep their order. Otherwise none.")},
    "webhook": {
        "headers": _headers(
            {
                "Content-Type": "`application/cloudevents+json; charset=UTF-8`.",
                "webhook-id": "The event's `id`, the same on every try and every replay.",
                "webhook-timestamp": "Seconds of this try: refuse what is older than five minutes.",
                "webhook-signature": "`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; during a rotation "
                "several, with spaces between.",
            }
        ),
    },
}
DEAD_LETTER = {
    "name": "dead_letter",
    "title": "A command that was not carried out",
    "contentType": "application/octet-stream",
    "payload": {"description": "The value as it came, whatever it is; cut off where it was too large."},
    "headers": _headers(
        {
            "dlq-reason": "Why, in one word: `invalid_json`, `unknown_client`, `no_route`, ...",
            "dlq-detail": "Which field, never its value; it may be empty.",
            "dlq-topic": "Where it came from.",
            "dlq-partition": "Its partition there.",
            "dlq-offset": "Its offset there.",
            "dlq-truncated": "`true` or `false`: was the value cut off?",
        }
    ),
    "bindings": _key("As it came."),
    "examples": [examples.DEAD_LETTER],
}
