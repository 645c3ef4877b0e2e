"""One answer to one request: the first is stored, and given again to every repeat under its key."""

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import IntegrityError, OperationalError, transaction
from psycopg.errors import LockNotAvailable, UniqueViolation

from messaging.clients import Caller
from messaging.errors import (
    FieldError,
    IdempotencyInProgress,
    IdempotencyMismatch,
    InvalidJson,
    InvalidRequest,
    Refusal,
)
from providers.sql import rows

KEY = re.compile(r'"[\x21\x23-\x7e]{1,255}"|[\x21-\x7e]{1,255}')
KEEP_ANSWERS = "7 days"
LOCK_WAIT = "3s"
REFUSALS = (IdempotencyMismatch, IdempotencyInProgress)  # of a call that takes a key


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told. `replayed`: it is the first answer to the same request, once more."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request is known by."""

    client_id: uuid.UUID
    key: str
    fingerprint: bytes

    @property
    def name(self) -> tuple[uuid.UUID, str]:
        return self.client_id, self.key


def claim_of(caller: Caller, operation: str, data: Any, key: str | None) -> Claim | None:
    """None without a key. Raises InvalidRequest for a bad one, InvalidJson for data too deep to compare."""
    return None if key is None else Claim(caller.id, read_key(key), _fingerprint(operation, data))


def once(caller: Caller, operation: str, data: Any, key: str | None, work: Callable[[], Answer]) -> Answer:
    """Does the work and stores its answer in one transaction, or gives the answer that the first request got.

    A request is its operation and its data. Without a key the work is simply done. What `work` raises
    leaves the key free. Raises IdempotencyMismatch, IdempotencyInProgress, InvalidRequest for a bad key.
    """
    claim = claim_of(caller, operation, data, key)
    if claim is None:
        return work()
    # The key comes last, with its answer: nearly every request is the first, and a repeat's work is undone.
    try:
        with in_progress(), transaction.atomic():
            answer = work()
            rows(_KEEP, {**_known_by(claim), "status": answer.status, "answer": orjson.dumps(answer.body).decode()})
            return answer
    except IntegrityError as error:
        if not isinstance(error.__cause__, UniqueViolation) or error.__cause__.diag.constraint_name != ONE_KEY:
            raise
        return _repeated(claim)
    except Refusal as refusal:
        return _repeated(claim, refusal)


def _repeated(claim: Claim, otherwise: Refusal | None = None) -> Answer:
    found = replays({0: claim}).get(0, otherwise or key_is_taken())
    if isinstance(found, Refusal):
        raise found
    return found


@contextmanager
def in_progress() -> Iterator[None]:
    """Whose twin runs for longer than LOCK_WAIT is told so. Raises IdempotencyInProgress."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise key_is_taken() from error
        raise


def key_is_taken() -> IdempotencyInProgress:
    """By a twin whose answer is not to be seen."""
    return IdempotencyInProgress("Ask again in a second.", retry_after=1)


ONE_KEY = "one_idempotency_key_per_client"
# A concurrent twin waits here until the first one has committed, for LOCK_WAIT at most, and then fails by ONE_KEY.
_KEEP = f"""
INSERT INTO messaging_idempotencykey (client_id, key, fingerprint, status, body, expires_at)
SELECT %(client)s, %(key)s, %(fingerprint)s, %(status)s, %(answer)s::jsonb,
  clock_timestamp() + interval '{KEEP_ANSWERS}'
FROM set_config('lock_timeout', '{LOCK_WAIT}', true)
"""  # noqa: S608  literals of this module


def _known_by(claim: Claim) -> dict[str, Any]:
    return {"client": claim.client_id, "key": claim.key, "fingerprint": claim.fingerprint}


def replays(claims: Mapping[int, Claim]) -> dict[int, Answer | Refusal]:
    """By index, for those whose key was used before: the first answer, or that it was to another request."""
    if not claims:
        return {}
    found = rows(
        """
        SELECT client_id, key, fingerprint, status, body::text FROM messaging_idempotencykey
        WHERE (client_id, key) IN (SELECT * FROM unnest(%(clients)s::uuid[], %(keys)s::text[]))""",
        {"clients": [c.client_id for c in claims.values()], "keys": [c.key for c in claims.values()]},
    )
    first = {(client, key): rest for client, key, *rest in found}
    known = {index: first.get(claim.name) for index, claim in claims.items()}
    return {index: _replay(claims[index], *stored) for index, stored in known.items() if stored}


def _replay(claim: Claim, fingerprint: bytes, status: int, body: str) -> Answer | Refusal:
    if bytes(fingerprint) != claim.fingerprint:
        return IdempotencyMismatch("Use a new key for another request.")
    return Answer(status, orjson.loads(body), replayed=True)


def read_key(key: str) -> str:
    """The draft's quoted form and the bare one are the same key."""
    if not KEY.fullmatch(key):
        error = FieldError("Idempotency-Key", "bad_format", "1 to 255 visible ASCII characters.")
        raise InvalidRequest(errors=(error,))
    return key[1:-1] if key.startswith('"') and key.endswith('"') and len(key) > 2 else key


def _fingerprint(operation: str, data: Any) -> bytes:
    return hashlib.sha256(operation.encode() + b"\n" + _canonical(data)).digest()


def _canonical(data: Any) -> bytes:
    """The same bytes for the same request, however its names are ordered, and other bytes for any other."""
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, a huge integer, deep nesting: one item's fault, not the whole batch's
        pass
    try:
        return json.dumps(data, sort_keys=True).encode()
    except RecursionError:
        raise InvalidJson("It is nested too deeply.") from None
