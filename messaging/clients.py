"""Who is calling? Clients and their live keys, in memory."""

import hashlib
import logging
import secrets
import string
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network

from django.db import transaction

from messaging.models import ApiKey, Client
from providers.snapshots import Snapshot

log = logging.getLogger(__name__)

PREFIX = "mx_live_"
ID_LENGTH = 12
SECRET_LENGTH = 43  # 256 bits in base64
LIVE_KEYS = 2  # the old one and its successor, while a client rotates
_ALPHABET = string.ascii_lowercase + "234567"


@dataclass(frozen=True, slots=True)
class Caller:
    """A client as the doors and stages see it."""

    id: uuid.UUID
    slug: str
    sender: str
    scopes: frozenset[str]
    rate_limit: int | None = None  # messages per second
    daily_quota: int | None = None
    transliteration: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    caller: Caller
    enabled: bool
    secret_hash: bytes
    expires_at: datetime | None
    revoked_at: datetime | None
    networks: tuple[IPv4Network | IPv6Network, ...]


class TooManyKeys(Exception):
    """A client has two live keys at most."""


def _load() -> Mapping[str, Key]:
    keys = {}
    for key in ApiKey.objects.select_related("client"):
        client = key.client
        try:
            networks = tuple(ip_network(cidr, strict=False) for cidr in key.cidrs)
        except ValueError:
            # One mistyped network must neither open its key to all addresses nor close the door to all clients.
            log.error("an API key has an unreadable network and is not accepted", extra={"key_id": key.pk})
            continue
        scopes = frozenset(key.scopes) & frozenset(client.scopes)
        keys[key.pk] = Key(
            caller=as_caller(client, scopes),
            enabled=client.enabled,
            secret_hash=bytes(key.secret_hash),
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            networks=networks,
        )
    return keys


keys: Snapshot[Mapping[str, Key]] = Snapshot(("clients",), _load)


@dataclass(frozen=True, slots=True)
class Source:
    """A client as the commands topic sees it: its slug is its name there, and its own scopes count."""

    caller: Caller
    enabled: bool
    kafka_enabled: bool


def _load_sources() -> Mapping[str, Source]:
    return {
        client.slug: Source(
            as_caller(client),
            client.enabled,
            client.kafka_enabled,
        )
        for client in Client.objects.all()
    }


def as_caller(client: Client, scopes: frozenset[str] | None = None) -> Caller:
    """With all scopes of the client, unless told which."""
    scopes = frozenset(client.scopes) if scopes is None else scopes
    limits = (client.rate_limit, client.daily_quota)
    return Caller(client.pk, client.slug, client.sender, scopes, *limits, client.transliteration)


sources: Snapshot[Mapping[str, Source]] = Snapshot(("clients",), _load_sources)


def split_key(token: str) -> tuple[str, str] | None:
    """(id, secret) of a token in our form, else None."""
    if not token.isascii() or not token.startswith(PREFIX):
        return None
    key_id, _, secret = token[len(PREFIX) :].partition("_")
    if len(key_id) != ID_LENGTH or len(secret) != SECRET_LENGTH or not set(key_id) <= set(_ALPHABET):
        return None
    return key_id, secret


def hash_secret(secret: str) -> bytes:
    """256 random bits need no slow hash (OWASP ASVS 5.0, 6.5.2 asks for 112)."""
    return hashlib.sha256(secret.encode()).digest()


def new_token() -> str:
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))
    return f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"


def issue_key(client: Client, *, token: str = "", **fields: object) -> str:
    """Creates a key and returns its token, to be shown once.

    `token` takes over one that exists elsewhere. Raises TooManyKeys, and ValueError for a token that
    is not in our form.
    """
    token = token or new_token()
    parts = split_key(token)
    if parts is None:
        raise ValueError(f"an API key looks like {PREFIX}<{ID_LENGTH} characters>_<{SECRET_LENGTH} characters>")
    with transaction.atomic():
        Client.objects.select_for_update().get(pk=client.pk)
        live = [key for key in ApiKey.objects.filter(client_id=client.pk) if is_live(key)]
        if len(live) >= LIVE_KEYS:
            raise TooManyKeys(f"{client} has {LIVE_KEYS} live keys already: revoke one first")
        fields.setdefault("scopes", client.scopes)
        ApiKey.objects.create(id=parts[0], client=client, secret_hash=hash_secret(parts[1]), **fields)
    return token


def is_live(key: ApiKey) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > datetime.now(UTC))
