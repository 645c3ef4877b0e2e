"""Secrets and signatures of Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, the spec)."""

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from providers.credentials import ring

PREFIX = "whsec_"
SECRET_BYTES = 32
SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{32,86}={0,2}")  # 24 to 64 bytes
OVERLAP = 24 * 3600  # seconds for which the secret before signs as well
LONGEST_OVERLAP = 7 * 24 * 3600
MOST_SECRETS = 5  # that sign at the same time: every one makes the header longer


def new_secret() -> str:
    return PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def is_secret(text: str) -> bool:
    if not SECRET.fullmatch(text):
        return False
    try:
        return 24 <= len(b64decode(text.removeprefix(PREFIX), validate=True)) <= 64
    except ValueError:
        return False


def headers(signing: Collection[str], event_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """What makes a request a Standard Webhook: the same id on every try, the time of this one, all signatures."""
    timestamp = str(int(at.timestamp()))
    signed = f"{event_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in signing),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = b64decode(secret.removeprefix(PREFIX))
    return "v1," + b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


# --- at rest: secret -> when it ends, empty for the current one; the newest first -----------------


def seal(endpoint_id: UUID, held: Mapping[str, str]) -> str:
    return ring().encrypt(held, f"webhook:{endpoint_id}")


def unseal(endpoint_id: UUID, sealed: str) -> dict[str, str]:
    """Raises CredentialsError."""
    return ring().decrypt(sealed, f"webhook:{endpoint_id}")


def valid(held: Mapping[str, str], at: datetime) -> list[str]:
    """The secrets that sign at that time."""
    return [secret for secret, until in held.items() if not until or datetime.fromisoformat(until) > at]


def rotated(held: Mapping[str, str], fresh: str, overlap: float) -> dict[str, str]:
    """With `fresh` in front, and the one before for so many seconds more."""
    now = datetime.now(UTC)
    until = (now + timedelta(seconds=overlap)).isoformat()
    kept = {secret: ended or until for secret, ended in held.items() if secret in valid(held, now)}
    if not overlap:
        kept = {}
    return {fresh: "", **dict(list(kept.items())[: MOST_SECRETS - 1])}
