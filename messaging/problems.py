"""Every error of the API as RFC 9457 problem details, with a stable `code`."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from messaging.errors import BodyTooLarge, DatabaseAway, InvalidJson, Refusal, UnknownObject

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
CODES = {
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.NotFound: "not_found",
}


def body(refusal: Refusal) -> dict[str, Any]:
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": refusal.title,
        "status": refusal.status,
        "code": refusal.code,
    }
    if refusal.detail:
        problem["detail"] = refusal.detail
    if refusal.errors:
        problem["errors"] = [{"field": e.field, "code": e.code, "message": e.message} for e in refusal.errors]
    return problem


def handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler; what it does not know becomes a 500 of Django's, see `server_error`."""
    if isinstance(error, Http404):
        error = UnknownObject()
    elif isinstance(error, DatabaseError | InterfaceError):
        log.error("database error in a request: %s", type(error).__name__)
        error = DatabaseAway("Nothing was stored. Ask again.", retry_after=2)
    if isinstance(error, Refusal):
        return _response(body(error), error.status, _headers(error))
    if isinstance(error, exceptions.APIException):
        status = error.status_code
        problem = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "code": CODES.get(type(error), "bad_request"),
        }
        return _response(problem, status, {})
    return None


def _headers(refusal: Refusal) -> dict[str, str]:
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def _response(problem: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(problem, status=status, headers=headers, content_type=MEDIA_TYPE)


def plain(refusal: Refusal) -> HttpResponse:
    """The same for views outside DRF."""
    response = JsonResponse(body(refusal), status=refusal.status, content_type=MEDIA_TYPE)
    for name, value in _headers(refusal).items():
        response[name] = value
    return response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    return plain(UnknownObject())


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: says nothing about itself."""
    problem = {"type": "about:blank", "title": "Internal Server Error", "status": 500, "code": "internal_error"}
    return JsonResponse(problem, status=500, content_type=MEDIA_TYPE)


class JsonParser(BaseParser):
    """JSON within the view's `body_limit`, in bytes: what is too large is refused before it is read."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        context = parser_context or {}
        limit: int = context["view"].body_limit
        request: Request = context["request"]
        if _length(request.META.get("CONTENT_LENGTH")) > limit:
            raise _too_large(limit)
        raw = stream.read(limit + 1)  # a chunked body has no length
        if len(raw) > limit:
            raise _too_large(limit)
        try:
            return json.loads(raw, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            # The error's own words would quote the body.
            raise InvalidJson("A JSON text in UTF-8 is expected.") from error


def _length(value: str | None) -> int:
    return int(value) if value and value.isdigit() else 0


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"At most {limit} bytes are read here.")


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
