"""One answer to one request: the first is stored, and given again to every repeat under its key."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import IntegrityError, OperationalError, connection, transaction
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
from providers.sql import records, rows

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

    key: str
    fingerprint: bytes


def once(
    caller: Caller,
    operation: str,
    data: Any,
    key: str | None,
    work: Callable[[Claim | None], Answer],
    *,
    keeps: bool = False,
) -> Answer:
    """Does the work and stores its answer in one transaction, or gives the answer that the first request got.

    A request is its operation and its data. Without a key the work is simply done. What `work` raises
    leaves the key free. `keeps`: the work is one statement, which has `keep` in it. Raises IdempotencyMismatch,
    IdempotencyInProgress, InvalidRequest for a bad key.
    """
    if key is None:
        return work(None)
    claim = Claim(read_key(key), _fingerprint(operation, data))
    # The key comes last, with its answer: nearly every request is the first, and a repeat's work is undone.
    try:
        if keeps and not connection.in_atomic_block:
            return work(claim)
        with transaction.atomic():
            answer = work(claim)
            if not keeps:
                rows(_KEEP, claim_params(caller, claim, answer))
            return answer
    except IntegrityError as error:
        if not isinstance(error.__cause__, UniqueViolation) or error.__cause__.diag.constraint_name != ONE_KEY:
            raise
        return _replay(claim.fingerprint, _first(caller, claim.key))
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise IdempotencyInProgress("Ask again in a second.", retry_after=1) from error
        raise
    except Refusal:
        first = _first(caller, claim.key)
        if first is None:
            raise
        return _replay(claim.fingerprint, first)


ONE_KEY = "one_idempotency_key_per_client"


def keep(answer: str, source: str) -> str:
    """INSERT of the key with its answer, an SQL expression over `source`. A concurrent twin waits in it until the
    first one has committed, for LOCK_WAIT at most, and then fails by ONE_KEY. Needs `claim_params`."""
    return f"""
    INSERT INTO messaging_idempotencykey (client_id, key, fingerprint, status, body, expires_at)
    SELECT %(client)s, %(key)s, %(fingerprint)s, %(status)s, {answer}, clock_timestamp() + interval '{KEEP_ANSWERS}'
    FROM {source}, set_config('lock_timeout', %(wait)s, true)"""  # noqa: S608  literals of this module


def claim_params(caller: Caller, claim: Claim, answer: Answer) -> dict[str, Any]:
    key = {"key": claim.key, "fingerprint": claim.fingerprint, "status": answer.status}
    return {"client": caller.id, **key, "answer": orjson.dumps(answer.body).decode(), "wait": LOCK_WAIT}


_KEEP = keep("%(answer)s::jsonb", "(SELECT) one")


def _first(caller: Caller, key: str) -> Sequence[Any] | None:
    """Fingerprint, status and body of the first answer."""
    found = rows(
        "SELECT fingerprint, status, body::text FROM messaging_idempotencykey "
        "WHERE client_id = %(client)s AND key = %(key)s",
        {"client": caller.id, "key": key},
    )
    return found[0] if found else None


def once_each(
    caller: Caller,
    operation: str,
    requests: Sequence[tuple[str, Any]],
    work: Callable[[list[Any]], list[Answer | Refusal]],
) -> list[Answer | Refusal]:
    """Many requests, each a key and its data, by the rules of `once`, with one statement for each of its steps.

    `work` gets the data that is to be done and gives a result for each; a refusal leaves its key free.
    """
    results: dict[int, Answer | Refusal] = {}
    waiting: list[_Keyed] = []
    for index, (key, data) in enumerate(requests):
        try:
            waiting.append(_Keyed(index, read_key(key), _fingerprint(operation, data), data))
        except Refusal as refusal:
            results[index] = refusal
    with transaction.atomic():
        while waiting:  # a key that is there twice: the second one is a repeat of the first
            firsts = {request.key: request for request in reversed(waiting)}
            waiting = [request for request in waiting if firsts[request.key] is not request]
            results |= _round(caller, sorted(firsts.values(), key=lambda request: request.index), work)
    return [results[index] for index in range(len(requests))]


@dataclass(frozen=True, slots=True)
class _Keyed:
    index: int
    key: str
    fingerprint: bytes
    data: Any


def _round(
    caller: Caller, requests: list[_Keyed], work: Callable[[list[Any]], list[Answer | Refusal]]
) -> dict[int, Answer | Refusal]:
    taken = _take(caller, requests)
    fresh = [request for request in requests if request.key in taken]
    results: dict[int, Answer | Refusal] = {}
    if known := [request for request in requests if request.key not in taken]:
        results |= _replays(caller, known)
    if not fresh:
        return results
    done = list(zip(fresh, work([request.data for request in fresh]), strict=True))
    rows(
        """
        UPDATE messaging_idempotencykey i SET status = r.status, body = r.body
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(key text, status int, body jsonb)
        WHERE i.client_id = %(client)s AND i.key = r.key""",
        {
            "client": caller.id,
            "rows": records(
                {"key": request.key, "status": answer.status, "body": answer.body}
                for request, answer in done
                if isinstance(answer, Answer)
            ),
        },
    )
    if refused := [request.key for request, answer in done if isinstance(answer, Refusal)]:
        rows(
            "DELETE FROM messaging_idempotencykey WHERE client_id = %(client)s AND key = ANY(%(keys)s)",
            {"client": caller.id, "keys": refused},
        )
    return results | {request.index: answer for request, answer in done}


def _take(caller: Caller, requests: list[_Keyed]) -> set[str]:
    """The keys that were free; in their order, so that two groups wait for each other but never deadlock."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
    found = rows(
        f"""
        INSERT INTO messaging_idempotencykey (client_id, key, fingerprint, expires_at)
        SELECT %(client)s, key, fingerprint, clock_timestamp() + interval '{KEEP_ANSWERS}'
        FROM unnest(%(keys)s::text[], %(fingerprints)s::bytea[]) AS r(key, fingerprint) ORDER BY key
        ON CONFLICT (client_id, key) DO NOTHING RETURNING key""",  # noqa: S608  literals of this module
        {
            "client": caller.id,
            "keys": [request.key for request in requests],
            "fingerprints": [request.fingerprint for request in requests],
        },
    )
    return {key for (key,) in found}


def _replays(caller: Caller, requests: list[_Keyed]) -> dict[int, Answer | Refusal]:
    found = rows(
        "SELECT key, fingerprint, status, body::text FROM messaging_idempotencykey "
        "WHERE client_id = %(client)s AND key = ANY(%(keys)s)",
        {"client": caller.id, "keys": [request.key for request in requests]},
    )
    stored = {key: rest for key, *rest in found}
    results: dict[int, Answer | Refusal] = {}
    for request in requests:
        try:
            results[request.index] = _replay(request.fingerprint, stored.get(request.key))
        except Refusal as refusal:
            results[request.index] = refusal
    return results


def _replay(fingerprint: bytes, stored: Sequence[Any] | None) -> Answer:
    if stored is None:  # purged between the two statements
        raise IdempotencyInProgress("Ask again in a second.", retry_after=1)
    first, status, body = stored
    if bytes(first) != fingerprint:
        raise IdempotencyMismatch("Use a new key for another request.")
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
