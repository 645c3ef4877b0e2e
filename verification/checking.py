"""Is that the code? Counted and closed by one statement; a success is a token that is redeemed once."""

import hmac
import secrets
import uuid
from collections.abc import Sequence
from typing import Any, cast

from django.conf import settings

from messaging.clients import Caller
from messaging.errors import InvalidRequest, UnknownObject
from messaging.idempotency import REFUSALS as ONCE
from messaging.idempotency import Answer, once, read_key
from messaging.serializers import moment
from providers.sql import records, rows
from routing.numbers import mask
from verification import codes, drafts, limits
from verification.drafts import CheckDraft
from verification.errors import AlreadyRedeemed, KeyAway
from verification.evidence import counted
from verification.records import (
    COLUMNS,
    HELD,
    NOBODY,
    PENDING,
    Row,
    decoy,
    find,
    normal,
    stand_down,
    stood_down,
    told,
)
from verification.states import USED, ChallengeStatus

TOKEN_SECONDS = 600
KEY_WAIT = 5  # seconds in which the processes of a fleet get a new key, one after the other
CHECK_REFUSALS = (UnknownObject, InvalidRequest, KeyAway)
REDEEM_REFUSALS = (UnknownObject, AlreadyRedeemed, InvalidRequest, *ONCE)


def check(caller: Caller, reference: str, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Compares, counts and closes. A wrong code and a wrong purpose or context are answered alike.

    A success has a result token. Its repeat under the same key is answered the same; a wrong guess always counts.
    Raises UnknownObject, alike and in the same time for what is unknown, another client's or no reference at all;
    InvalidRequest and KeyAway, which count as no guess.
    """
    draft = drafts.read_check(data)
    key = None if idempotency_key is None else read_key(idempotency_key)
    challenge = find(caller, reference) or decoy()
    generation = _generation(challenge, draft.code)
    same = draft.purpose == challenge.purpose and draft.context == challenge.context
    if same and generation is not None:
        counted = _right(caller, challenge, generation, key, draft)
    else:
        counted = _wrong(caller, challenge)
    if counted:
        checked, held = Row(*counted[:-1]), counted[-1]
        if held:
            stand_down([checked.id])
        return Answer(200, _checked_body(checked, valid=checked.status == ChallengeStatus.VERIFIED))
    if challenge.id == NOBODY:
        raise UnknownObject
    return _not_counted(caller, challenge, key, draft)


def _right(
    caller: Caller, challenge: Row, generation: int, key: str | None, draft: CheckDraft
) -> tuple[Any, ...] | None:
    salt = secrets.token_bytes(16)
    params = {
        "id": challenge.id,
        "client": caller.id,
        "generation": generation,
        "salt": salt,
        "key": _mark(key, draft, challenge, salt),
        "failures": f"{challenge.purpose} {challenge.to}",
        "token_seconds": TOKEN_SECONDS,
    }
    return next(iter(rows(_RIGHT, params, planned_once=True)), None)


def _wrong(caller: Caller, challenge: Row) -> tuple[Any, ...] | None:
    failures = limits.of_failure(challenge.purpose, challenge.to)
    params = {"id": challenge.id, "client": caller.id, "rows": records(failures), "limits": len(failures)}
    return next(iter(rows(_WRONG, params, planned_once=True)), None)


def _generation(challenge: Row, guess: str) -> int | None:
    """Which code the guess is. Raises KeyAway where this process cannot tell."""
    if challenge.seed is None:
        return None
    if challenge.kid not in codes.ring().keys:
        raise KeyAway(retry_after=KEY_WAIT)
    if fixed := settings.VERIFY_TEST_NUMBERS.get(challenge.to):
        return 0 if hmac.compare_digest(fixed.encode(), guess.encode("utf-8", "replace")) else None
    return codes.match(challenge.binding, _live(challenge), guess)


def _live(challenge: Row) -> Sequence[int]:
    """The generations that are right: the last ones that may have left; what was surely not sent takes no place."""
    if not challenge.code_per_attempt:
        return (0,)
    found = rows(
        """
        SELECT c.generation FROM verification_codeattempt c JOIN messaging_attempt a ON a.id = c.attempt_id
        WHERE c.challenge_id = %(challenge)s AND a.status NOT IN ('not_sent', 'rejected')
        ORDER BY c.generation DESC LIMIT %(most)s""",
        {"challenge": challenge.id, "most": codes.LIVE_GENERATIONS},
    )
    return [generation for (generation,) in found]


def _not_counted(caller: Caller, challenge: Row, key: str | None, draft: CheckDraft) -> Answer:
    """It was closed, perhaps a moment ago by another check: a fresh look tells how."""
    now = cast(Row, find(caller, challenge.reference))
    mark = _mark(key, draft, now, bytes(now.token_salt or b""))
    if now.checked_by and mark and hmac.compare_digest(bytes(now.checked_by), mark):
        return Answer(200, _checked_body(now, valid=True), replayed=True)
    return Answer(200, _checked_body(now, valid=False))


def _mark(key: str | None, draft: CheckDraft, challenge: Row, salt: bytes) -> bytes | None:
    """What the repeat of a success is known by: its key and all that was said, or a wrong guess would be right."""
    if key is None:
        return None
    try:
        return codes.mark(challenge.kid, salt, (key, draft.code, draft.purpose), draft.context)
    except KeyError:  # the key was taken out of the ring
        return None


# Still open, whatever was read before: the guard of both statements.
_OPEN = f"""id = %(id)s AND client_id = %(client)s AND {PENDING} AND checks < max_checks
    AND expires_at > clock_timestamp()"""

_RIGHT = f"""
WITH c AS (
  UPDATE verification_challenge SET status = 'verified', seed = NULL, closed_at = clock_timestamp(),
    verified_at = clock_timestamp(), verified_generation = %(generation)s::int, checked_by = %(key)s::bytea,
    token_salt = %(salt)s::bytea, token_expires_at = clock_timestamp() + %(token_seconds)s * interval '1 second'
  WHERE {_OPEN} RETURNING *
), told AS ({told("c")}
), counted AS ({counted("c", verified=True)}
), forgotten AS (
  DELETE FROM verification_bucket WHERE kind = 'failed_row' AND value = %(failures)s
    AND span = {limits.FOREVER} AND EXISTS (SELECT FROM c)
), {stood_down("c")}
SELECT {COLUMNS}, {HELD} FROM c
"""  # noqa: S608  literal fragments

# Locked first: it is counted against the limits of its number, and they tell whether it stays open.
_WRONG = f"""
WITH open AS (
  SELECT id AS open_id FROM verification_challenge WHERE {_OPEN} FOR NO KEY UPDATE
), failed AS ({limits.taking("EXISTS (SELECT FROM open)")}
), c AS (
  UPDATE verification_challenge SET checks = checks + 1,
    status = CASE WHEN checks + 1 >= max_checks OR too_many THEN 'locked' ELSE status END,
    reason = CASE WHEN checks + 1 < max_checks AND too_many THEN 'too_many_failures' ELSE reason END,
    seed = CASE WHEN checks + 1 >= max_checks OR too_many THEN NULL ELSE seed END,
    closed_at = CASE WHEN checks + 1 >= max_checks OR too_many THEN clock_timestamp() END
  FROM open, (SELECT count(*) < %(limits)s AS too_many FROM failed) f
  WHERE id = open_id RETURNING verification_challenge.*
), told AS ({told("c")}
), {stood_down("c")}
SELECT {COLUMNS}, {HELD} FROM c
"""  # noqa: S608  literal fragments


def redeem(caller: Caller, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Takes the result token of a success, once, within ten minutes: by any client that holds it and knows the purpose.

    Raises UnknownObject, also for an old token and another purpose; AlreadyRedeemed.
    """
    draft = drafts.read_redeem(data)

    def work() -> Answer:
        return Answer(200, _redeem(caller, draft.token, draft.purpose))

    return once(caller, "verification.redeem", data, idempotency_key, work)


def _redeem(caller: Caller, token: str, purpose: str) -> dict[str, Any]:
    reference = normal(token.partition(".")[0])
    # No more of the row than this: reading it would take a time that tells that it is there.
    known = rows(
        "SELECT id, kid, coalesce(token_salt, '') FROM verification_challenge "
        "WHERE reference = %(reference)s AND purpose = %(purpose)s",
        {"reference": reference, "purpose": purpose},
    )
    challenge, kid, salt = known[0] if known else (NOBODY, codes.newest(), b"")
    try:
        expected = codes.result_token(reference, kid, bytes(salt))
    except KeyError:  # the key was taken out of the ring
        raise UnknownObject from None
    right = hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")) and bool(salt)
    found = rows(
        f"""
        UPDATE verification_challenge SET redeemed_at = clock_timestamp(), redeemed_by_id = %(client)s
        WHERE id = %(id)s AND status = 'verified' AND redeemed_at IS NULL AND token_expires_at > clock_timestamp()
          AND %(right)s RETURNING {COLUMNS}""",  # noqa: S608  a literal fragment
        {"id": challenge, "client": caller.id, "right": right},
    )
    if found:
        return _redeemed_body(Row(*found[0]))
    if right and _is_redeemed(challenge):
        raise AlreadyRedeemed
    raise UnknownObject


def _is_redeemed(challenge: uuid.UUID) -> bool:
    """Looked up after the UPDATE: another request may have been a moment faster."""
    found = rows("SELECT redeemed_at FROM verification_challenge WHERE id = %(id)s", {"id": challenge})
    return bool(found and found[0][0])


def _checked_body(challenge: Row, *, valid: bool) -> dict[str, Any]:
    status = challenge.shown_status
    found: dict[str, Any] = {
        "reference": challenge.reference,
        "valid": valid,
        "status": USED if status == ChallengeStatus.VERIFIED and not valid else status,
        "attempts_left": challenge.attempts_left,
    }
    if valid:
        salt = bytes(challenge.token_salt or b"")
        found["result_token"] = codes.result_token(challenge.reference, challenge.kid, salt)
    return found


def _redeemed_body(challenge: Row) -> dict[str, Any]:
    return {
        "reference": challenge.reference,
        "purpose": challenge.purpose,
        "to_masked": mask(challenge.to),
        "context": challenge.context,
        "verified_at": moment(challenge.verified_at),
    }
