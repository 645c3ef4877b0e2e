"""One answer to one request: the first is stored, and given again to every repeat under its key."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from messaging.clients import Caller
from messaging.errors import FieldError, IdempotencyInProgress, IdempotencyMismatch, InvalidJson, InvalidRequest
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


def once(caller: Caller, operation: str, data: Any, key: str | None, work: Callable[[], Answer]) -> Answer:
    """Does the work and stores its answer in one transaction, or gives the answer that the first request got.

    A request is its operation and its data. Without a key the work is simply done. What `work` raises
    leaves the key free. Raises IdempotencyMismatch, IdempotencyInProgress, InvalidRequest for a bad key.
    """
    if key is None:
        return work()
    key = _read_key(key)
    fingerprint = hashlib.sha256(operation.encode() + b"\n" + _canonical(data)).digest()
    with transaction.atomic():
        answer = _first_answer(caller, key, fingerprint)
        if answer is None:
            answer = work()
            rows(
                "UPDATE messaging_idempotencykey SET status = %(status)s, body = %(body)s::jsonb "
                "WHERE client_id = %(client)s AND key = %(key)s",
                {
                    "status": answer.status,
                    "body": orjson.dumps(answer.body).decode(),
                    "client": caller.id,
                    "key": key,
                },
            )
    return answer


def _first_answer(caller: Caller, key: str, fingerprint: bytes) -> Answer | None:
    """Takes the key for this request (None), or gives the answer that the first one got.

    A concurrent twin waits here until the first one has committed. Raises IdempotencyInProgress when
    that takes longer than LOCK_WAIT, IdempotencyMismatch for another request under the same key.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        taken = rows(
            f"""
            INSERT INTO messaging_idempotencykey (client_id, key, fingerprint, expires_at)
            VALUES (%(client)s, %(key)s, %(fingerprint)s, clock_timestamp() + interval '{KEEP_ANSWERS}')
            ON CONFLICT (client_id, key) DO NOTHING RETURNING 1""",  # noqa: S608  literals of this module
            {"client": caller.id, "key": key, "fingerprint": fingerprint},
        )
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise IdempotencyInProgress("Ask again in a second.", retry_after=1) from error
        raise
    if taken:
        return None
    found = rows(
        "SELECT fingerprint, status, body::text FROM messaging_idempotencykey "
        "WHERE client_id = %(client)s AND key = %(key)s",
        {"client": caller.id, "key": key},
    )
    if not found:  # purged between the two statements
        raise IdempotencyInProgress("Ask again in a second.", retry_after=1)
    stored, status, body = found[0]
    if bytes(stored) != fingerprint:
        raise IdempotencyMismatch("Use a new key for another request.")
    return Answer(status, orjson.loads(body), replayed=True)


def _read_key(key: str) -> str:
    """The draft's quoted form and the bare one are the same key."""
    if not KEY.fullmatch(key):
        error = FieldError("Idempotency-Key", "bad_format", "1 to 255 visible ASCII characters.")
        raise InvalidRequest(errors=(error,))
    return key[1:-1] if key.startswith('"') and key.endswith('"') and len(key) > 2 else key


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
