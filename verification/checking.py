"""Is that the code? Compared, counted and closed by one statement; a success is a token that is redeemed once."""

import hmac
import secrets
import uuid
from collections.abc import Sequence
from typing import Any, cast

from django.conf import settings
from django.db import transaction

from messaging.clients import Caller
from messaging.errors import InvalidRequest, UnknownObject
from messaging.idempotency import REFUSALS as ONCE
from messaging.idempotency import Answer, once, read_key
from messaging.serializers import moment
from providers.sql import rows
from routing.numbers import mask
from verification import codes, drafts, limits
from verification.drafts import CheckDraft
from verification.errors import AlreadyRedeemed
from verification.evidence import counted
from verification.records import COLUMNS, NOBODY, PENDING, Row, close, decoy, find, normal, stand_down, told
from verification.states import USED, ChallengeStatus

TOKEN_SECONDS = 600
CHECK_REFUSALS = (UnknownObject, InvalidRequest)
REDEEM_REFUSALS = (UnknownObject, AlreadyRedeemed, InvalidRequest, *ONCE)


def check(caller: Caller, reference: str, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Compares, counts and closes. A wrong code and a wrong purpose or context are answered alike.

    A success has a result token. Its repeat under the same key is answered the same; a wrong guess always counts.
    Raises UnknownObject, alike and in the same time for what is unknown, another client's or no reference at all;
    InvalidRequest, which counts as no guess.
    """
    draft = drafts.read_check(data)
    key = None if idempotency_key is None else read_key(idempotency_key)
    salt = secrets.token_bytes(16)
    with transaction.atomic():
        challenge = find(caller, reference) or decoy()
        generation = _generation(challenge, draft.code)
        same = draft.purpose == challenge.purpose and draft.context == challenge.context
        right = generation is not None and same
        found = rows(
            _CHECK,
            {
                "id": challenge.id,
                "client": caller.id,
                "right": right,
                "generation": generation,
                "salt": salt,
                "key": _mark(key, draft, challenge, salt),
                "token_seconds": TOKEN_SECONDS,
            },
            planned_once=True,
        )
        if challenge.id == NOBODY:
            raise UnknownObject
        if not found:
            return _not_counted(caller, challenge, key, draft)
        checked = Row(*found[0])
        if right:
            limits.forget("failed_row", f"{checked.purpose} {checked.to}")
        elif limits.take(limits.of_failure(checked.purpose, checked.to)) and checked.status == ChallengeStatus.PENDING:
            close("id = %(id)s", {"id": checked.id}, ChallengeStatus.LOCKED, "too_many_failures")
            checked = cast(Row, find(caller, reference))
        if checked.status != ChallengeStatus.PENDING:
            stand_down([checked.id])
    return Answer(200, _checked_body(checked, valid=right))


def _generation(challenge: Row, guess: str) -> int | None:
    if fixed := settings.VERIFY_TEST_NUMBERS.get(challenge.to):
        return 0 if hmac.compare_digest(fixed.encode(), guess.encode("utf-8", "replace")) else None
    if challenge.seed is None:
        return None
    try:
        return codes.match(challenge.binding, _live(challenge), guess)
    except KeyError:  # its key was taken out of the ring too early: nobody knows the code any more
        return None


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


_CHECK = f"""
WITH c AS (
  UPDATE verification_challenge SET
    checks = checks + CASE WHEN %(right)s THEN 0 ELSE 1 END,
    status = CASE WHEN %(right)s THEN 'verified' WHEN checks + 1 >= max_checks THEN 'locked' ELSE status END,
    seed = CASE WHEN %(right)s OR checks + 1 >= max_checks THEN NULL ELSE seed END,
    closed_at = CASE WHEN %(right)s OR checks + 1 >= max_checks THEN clock_timestamp() END,
    verified_at = CASE WHEN %(right)s THEN clock_timestamp() END,
    verified_generation = CASE WHEN %(right)s THEN %(generation)s::int END,
    checked_by = CASE WHEN %(right)s THEN %(key)s::bytea END,
    token_salt = CASE WHEN %(right)s THEN %(salt)s::bytea END,
    token_expires_at = CASE WHEN %(right)s THEN clock_timestamp() + %(token_seconds)s * interval '1 second' END
  WHERE id = %(id)s AND client_id = %(client)s AND {PENDING} AND checks < max_checks
    AND expires_at > clock_timestamp()
  RETURNING *
), told AS ({told("c")}
), counted AS ({counted("(SELECT * FROM c WHERE status = 'verified')", verified=True)}
)
SELECT {COLUMNS} FROM c
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
