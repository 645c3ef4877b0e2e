"""Provider credentials at rest: AES-256-GCM under a ring of keys, each value bound to the row it belongs to."""

import json
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D 5.2.1.1
TOKEN = re.compile(r"v1\.([1-9][0-9]{0,8})\.([A-Za-z0-9+/]+={0,2})")


class CredentialsError(Exception):
    """Stored credentials that cannot be read; the message never holds a secret."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by id, the newest first: the first encrypts, all decrypt."""

    keys: Mapping[int, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Reads "2:<base64 of 32 bytes>,1:<...>"; raises ValueError, which names the entry but never quotes a key."""
        keys: dict[int, bytes] = {}
        for position, entry in enumerate(text.split(","), start=1):
            name, _, encoded = entry.strip().partition(":")
            if not re.fullmatch(r"[1-9][0-9]{0,8}", name):
                raise ValueError(f"entry {position} must be written id:base64, with a positive whole number as its id")
            if int(name) in keys:
                raise ValueError(f"key id {name} is used twice")
            try:
                key = b64decode(encoded, validate=True)
            except ValueError:
                raise ValueError(f"key {name} is not base64") from None
            if len(key) != KEY_BYTES:
                raise ValueError(f"key {name} must have {KEY_BYTES} bytes, it has {len(key)}")
            keys[int(name)] = key
        return cls(keys)

    def encrypt(self, plain: Mapping[str, str], bound_to: str) -> str:
        """The text "v1.<key id>.<base64 of nonce and ciphertext>", readable only with the same `bound_to`."""
        return self.seal(json.dumps(dict(plain)).encode(), bound_to)

    def seal(self, plain: bytes, bound_to: str) -> str:
        """As `encrypt`, for a value that is no mapping."""
        newest, key = next(iter(self.keys.items()))
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, plain, bound_to.encode())
        return f"v1.{newest}.{b64encode(nonce + sealed).decode()}"

    def decrypt(self, token: str, bound_to: str) -> dict[str, str]:
        """Raises CredentialsError for a key we do not have, another row's value and damage."""
        credentials: dict[str, str] = json.loads(self.unseal(token, bound_to))
        return credentials

    def unseal(self, token: str, bound_to: str) -> bytes:
        """Raises CredentialsError as `decrypt` does."""
        used = key_id(token)
        if used not in self.keys:
            raise CredentialsError(f"the credentials were encrypted with key {used}, which is not in the ring")
        try:
            sealed = b64decode(token.rpartition(".")[2], validate=True)
            return AESGCM(self.keys[used]).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to.encode())
        except (ValueError, InvalidTag):
            raise CredentialsError("the credentials are damaged, or belong to another row") from None


def key_id(token: str) -> int:
    """Raises CredentialsError for a text that is not one of ours."""
    if not (match := TOKEN.fullmatch(token)):
        raise CredentialsError("the credentials are not in the form v1.<key id>.<base64>")
    return int(match[1])


@lru_cache(maxsize=1)
def _parsed(text: str) -> KeyRing:
    return KeyRing.parse(text)


def ring() -> KeyRing:
    """The ring of CREDENTIALS_KEYS; raises ValueError."""
    return _parsed(settings.CREDENTIALS_KEYS)


def under_newest_key(
    found: QuerySet[Any], column: str, again: Callable[[Any], None], name: Callable[[Any], str]
) -> Iterator[str]:
    """Brings a column under the newest key of the ring; `again` encrypts a row's value, `name` tells which one it was.

    Each row in a transaction of its own, and those that are done are left alone: it may be interrupted. Raises
    CredentialsError.
    """
    newest = next(iter(ring().keys))
    for pk in found.values_list("pk", flat=True):
        with transaction.atomic():
            row = found.select_for_update(no_key=True).filter(pk=pk).first()
            if row and key_id(getattr(row, column)) != newest:
                try:
                    again(row)
                except CredentialsError as error:
                    raise CredentialsError(f"{name(row)}: {error}") from None
                row.save(update_fields=[column])
                yield name(row)
