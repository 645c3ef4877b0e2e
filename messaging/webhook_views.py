"""The REST door of webhook endpoints: what a client does with its own."""

import re
import uuid
from typing import Any

from django.conf import settings
from django.http import HttpResponse, QueryDict
from rest_framework.request import Request

from messaging import bodies, idempotency, tasks
from messaging.authentication import caller_of
from messaging.errors import FieldError, InvalidRequest, UnknownObject
from messaging.models import rfc3339
from messaging.states import EVENTS
from messaging.views import LONGEST_PAGE, PAGE, ApiView, answer_of, key_of
from messaging.webhook_models import WebhookAttempt
from messaging.webhooks import endpoints
from messaging.webhooks.endpoints import EndpointDisabled, TooManyEndpoints, TooManyReplays

CURSOR = re.compile("[1-9][0-9]{0,17}", re.ASCII)
_LIMIT = re.compile("[1-9][0-9]{0,2}", re.ASCII)


class WebhookView(ApiView):
    http_method_names = ["get", "head", "post", "patch", "delete"]


class WebhookEndpointsView(WebhookView):
    """POST makes an endpoint; GET lists the caller's."""

    scopes = {"POST": "webhooks", "GET": "webhooks"}
    refusals = {"POST": (*bodies.REFUSALS, *idempotency.REFUSALS, InvalidRequest, TooManyEndpoints)}

    def post(self, request: Request) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        return answer_of(endpoints.create(caller_of(request), data, idempotency_key=key_of(request)))

    def get(self, request: Request) -> HttpResponse:
        found = endpoints.of_client(caller_of(request).id)
        return bodies.response({"results": [endpoints.body(endpoint) for endpoint in found]})


class WebhookEndpointView(WebhookView):
    """GET shows one, PATCH changes it, DELETE ends it."""

    scopes = {"GET": "webhooks", "PATCH": "webhooks", "DELETE": "webhooks"}
    refusals = {
        "GET": (UnknownObject,),
        "PATCH": (*bodies.REFUSALS, InvalidRequest, UnknownObject),
        "DELETE": (UnknownObject,),
    }

    def get(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        return _shown(request, endpoint_id)

    def patch(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        return bodies.response(endpoints.body(endpoints.update(caller_of(request), endpoint_id, data)))

    def delete(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        endpoints.delete(caller_of(request), endpoint_id)
        return HttpResponse(status=204)


class WebhookRotateView(WebhookView):
    """POST gives a new secret."""

    scopes = {"POST": "webhooks"}
    refusals = {"POST": (*bodies.REFUSALS, *idempotency.REFUSALS, InvalidRequest, UnknownObject)}

    def post(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        return answer_of(endpoints.rotate(caller_of(request), endpoint_id, data, idempotency_key=key_of(request)))


class WebhookDisableView(WebhookView):
    """POST switches an endpoint off. Its body is not read."""

    scopes = {"POST": "webhooks"}
    refusals = {"POST": (UnknownObject,)}

    def post(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        endpoints.disable(endpoints.get(caller_of(request).id, endpoint_id).pk)
        return _shown(request, endpoint_id)


class WebhookEnableView(WebhookView):
    """POST switches it on again. Its body is not read."""

    scopes = {"POST": "webhooks"}
    refusals = {"POST": (UnknownObject,)}

    def post(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        endpoints.enable(endpoints.get(caller_of(request).id, endpoint_id).pk)
        tasks.hint(EVENTS)
        return _shown(request, endpoint_id)


class WebhookTestView(WebhookView):
    """POST sends a test event. Its body is not read."""

    scopes = {"POST": "webhooks"}
    refusals = {"POST": (UnknownObject, EndpointDisabled)}

    def post(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        event_id = endpoints.test(endpoints.get(caller_of(request).id, endpoint_id))
        tasks.hint(EVENTS)
        return bodies.response({"event_id": str(event_id)}, status=202)


class WebhookReplayView(WebhookView):
    """POST sends events once more."""

    scopes = {"POST": "webhooks"}
    refusals = {"POST": (*bodies.REFUSALS, InvalidRequest, UnknownObject, EndpointDisabled, TooManyReplays)}

    def post(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        found = endpoints.replay(caller_of(request), endpoint_id, data)
        tasks.hint(EVENTS)
        return bodies.response(found, status=202)


class WebhookAttemptsView(WebhookView):
    """GET lists what was tried, newest first."""

    scopes = {"GET": "webhooks"}
    refusals = {"GET": (InvalidRequest, UnknownObject)}

    def get(self, request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
        limit, cursor = _page(request.query_params)
        endpoint = endpoints.get(caller_of(request).id, endpoint_id)
        found = WebhookAttempt.objects.filter(endpoint=endpoint, **({"id__lt": cursor} if cursor else {}))
        page = list(found.select_related("delivery__event").order_by("-id")[: limit + 1])
        following = str(page[limit - 1].pk) if len(page) > limit else None
        return bodies.response({"results": [_attempt(row) for row in page[:limit]], "next_cursor": following})


def _shown(request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
    return bodies.response(endpoints.body(endpoints.get(caller_of(request).id, endpoint_id)))


def _attempt(row: WebhookAttempt) -> dict[str, Any]:
    return {
        "event_id": str(row.delivery.event_id),
        "type": row.delivery.event.type,
        "subject": row.delivery.event.subject,
        "number": row.number,
        "started_at": rfc3339(row.started_at),
        "seconds": round(row.seconds, 3),
        "http_status": row.http_status,
        "error_code": row.error_code,
        "delivery_status": row.delivery.status,
        "next_at": rfc3339(row.delivery.next_at) if row.delivery.status == "pending" else None,
    }


def _page(params: QueryDict) -> tuple[int, int | None]:
    """(limit, cursor), read strictly."""
    errors = [
        FieldError(name[:60], "repeated" if name in ("limit", "cursor") else "unknown_field", "Not like this.")
        for name, values in sorted(params.lists())
        if name not in ("limit", "cursor") or len(values) > 1
    ][:20]
    limit, cursor = str(params.get("limit", PAGE)), str(params.get("cursor", ""))
    if not errors and (not _LIMIT.fullmatch(limit) or int(limit) > LONGEST_PAGE):
        errors.append(FieldError("limit", "out_of_range", f"From 1 to {LONGEST_PAGE}."))
    if not errors and "cursor" in params and not CURSOR.fullmatch(cursor):
        errors.append(FieldError("cursor", "bad_format", "Not a cursor of ours."))
    if errors:
        raise InvalidRequest(errors=tuple(errors))
    return int(limit), int(cursor) if cursor else None
