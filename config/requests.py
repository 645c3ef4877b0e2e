"""What every request gets: an id, one line in the log, and the short way where it does not go to the admin."""

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.common import CommonMiddleware
from django.utils.deprecation import MiddlewareMixin

from config.logs import NUMBERS, mask
from messaging.clients import Caller
from messaging.context import request_id

log = logging.getLogger(__name__)

ADMIN = "/admin"
QUIET = ("/live", "/ready", "/metrics", settings.STATIC_URL)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SAFE = re.compile("[A-Za-z0-9._:=+/@~-]{1,64}")


class RequestMiddleware:
    """The first of all: every answer has `X-Request-ID`, the caller's own where it is one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        own = request.META["HTTP_X_REQUEST_ID"] = own_id(request.META.get("HTTP_X_REQUEST_ID", ""))
        token = request_id.set(own)
        try:
            response = self._get_response(request)
            response.headers["X-Request-ID"] = own
            if not request.path_info.startswith(QUIET):
                _log(request, response, time.perf_counter() - started)
        finally:
            request_id.reset(token)
        return response


class AdminOnly(MiddlewareMixin):
    """Mixed into a middleware that only the admin needs: together they cost every other request 30 us."""

    def __call__(self, request: HttpRequest) -> Any:
        return super().__call__(request) if request.path_info.startswith(ADMIN) else self.get_response(request)


class Sessions(AdminOnly, SessionMiddleware):
    pass


class Authentication(AdminOnly, AuthenticationMiddleware):
    pass


class Messages(AdminOnly, MessageMiddleware):
    pass


class Common(CommonMiddleware):
    """Slashes are appended in the admin alone: outside it every address would be looked up twice."""

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(ADMIN):
            return super().__call__(request)
        request.get_host()  # raises DisallowedHost
        response = self.get_response(request)
        if isinstance(response, HttpResponse):
            response.headers["Content-Length"] = str(len(response.content))
        return response


def own_id(given: str) -> str:
    """What a caller sends may be anything: it is printed only if it is harmless and no phone number."""
    if given and _SAFE.fullmatch(given) and mask(given, NUMBERS) == given:
        return given
    return secrets.token_hex(16)


def _log(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    match, length = request.resolver_match, request.META.get("CONTENT_LENGTH") or "0"
    key_id = getattr(request, "auth", None)  # set with the user by REST framework
    log_request(
        method=request.method if request.method in METHODS else "other",
        route=match and match.route,  # the pattern: a path or a query may hold a number
        status=response.status_code,
        seconds=seconds,
        client=cast(Caller, request.user).slug if key_id else None,
        key_id=key_id,
        message_id=request.META.get("messaging.message_id") or (match and match.kwargs.get("message_id")),
        bytes_in=int(length) if length.isdecimal() else None,
        bytes_out=len(response.content) if isinstance(response, HttpResponse) else None,
    )


def log_request(*, status: int, seconds: float, **fields: Any) -> None:
    """The one line of a request; the names of its fields are those of `config.logs.FIELDS`."""
    level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR
    if log.isEnabledFor(level):
        log.log(level, "request", extra={"status": status, "duration_ms": round(seconds * 1000, 1), **fields})
