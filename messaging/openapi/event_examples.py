"""Events, commands and a dead letter as they are on the wire; tests hold them against schemas, headers and docs."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from messaging.cloudevents import CONTENT_TYPE, Told, encode
from messaging.openapi.webhooks import CREATED, ENDPOINT_ID
from messaging.webhooks import signatures

CLIENT = "core-backend"
MESSAGE_ID = "01a204db-72b7-7397-8e7c-b07f87b6ab01"
REFERENCE = "Zk3vQ8mN1xR7tYbL0pWc5A"
AT = datetime(2026, 11, 22, 20, 3, 40, 727000, UTC)


def _told(
    last: str, type_: str, subject: str, sequence: int, data: dict[str, Any], client: str | None = CLIENT
) -> Told:
    event_id = uuid.UUID(f"01a204db-7437-7705-a413-a08be4c158{last}")
    return Told(event_id, type_, subject, sequence, client, AT, orjson.dumps(data).decode())


_DELIVERED = {
    "id": MESSAGE_ID,
    "class": "transactional",
    "status": "delivered",
    "country": "UA",
    "provider": "carrier-a",
    "segments": 1,
    "reference": "order-4711",
    "to_masked": "+380******567",
    "possible_duplicate": False,
}
_CANCELLED = {
    "reference": REFERENCE,
    "status": "cancelled",
    "purpose": "login",
    "country": "UA",
    "to_masked": "+380******567",
    "sends": 1,
    "checks": 0,
    "reason": "newer_start",
}
_DOWN = {"provider": "carrier-a", "country": "UA", "reason": "timeouts"}
EVENTS = (
    _told("ec", "message.delivered", MESSAGE_ID, 3, _DELIVERED),
    _told("ed", "verification.cancelled", REFERENCE, 1, _CANCELLED),
    _told("ee", "webhook.disabled", ENDPOINT_ID, 1, {"endpoint": ENDPOINT_ID, "reason": "gone"}),
    _told("ef", "provider.down", "carrier-a", 7, _DOWN, client=None),
)
TEST = _told("f0", "webhook.test", ENDPOINT_ID, 2, {"endpoint": ENDPOINT_ID})  # by webhook alone


def _command(kind: str, key: str, subject: str, **data: Any) -> dict[str, Any]:
    found = {"specversion": "1.0", "type": f"messaging.{kind}", "source": CLIENT, "id": key, "subject": subject}
    return {**found, "data": data}


COMMANDS = (
    _command(
        *("message.send", "6f1c1d0e-5a56-4a1e-9d9e-0f3d5f3a7b11", "order-4711"),
        to="+380501234567",
        text="Your transfer has arrived.",
        reference="order-4711",
    ),
    _command(
        *("message.cancel", "0b0e7c1c-8f0e-4a53-9d0b-5f0f8d4f6a02", "order-4711"),
        command_id="6f1c1d0e-5a56-4a1e-9d9e-0f3d5f3a7b11",
    ),
    _command(
        *("contact.trust", "b7a9d6de-6a3f-4b0e-8a53-0a4a1f0c2d11", "customer-815"),
        to="+380501234567",
        reason="Seen in person",
        expires_at="2030-01-01T00:00:00Z",
    ),
)
DEAD_LETTER = {
    "name": "kafka_disabled",
    "headers": {
        "dlq-reason": "kafka_disabled",
        "dlq-detail": "",
        "dlq-topic": "messaging.commands",
        "dlq-partition": "3",
        "dlq-offset": "1024",
        "dlq-truncated": "false",
    },
    "payload": COMMANDS[0],
}


def records() -> Iterator[dict[str, Any]]:
    for told in EVENTS:
        headers = {"ce_id": str(told.id), "ce_type": told.type, "ce_sequence": str(told.sequence)}
        yield _example(told, {"content-type": CONTENT_TYPE, **headers})


def commands() -> Iterator[dict[str, Any]]:
    for command in COMMANDS:
        yield {"name": command["type"], "payload": command}


def requests() -> Iterator[dict[str, Any]]:
    """Signed with the secret that the API's example shows."""
    for told in (*EVENTS, TEST):
        if told.client:
            signed = signatures.headers([CREATED["secret"]], str(told.id), told.created_at, encode(told))
            yield _example(told, {"Content-Type": CONTENT_TYPE, **signed})


def _example(told: Told, headers: dict[str, str]) -> dict[str, Any]:
    return {"name": told.type, "headers": headers, "payload": orjson.loads(encode(told))}
