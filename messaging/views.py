"""The REST door: one question a view; it translates, calls the stage, and translates back."""

import base64
import logging
import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from messaging import intake, problems, receipts, tasks
from messaging.errors import (
    BadSignature,
    BodyTooLarge,
    DatabaseAway,
    FieldError,
    InvalidRequest,
    Refusal,
    UnknownObject,
)
from messaging.models import Message
from messaging.serializers import message_body
from messaging.states import EVENTS, Status
from providers.adapters.base import SignatureError, UnreadableReceipt
from providers.sql import rows
from providers.types import Webhook
from routing import numbers
from routing.snapshot import tables

log = logging.getLogger(__name__)

PAGE, LONGEST_PAGE = 50, 200


class UnreadableRequest(Refusal):
    code = "unreadable_receipt"
    status = 400
    title = "The receipt does not say what the provider documents"


class MessagesView(APIView):
    """POST accepts a message; GET lists the caller's, newest first."""

    scopes: ClassVar = {"POST": "send", "GET": "read"}
    body_limit = settings.SINGLE_BODY_LIMIT

    def post(self, request: Request) -> Response:
        answer = intake.accept(request.user, request.data, idempotency_key=request.headers.get("Idempotency-Key"))
        headers = {"Idempotency-Replayed": "true"} if answer.replayed else None
        return Response(answer.body, status=answer.status, headers=headers)

    def get(self, request: Request) -> Response:
        query = _Query(request.query_params.dict(), {"status", "to", "reference", "cursor", "limit"})
        found = Message.objects.for_client(request.user.id).order_by("-id")
        for name, lookup in query.filters().items():
            found = found.filter(**{name: lookup})
        limit = query.limit()
        page = list(found[: limit + 1])
        following = _cursor(page[limit - 1].id) if len(page) > limit else None
        return Response({"results": [message_body(message) for message in page[:limit]], "next_cursor": following})


class MessageView(APIView):
    """GET one message with every attempt."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: Request, message_id: uuid.UUID) -> Response:
        message = Message.objects.for_client(request.user.id).filter(pk=message_id).first()
        if message is None:
            raise UnknownObject
        attempts = message.attempts.select_related("provider").order_by("seq")
        return Response(message_body(message, attempts))


class _Query:
    """The query of the list, read strictly: a mistyped filter must not show everything."""

    def __init__(self, params: dict[str, str], known: set[str]) -> None:
        self._params = params
        unknown = sorted(params.keys() - known)
        if unknown:
            raise _wrong(*((name[:60], "unknown_field", "There is no such parameter.") for name in unknown))

    def filters(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if status := self._params.get("status"):
            if status not in set(Status):
                raise _wrong(("status", "bad_choice", f"One of {', '.join(Status)}."))
            found["status"] = status
        if to := self._params.get("to"):
            try:
                found["to"] = numbers.parse(to).msisdn
            except numbers.InvalidNumber as error:
                message = "A phone number in E.164 form is expected; a plus is written %2B in a query."
                raise _wrong(("to", error.reason, message)) from error
        if reference := self._params.get("reference"):
            found["reference"] = reference.replace("\x00", "")
        if cursor := self._params.get("cursor"):
            found["id__lt"] = _read_cursor(cursor)
        return found

    def limit(self) -> int:
        value = self._params.get("limit", str(PAGE))
        if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= LONGEST_PAGE:
            raise _wrong(("limit", "out_of_range", f"From 1 to {LONGEST_PAGE}."))
        return int(value)


@csrf_exempt
@require_POST
def receipt(request: HttpRequest, provider: str, our_reference: str = "") -> HttpResponse:
    """Stores a provider's receipts and answers; workers apply them. Nothing is stored without a good signature."""
    try:
        _receive(request, provider, our_reference)
    except Refusal as refusal:
        return problems.plain(refusal)
    except (DatabaseError, InterfaceError) as error:
        log.error("receipt of %s not stored: %s", provider, type(error).__name__)
        return problems.plain(DatabaseAway(retry_after=2))
    return HttpResponse(status=204)


def _receive(request: HttpRequest, provider: str, our_reference: str) -> None:
    if int(request.META.get("CONTENT_LENGTH") or 0) > settings.SINGLE_BODY_LIMIT:
        raise BodyTooLarge(f"At most {settings.SINGLE_BODY_LIMIT} bytes are read here.")
    route = tables.get().by_slug(provider)
    if route is None or route.adapter is None:
        raise UnknownObject
    webhook = Webhook(
        url=settings.PUBLIC_URL + request.get_full_path(),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.body,
        our_reference=our_reference,
    )
    try:
        route.adapter.verify_receipt(webhook)
        parsed = route.adapter.read_receipts(webhook)
    except SignatureError as error:
        log.warning("receipt with a bad signature", extra={"provider": provider})
        raise BadSignature from error
    except UnreadableReceipt as error:
        raise UnreadableRequest from error
    if receipts.store(route.id, parsed):
        tasks.hint(EVENTS)


@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return JsonResponse({"status": "ok"})


@require_GET
def ready(request: HttpRequest) -> HttpResponse:
    """The database answers. A broker that is away degrades the service and must not take it out of rotation."""
    try:
        rows("SELECT 1")
    except (DatabaseError, InterfaceError):
        return JsonResponse({"status": "unavailable", "database": "away"}, status=503)
    return JsonResponse({"status": "ok", "database": "ok"})


def _wrong(*errors: tuple[str, str, str]) -> InvalidRequest:
    return InvalidRequest(errors=tuple(FieldError(*error) for error in errors))


def _cursor(message_id: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(message_id.bytes).decode().rstrip("=")


def _read_cursor(cursor: str) -> uuid.UUID:
    try:
        return uuid.UUID(bytes=base64.urlsafe_b64decode(cursor.encode("ascii") + b"=="))
    except ValueError as error:
        raise _wrong(("cursor", "bad_format", "Not a cursor of ours.")) from error
