"""Every error of the API as RFC 9457 problem details, with a stable `code`."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.views.defaults import page_not_found
from rest_framework import exceptions

from messaging import bodies
from messaging.context import request_id
from messaging.errors import DatabaseAway, Refusal, UnknownObject

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# Answers that no Refusal stands for: HTTP status -> code.
CODES = {400: "bad_request", 405: "method_not_allowed", 500: "internal_error"}
# A connection that breaks at the commit leaves open which side of it the request is on.
IN_DOUBT = "It may have been carried out. Send it again with the same Idempotency-Key."


def handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """DRF's exception handler."""
    match error:
        case Refusal():
            return answer(error)
        case Http404():
            return answer(UnknownObject())
        case exceptions.MethodNotAllowed():
            return _plain(405, {"Allow": ", ".join(context["view"].allowed_methods)})
        case exceptions.APIException() if error.status_code < 500:
            return _plain(400)
        case SuspiciousOperation():
            return _plain(400)
        case OperationalError() | InterfaceError() | InternalError() | IntegrityError():
            # Asking again helps: the server is away or read-only for now, or a row that was there is gone.
            log.error("database error in a request", exc_info=error)
            return answer(DatabaseAway(IN_DOUBT, retry_after=2))
    log.error("unexpected error in a request", exc_info=error)
    return _plain(500)


def answer(refusal: Refusal) -> HttpResponse:
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(refusal.problem(), headers)


def bad_request(request: HttpRequest | None = None, exception: Exception | None = None) -> HttpResponse:
    """Django's handler400."""
    return _plain(400)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler404: a page for people in the admin, a problem for programs everywhere else."""
    if request.path.startswith("/admin/"):
        return page_not_found(request, exception)
    return answer(UnknownObject())


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: says nothing about itself."""
    return _plain(500)


def problem(status: int) -> dict[str, Any]:
    """RFC 9457 problem details of a status in CODES."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": CODES[status]}


def _plain(status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    return _response(problem(status), headers)


def _response(problem: dict[str, Any], headers: dict[str, str] | None) -> HttpResponse:
    if problem["status"] >= 500 and request_id.get():
        problem["request_id"] = request_id.get()  # what support asks for: the log lines of this request have it
    return bodies.response(problem, status=problem["status"], headers=headers, media_type=MEDIA_TYPE)
