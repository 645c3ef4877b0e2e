"""What stands between staff and every address below /admin."""

import logging
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django_otp.middleware import OTPMiddleware, is_verified

from config.requests import ADMIN
from config.staff import sessions, views
from messaging.authentication import caller_address

log = logging.getLogger(__name__)


class Staff:
    """Asks for the second step, shows who is locked out that they are, and keeps the session of whoever is there.

    It stands before the views, so it also guards those that would forget to ask.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._with_device = OTPMiddleware(self._admin)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(ADMIN):
            return self._get_response(request)
        response: HttpResponseBase = self._with_device(request)
        return response

    def _admin(self, request: HttpRequest) -> HttpResponseBase:
        response = _second_step(request) or self._get_response(request)
        if getattr(request, "axes_locked_out", False):
            log.warning("a sign-in is locked after wrong passwords")
            response = views.locked(request)
        elif response.status_code == 302 and "HX-Request" in request.headers:
            # A fragment would be replaced by the page that it leads to.
            response = HttpResponse(headers={"HX-Refresh": "true"})
        sessions.keep(request)
        return response


def address(request: HttpRequest) -> str | None:
    """Where a sign-in comes from, as API keys are told it: through PROXIES of ours.

    Of IPv6 the network of one line: it has more addresses than anybody could lock out.
    """
    found = caller_address(str(request.META.get("REMOTE_ADDR", "")), request.headers.get("X-Forwarded-For", ""))
    try:
        told = ip_address(found)
    except ValueError:
        return None
    told = getattr(told, "ipv4_mapped", None) or told
    return str(ip_network(f"{told}/64", strict=False).network_address if told.version == 6 else told)


def _second_step(request: HttpRequest) -> HttpResponse | None:
    if not settings.STAFF_TOTP or request.path_info in _open():
        return None
    user = request.user
    if not user.is_authenticated or not user.is_staff or is_verified(user):
        return None
    query = f"?{urlencode({'next': request.get_full_path()})}" if request.method == "GET" else ""
    return HttpResponseRedirect(reverse("staff:code") + query)


@lru_cache(maxsize=1)
def _open() -> frozenset[str]:
    names = ("admin:login", "admin:logout", "staff:code", "staff:set_up")
    return frozenset(reverse(name) for name in names)
