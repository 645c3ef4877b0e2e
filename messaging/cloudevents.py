"""The envelope of every event: CloudEvents 1.0, structured JSON. Webhooks and Kafka carry the same bytes."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime

import orjson
from django.conf import settings

from messaging.models import rfc3339

MEDIA_TYPE = "application/cloudevents+json"
CONTENT_TYPE = f"{MEDIA_TYPE}; charset=UTF-8"
SCHEMAS_PATH = "/api/events/schemas/"
SPEC_VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the outbox; `client` is the slug of the client whose message it is about, if any."""

    id: uuid.UUID
    type: str
    subject: str
    sequence: int
    client: str | None
    created_at: datetime
    data: str = field(repr=False)  # JSON, as the database has it


def encode(event: Told) -> bytes:
    envelope = {
        "specversion": SPEC_VERSION,
        "id": str(event.id),
        "source": settings.PUBLIC_URL,
        "type": event.type,
        "subject": event.subject,
        "time": rfc3339(event.created_at),
        "datacontenttype": "application/json",
        "dataschema": schema_url(event.type),
        "sequence": event.sequence,
        "data": orjson.Fragment(event.data),
    }
    if event.client is not None:
        envelope["client"] = event.client
    return orjson.dumps(envelope)


def schema_url(event_type: str) -> str:
    return f"{settings.PUBLIC_URL}{SCHEMAS_PATH}{event_type.partition('.')[0]}.event.v1.json"
