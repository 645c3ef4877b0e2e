"""The REST door: one question a view; it translates, calls the stage, and translates back."""

import base64
import hmac
import logging
import re
import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import DataError, Error
from django.db.models import Prefetch, QuerySet
from django.http import HttpResponse, QueryDict
from prometheus_client.exposition import choose_encoder
from rest_framework.request import Request
from rest_framework.views import APIView

from messaging import (
    authentication,
    bodies,
    cancellation,
    drafts,
    idempotency,
    intake,
    metrics,
    quotas,
    quotes,
    receipts,
    schema,
    tasks,
)
from messaging.authentication import caller_of
from messaging.clients import Caller
from messaging.cloudevents import SCHEMAS_PATH
from messaging.errors import (
    AlreadyClosed,
    AlreadyLeft,
    BadSignature,
    BodyTooLarge,
    DatabaseAway,
    FieldError,
    InvalidJson,
    InvalidRequest,
    Refusal,
    Unauthenticated,
    UnknownObject,
)
from messaging.idempotency import Answer
from messaging.models import Attempt, Message
from messaging.serializers import message_body
from messaging.states import EVENTS, Status
from providers.adapters.base import SignatureError, UnreadableReceipt
from providers.sql import rows
from providers.types import Webhook
from routing import numbers

log = logging.getLogger(__name__)

PAGE, LONGEST_PAGE = 50, 200
_LIMIT = re.compile("[1-9][0-9]{0,2}", re.ASCII)
CURSOR = re.compile("[A-Za-z0-9_-]{22}", re.ASCII)


class UnreadableRequest(Refusal):
    code = "unreadable_receipt"
    status = 400
    title = "The receipt does not say what the provider documents"


Refusals = tuple[type[Refusal], ...]


class ApiView(APIView):
    """What every call has in common: a body and an answer in JSON, nothing is negotiated, errors are problems.

    `scopes` and `refusals` say by method what a call needs and how it may be refused; the document tells it.
    """

    http_method_names = ["get", "head", "post"]
    scopes: ClassVar[dict[str, str]] = {}
    common_refusals: ClassVar[Refusals] = (*authentication.REFUSALS, DatabaseAway)
    refusals: ClassVar[dict[str, Refusals]] = {}

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        return None, "application/json"

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}


class OpenView(ApiView):
    """A call that needs no API key."""

    authentication_classes = ()
    permission_classes = ()
    common_refusals = ()


class MessagesView(ApiView):
    """POST accepts a message; GET lists the caller's, newest first."""

    scopes = {"POST": "send", "GET": "read"}
    refusals = {"POST": (*bodies.REFUSALS, *idempotency.REFUSALS, *intake.REFUSALS), "GET": (InvalidRequest,)}

    def post(self, request: Request) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        answer = intake.accept(caller_of(request), data, idempotency_key=key_of(request))
        request.META["messaging.message_id"] = answer.body["id"]  # for the log: PEP 3333 leaves such names to us
        return answer_of(answer)

    def get(self, request: Request) -> HttpResponse:
        query = _Query(request.query_params)
        limit = query.limit()
        found = _with_attempts(caller_of(request).id).filter(**query.filters()).order_by("-id")
        page = list(found[: limit + 1])
        following = _cursor(page[limit - 1].id) if len(page) > limit else None
        results = [message_body(message) for message in page[:limit]]
        return bodies.response({"results": results, "next_cursor": following})


class BatchView(ApiView):
    """POST accepts what is right of many messages and tells what is wrong with the others."""

    scopes = {"POST": "send"}
    refusals = {"POST": (*bodies.REFUSALS, *idempotency.REFUSALS, *quotas.REFUSALS, InvalidRequest)}

    def post(self, request: Request) -> HttpResponse:
        data = bodies.read_json(request, settings.BATCH_BODY_LIMIT)
        return answer_of(intake.accept_batch(caller_of(request), data, idempotency_key=key_of(request)))


class MessageView(ApiView):
    """GET one message with every attempt."""

    scopes = {"GET": "read"}
    refusals = {"GET": (UnknownObject,)}

    def get(self, request: Request, message_id: uuid.UUID) -> HttpResponse:
        return _shown(caller_of(request), message_id)


class CancelView(ApiView):
    """POST calls a message back that has not left. Its body is not read."""

    scopes = {"POST": "send"}
    refusals = {"POST": (UnknownObject, AlreadyLeft, AlreadyClosed)}

    def post(self, request: Request, message_id: uuid.UUID) -> HttpResponse:
        cancellation.cancel(caller_of(request), message_id)
        return _shown(caller_of(request), message_id)


class QuotesView(ApiView):
    """POST tells what a message would cost with each provider."""

    scopes = {"POST": "send"}
    refusals = {"POST": (*bodies.REFUSALS, InvalidRequest)}

    def post(self, request: Request) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        return bodies.response(quotes.quote(caller_of(request), data))


class ReceiptView(OpenView):
    """POST stores a provider's receipts; workers apply them. Nothing is stored without a good signature."""

    refusals = {"POST": (UnknownObject, BadSignature, UnreadableRequest, InvalidJson, BodyTooLarge, DatabaseAway)}

    def post(self, request: Request, provider: str, our_reference: str = "") -> HttpResponse:
        webhook = Webhook(
            url=settings.PUBLIC_URL + request.get_full_path(),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=bodies.read(request, settings.SINGLE_BODY_LIMIT),
            our_reference=our_reference,
        )
        try:
            new = receipts.store(receipts.read(provider, webhook))
        except SignatureError:
            log.warning("receipt with a bad signature", extra={"provider": provider})
            raise BadSignature from None
        except (UnreadableReceipt, DataError):  # DataError: a number or a time that no column takes
            raise UnreadableRequest from None
        if new:
            tasks.hint(EVENTS)
        response = HttpResponse(status=204)
        del response.headers["Content-Type"]  # of nothing
        return response


class LiveView(OpenView):
    """GET: this process answers."""

    def get(self, request: Request) -> HttpResponse:
        return bodies.response({"status": "ok"})


class ReadyView(OpenView):
    """GET: the database answers. A broker that is away degrades the service and must not take it out of rotation."""

    refusals = {"GET": (DatabaseAway,)}

    def get(self, request: Request) -> HttpResponse:
        try:
            rows("SELECT 1")
        except Error:
            raise DatabaseAway(retry_after=2) from None
        return bodies.response({"status": "ok", "database": "ok"})


class MetricsView(OpenView):
    """GET: what Prometheus scrapes. With METRICS_TOKEN set, only who presents it."""

    refusals: ClassVar = {"GET": (Unauthenticated, DatabaseAway)}

    def get(self, request: Request) -> HttpResponse:
        expected = f"Bearer {settings.METRICS_TOKEN}".encode()
        if settings.METRICS_TOKEN and not hmac.compare_digest(_header(request, "Authorization"), expected):
            raise Unauthenticated("Send the header `Authorization: Bearer <METRICS_TOKEN>`.")
        encode, media_type = choose_encoder(request.headers.get("Accept", ""))
        return HttpResponse(encode(metrics.registry), content_type=media_type)


class EventSchemasView(OpenView):
    """GET: which types of events and commands there are, and where their JSON Schemas are."""

    def get(self, request: Request) -> HttpResponse:
        root = f"{settings.PUBLIC_URL}{SCHEMAS_PATH}"
        found = [{**entry, "schema": f"{root}{entry['schema']}"} for entry in schema.catalogue()]
        return bodies.response({"schemas": found})


class EventSchemaView(OpenView):
    """GET one JSON Schema."""

    refusals = {"GET": (UnknownObject,)}

    def get(self, request: Request, name: str) -> HttpResponse:
        found = schema.files().get(name)
        if found is None:
            raise UnknownObject
        return HttpResponse(found, content_type=schema.MEDIA_TYPE)


class UnknownView(OpenView):
    """Any other address outside the admin: a problem like the others, where Django would show its page."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise UnknownObject


class _Query:
    """The query of the list, read strictly: a mistyped filter must not show everything."""

    KNOWN = frozenset({"status", "to", "reference", "cursor", "limit"})

    def __init__(self, params: QueryDict) -> None:
        wrong = [(name[:60], "unknown_field", "There is no such parameter.") for name in params.keys() - self.KNOWN]
        wrong += [(n[:60], "repeated", "Once is enough.") for n, values in params.lists() if len(values) > 1]
        if wrong:
            raise _wrong(*sorted(wrong)[:20])
        self._params = {name: str(values[0]) for name, values in params.lists()}

    def filters(self) -> dict[str, Any]:
        readers = {"status": self._status, "to": self._to, "reference": self._reference, "cursor": self._cursor}
        found: dict[str, Any] = {}
        for name, reader in readers.items():
            if name in self._params:
                found |= reader(self._params[name])
        return found

    def limit(self) -> int:
        value = self._params.get("limit", str(PAGE))
        if not _LIMIT.fullmatch(value) or int(value) > LONGEST_PAGE:
            raise _wrong(("limit", "out_of_range", f"From 1 to {LONGEST_PAGE}."))
        return int(value)

    @staticmethod
    def _status(value: str) -> dict[str, Any]:
        if value not in set(Status):
            raise _wrong(("status", "bad_choice", f"One of {', '.join(Status)}."))
        return {"status": value}

    @staticmethod
    def _to(value: str) -> dict[str, Any]:
        try:
            return {"to": numbers.parse(value).msisdn}
        except numbers.InvalidNumber as error:
            message = "A phone number in E.164 form is expected; a plus is written %2B in a query."
            raise _wrong(("to", error.reason, message)) from None

    @staticmethod
    def _reference(value: str) -> dict[str, Any]:
        longest = drafts.LONGEST_REFERENCE
        if not 1 <= len(value) <= longest or "\x00" in value:
            raise _wrong(("reference", "bad_format", f"From 1 to {longest} characters, none of them NUL."))
        return {"reference": value}

    @staticmethod
    def _cursor(value: str) -> dict[str, Any]:
        if not CURSOR.fullmatch(value):
            raise _wrong(("cursor", "bad_format", "Not a cursor of ours."))
        return {"id__lt": uuid.UUID(bytes=base64.urlsafe_b64decode(value + "=="))}


def _header(request: Request, name: str) -> bytes:
    return request.headers.get(name, "").encode("latin-1", "replace")


def key_of(request: Request) -> str | None:
    return request.META.get("HTTP_IDEMPOTENCY_KEY")


def answer_of(answer: Answer) -> HttpResponse:
    headers = {"Idempotency-Replayed": "true"} if answer.replayed else None
    return bodies.response(answer.body, status=answer.status, headers=headers)


def _shown(caller: Caller, message_id: uuid.UUID) -> HttpResponse:
    message = _with_attempts(caller.id).filter(pk=message_id).first()
    if message is None:
        raise UnknownObject
    return bodies.response(message_body(message))


def _with_attempts(client_id: uuid.UUID) -> QuerySet[Message]:
    attempts = Attempt.objects.select_related("provider").order_by("seq")
    return Message.objects.for_client(client_id).prefetch_related(Prefetch("attempts", attempts))


def _wrong(*errors: tuple[str, str, str]) -> InvalidRequest:
    return InvalidRequest(errors=tuple(FieldError(*error) for error in errors))


def _cursor(message_id: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(message_id.bytes).decode().rstrip("=")
