"""Content-Security-Policy: what a browser may load and run for an answer of ours."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from config.requests import ADMIN

# An answer of the API is no page. One that is (its documentation) sets a policy of its own.
API = "default-src 'none'; frame-ancestors 'none'"
# unfold's Alpine evaluates its attributes ('unsafe-eval'); htmx, charts and scroll bars write styles. No inline script.
PAGES = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self'; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class ContentSecurityPolicy:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if request.path_info.startswith(ADMIN):
            response.headers.setdefault("Content-Security-Policy", PAGES)
        else:
            response.headers.setdefault("Content-Security-Policy", API)
            response.headers.setdefault("Cache-Control", "no-store")
        return response
