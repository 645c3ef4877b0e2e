"""What clients, staff and the provisioning file may do with endpoints; every look-up is scoped by client."""

import uuid
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from messaging.clients import Caller
from messaging.errors import Refusal, UnknownObject
from messaging.idempotency import Answer, once
from messaging.models import rfc3339, uuid7
from messaging.webhook_models import BY_CLIENT, WebhookEndpoint
from messaging.webhooks import drafts, replays, signatures
from providers.credentials import CredentialsError, under_newest_key
from providers.sql import now, rows

MOST_ENDPOINTS = 20  # of one client


class TooManyEndpoints(Refusal):
    code = "too_many_endpoints"
    status = 409
    title = "The client has as many webhook endpoints as it may"


class EndpointDisabled(Refusal):
    code = "endpoint_disabled"
    status = 409
    title = "The webhook endpoint is disabled"


class TooManyReplays(Refusal):
    code = "too_many_replays"
    status = 409
    title = "Earlier replays of this endpoint are still running"


def of_client(client_id: UUID) -> Any:
    return WebhookEndpoint.objects.filter(client_id=client_id, deleted_at=None).order_by("id")


def get(client_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """Raises UnknownObject, for what is another's too."""
    found: WebhookEndpoint | None = of_client(client_id).filter(pk=endpoint_id).first()
    if found is None:
        raise UnknownObject
    return found


def create(caller: Caller, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Raises Refusal."""

    def work() -> Answer:
        draft = drafts.read_endpoint(data, new=True)
        rows("SELECT FROM messaging_client WHERE id = %(id)s FOR NO KEY UPDATE", {"id": caller.id})
        if of_client(caller.id).count() >= MOST_ENDPOINTS:
            raise TooManyEndpoints(f"At most {MOST_ENDPOINTS}: delete one first.")
        endpoint = prepare(caller.id, draft.url or "", draft.events or ["*"], draft.description or "")
        endpoint.save(force_insert=True)
        return Answer(201, {**body(endpoint), "secret": endpoint.secrets})

    with transaction.atomic():
        return _with_secret(once(caller, "webhook_endpoint", data, idempotency_key, work))


def prepare(client_id: UUID, url: str, events: list[str], description: str = "", secret: str = "") -> WebhookEndpoint:
    """A new endpoint that is not saved yet, with that secret or one of its own."""
    endpoint_id = uuid7()
    return WebhookEndpoint(
        id=endpoint_id,
        client_id=client_id,
        url=url,
        events=events,
        description=description,
        secrets=signatures.seal(endpoint_id, {secret or signatures.new_secret(): ""}),
        created_at=now(),
    )


def update(caller: Caller, endpoint_id: UUID, data: Any) -> WebhookEndpoint:
    """Raises Refusal."""
    draft = drafts.read_endpoint(data, new=False)
    endpoint = get(caller.id, endpoint_id)
    wanted = {"url": draft.url, "events": draft.events, "description": draft.description}
    given = {name: value for name, value in wanted.items() if value is not None}
    if given:
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**given)
    return get(caller.id, endpoint_id)


def delete(caller: Caller, endpoint_id: UUID) -> None:
    """Its secrets are gone at once, what waited for it is not sent. Raises UnknownObject."""
    if not of_client(caller.id).filter(pk=endpoint_id).update(enabled=False, deleted_at=Now(), secrets=""):
        raise UnknownObject


def rotate(caller: Caller, endpoint_id: UUID, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """A new secret; the one before signs as well for a while. Raises Refusal."""

    def work() -> Answer:
        overlap = drafts.read_rotate(data)
        endpoint: WebhookEndpoint | None = (
            of_client(caller.id).select_for_update(no_key=True).filter(pk=endpoint_id).first()
        )
        if endpoint is None:
            raise UnknownObject
        fresh = signatures.new_secret()
        endpoint.secrets = signatures.seal(endpoint.pk, signatures.rotated(_held(endpoint), fresh, overlap))
        endpoint.save(update_fields=["secrets"])
        return Answer(200, {**body(endpoint), "secret": signatures.seal(endpoint.pk, {fresh: ""})})

    with transaction.atomic():
        return _with_secret(once(caller, f"webhook_rotate {endpoint_id}", data, idempotency_key, work))


def _held(endpoint: WebhookEndpoint) -> dict[str, str]:
    try:
        return signatures.unseal(endpoint.pk, endpoint.secrets)
    except CredentialsError:  # a rotation is the way out of it
        return {}


def _with_secret(answer: Answer) -> Answer:
    """An answer is stored with its secret encrypted, and told with it in clear; without it, once its key is gone."""
    shown = dict(answer.body)
    try:
        shown["secret"] = next(iter(signatures.unseal(UUID(shown["id"]), shown["secret"])))
    except CredentialsError:
        del shown["secret"]
    return Answer(answer.status, shown, answer.replayed)


def enable(endpoint_id: UUID) -> None:
    """What waited goes on, and failures are counted anew."""
    WebhookEndpoint.objects.filter(pk=endpoint_id, enabled=False, deleted_at=None).update(
        enabled=True, disabled_reason="", disabled_at=None, failing_since=None
    )


def disable(endpoint_id: UUID, reason: str = BY_CLIENT) -> None:
    WebhookEndpoint.objects.filter(pk=endpoint_id, enabled=True).update(
        enabled=False, disabled_reason=reason, disabled_at=Now()
    )


def test(endpoint: WebhookEndpoint) -> UUID:
    """Sends a `webhook.test` to it alone, whatever it wants; returns the event's id. Raises EndpointDisabled."""
    if not endpoint.enabled:
        raise EndpointDisabled("Enable it first.")
    with transaction.atomic():
        rows("SELECT FROM messaging_webhookendpoint WHERE id = %(id)s FOR NO KEY UPDATE", {"id": endpoint.pk})
        # Published from the beginning: it is nobody else's business, and not Kafka's.
        ((event_id,),) = rows(
            """
            INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at, published_at)
            SELECT uuidv7(), 'webhook.test', %(id)s::text,
              1 + (SELECT coalesce(max(sequence), 0) FROM messaging_event WHERE subject = %(id)s::text), %(client)s,
              jsonb_build_object('endpoint', %(id)s::uuid), clock_timestamp(), clock_timestamp()
            RETURNING id""",
            {"id": endpoint.pk, "client": endpoint.client_id},
        )
        replays.one(endpoint, event_id)
    return uuid.UUID(str(event_id))


def replay(caller: Caller, endpoint_id: UUID, data: Any) -> dict[str, Any]:
    """Raises Refusal."""
    draft = drafts.read_replay(data)
    endpoint = get(caller.id, endpoint_id)
    if not endpoint.enabled:
        raise EndpointDisabled("Enable it first.")
    if draft.event_id:
        if not replays.one(endpoint, draft.event_id):
            raise UnknownObject
        return {"event_id": str(draft.event_id)}
    assert draft.since is not None  # noqa: S101  the reader has seen to it
    found = replays.since(endpoint, draft.since, draft.until, failed_only=draft.failed_only)
    if found is None:
        raise TooManyReplays("Ask again when they are done.")
    return {"since": rfc3339(found.since), "until": rfc3339(found.until), "failed_only": found.failed_only}


def body(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """An endpoint as answers show it: without its secret."""

    def moment(name: str) -> str | None:
        value = getattr(endpoint, name)
        return rfc3339(value) if value else None

    return {
        "id": str(endpoint.pk),
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "disabled_at": moment("disabled_at"),
        "failing_since": moment("failing_since"),
        "last_success_at": moment("last_success_at"),
        "last_failure_at": moment("last_failure_at"),
        "last_error": endpoint.last_error,
        "created_at": moment("created_at"),
    }


def encrypt_anew() -> Iterator[str]:
    """Brings the secrets under the newest of CREDENTIALS_KEYS; names each endpoint. Raises CredentialsError."""

    def again(row: WebhookEndpoint) -> None:
        row.secrets = signatures.seal(row.pk, signatures.unseal(row.pk, row.secrets))

    found = WebhookEndpoint.objects.exclude(secrets="")
    return under_newest_key(found, "secrets", again, lambda row: f"webhook endpoint {row.pk}")
