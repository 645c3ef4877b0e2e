"""Bearer API keys and scopes."""

import hmac
import time
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from messaging import clients
from messaging.clients import Caller, Key
from messaging.errors import (
    AddressNotAllowed,
    ClientDisabled,
    ExpiredKey,
    MissingScope,
    RevokedKey,
    Unauthenticated,
)
from messaging.models import ApiKey

if TYPE_CHECKING:
    from rest_framework.views import APIView

USED_EVERY = 60.0  # seconds between two writes of a key's last_used_at
#: What a call that needs a key may be answered because of it.
REFUSALS = (Unauthenticated, ExpiredKey, RevokedKey, ClientDisabled, AddressNotAllowed, MissingScope)

_used: dict[str, float] = {}


class ApiKeyAuthentication(BaseAuthentication):
    """`request.user` is then the Caller, `request.auth` the key's id."""

    def authenticate(self, request: Request) -> tuple[Caller, str]:
        address = str(request.META.get("REMOTE_ADDR", ""))
        passed = request.headers.get("X-Forwarded-For", "")
        return authenticate(request.META.get("HTTP_AUTHORIZATION", ""), caller_address(address, passed))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def authenticate(authorization: str, address: str) -> tuple[Caller, str]:
    """Who presents `Bearer mx_live_<id>_<secret>`, and the key's id. Raises one of REFUSALS."""
    scheme, _, token = authorization.partition(" ")
    parts = clients.split_key(token.strip()) if scheme.lower() == "bearer" else None
    if parts is None:
        raise Unauthenticated("Send the header `Authorization: Bearer <API key>`.")
    key_id, secret = parts
    # A key that was made a moment ago is not in this process's table yet.
    key = clients.keys.get().get(key_id) or clients.keys.get(fresh=True).get(key_id)
    given = clients.hash_secret(secret)
    if key is None or not hmac.compare_digest(key.secret_hash, given):
        raise Unauthenticated
    _check(key, address)
    _note_use(key_id)
    return key.caller, key_id


def caller_of(request: Request) -> Caller:
    return cast(Caller, request.user)


def require(caller: Caller, scope: str) -> None:
    """Raises MissingScope."""
    if scope not in caller.scopes:
        raise MissingScope(f"It needs the scope {scope}.")


class HasScope(BasePermission):
    """A view says in `scopes` which scope each of its methods needs."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        # HEAD is a GET whose body is thrown away.
        needed = getattr(view, "scopes", {}).get("GET" if request.method == "HEAD" else request.method)
        if needed:
            require(caller_of(request), needed)
        return True


def caller_address(connected: str, passed: str) -> str:
    """Who connected to the outermost proxy of ours; what stands further left in X-Forwarded-For is anybody's word."""
    if not settings.PROXIES:
        return connected
    addresses = passed.split(",")
    return addresses[-settings.PROXIES].strip() if len(addresses) >= settings.PROXIES else ""


def _check(key: Key, address: str) -> None:
    """Only the holder of the secret learns what is wrong with the key."""
    if key.revoked_at is not None:
        raise RevokedKey
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        raise ExpiredKey
    if not key.enabled:
        raise ClientDisabled
    if key.networks:
        try:
            caller = ip_address(address)
        except ValueError:
            raise AddressNotAllowed from None
        # A listener on both families shows an IPv4 caller as ::ffff:a.b.c.d.
        caller = getattr(caller, "ipv4_mapped", None) or caller
        if not any(caller in network for network in key.networks):
            raise AddressNotAllowed


def _note_use(key_id: str) -> None:
    now = time.monotonic()
    if now - _used.get(key_id, -USED_EVERY) >= USED_EVERY:
        _used[key_id] = now
        ApiKey.objects.filter(pk=key_id).update(last_used_at=datetime.now(UTC))
