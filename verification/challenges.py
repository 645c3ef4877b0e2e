"""The life of a challenge: start, resend, cancel. Its checks are in checking.py."""

import math
import secrets
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction

from messaging import intake
from messaging.clients import Caller
from messaging.drafts import SHORTEST_VALIDITY, Draft
from messaging.errors import FieldError, InvalidRequest, UnknownObject
from messaging.idempotency import REFUSALS as ONCE
from messaging.idempotency import Answer, once
from messaging.models import rfc3339, uuid7
from messaging.quotas import Room, reserve
from messaging.states import MessageClass
from providers.sql import rows
from routing.numbers import mask
from verification import codes, drafts, guard, profiles, texts
from verification.drafts import StartDraft
from verification.errors import NoSendsLeft, NotPending, ResendTooEarly
from verification.evidence import counted
from verification.profiles import Policy
from verification.records import COLUMNS, Row, body, close, find, normal, stand_down
from verification.states import ChallengeStatus

RENDERER = "code"
START_REFUSALS = (*intake.REFUSALS, *guard.REFUSALS, *ONCE)
RESEND_REFUSALS = (UnknownObject, NotPending, NoSendsLeft, ResendTooEarly, *guard.REFUSALS, *intake.REFUSALS, *ONCE)
CANCEL_REFUSALS = (UnknownObject, NotPending)


def start(caller: Caller, data: Any, *, idempotency_key: str | None = None) -> Answer:
    """Starts a challenge and hands its first message in, in one transaction; an older one of the same client,
    purpose and number is closed by it.

    Raises Refusal; then nothing was started, and the refusal is on record where a rule or a limit made it.
    """
    draft = drafts.read_start(data)

    def work() -> Answer:
        policy = profiles.find(caller, draft.purpose, draft.profile)
        _need_context(policy, draft)
        with transaction.atomic():
            return Answer(201, _start(caller, draft, policy, room))

    with guard.recorded(), reserve(caller, 1) as room:
        return _counted(once(caller, "verification", data, idempotency_key, work), room)


def _counted(answer: Answer, room: Room) -> Answer:
    """What a repeat started is undone, and costs no place."""
    if answer.replayed:
        room.spent = 0
    return answer


def _need_context(policy: Policy, draft: StartDraft) -> None:
    missing = [name for name in policy.context_fields if name not in draft.context]
    if missing:
        errors = [
            FieldError(f"context.{name}", "required", "The profile of this purpose needs it.") for name in missing
        ]
        raise InvalidRequest(errors=tuple(errors))


def _start(caller: Caller, draft: StartDraft, policy: Policy, room: Room) -> dict[str, Any]:
    # Two starts for one number take turns: the later one finds the earlier one and closes it.
    rows(
        "SELECT pg_advisory_xact_lock(hashtextextended(%(name)s, 0))",
        {"name": f"{caller.id} {draft.purpose} {draft.msisdn}"},
    )
    guard.admit(caller, draft, policy)
    _supersede(caller, draft)
    challenge = _insert(caller, draft, policy)
    _send(caller, challenge, policy, room, seq=1)
    return _pending_body(challenge)


def _supersede(caller: Caller, draft: StartDraft) -> None:
    where = """status = 'pending' AND client_id = %(client)s AND purpose = %(purpose)s AND "to" = %(to)s"""
    found = {"client": caller.id, "purpose": draft.purpose, "to": draft.msisdn}
    close(where, found, ChallengeStatus.CANCELLED, "newer_start")


def _insert(caller: Caller, draft: StartDraft, policy: Policy) -> Row:
    params = {
        "id": uuid7(),
        "reference": urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
        "client": caller.id,
        "purpose": draft.purpose,
        "profile": draft.profile,
        "to": draft.msisdn,
        "country": draft.country,
        "locale": texts.locale_for(
            draft.locale,
            draft.msisdn,
            draft.country,
            policy.locale,
            client=caller.slug,
            template=template_of(policy, draft.context),
        ),
        "context": codes.canonical(draft.context).decode(),
        "ip": draft.ip or None,
        "device": draft.device,
        "seed": secrets.token_bytes(codes.SEED_BYTES),
        "kid": codes.newest(),
        "code_length": policy.code_length,
        "code_per_attempt": policy.code_per_attempt,
        "max_checks": policy.max_checks,
        "max_sends": policy.max_sends,
        "ttl": policy.ttl_seconds,
        "cooldown": policy.cooldown(1),
    }
    return Row(*rows(_INSERT, params)[0])


_INSERT = f"""
WITH c AS (
INSERT INTO verification_challenge (id, reference, client_id, purpose, profile, "to", country, locale, status, context,
  ip, device, seed, kid, code_length, code_per_attempt, max_checks, max_sends, created_at, expires_at, resend_at)
SELECT %(id)s, %(reference)s, %(client)s, %(purpose)s, %(profile)s, %(to)s, %(country)s, %(locale)s, 'pending',
  %(context)s::jsonb, %(ip)s::inet, %(device)s, %(seed)s, %(kid)s, %(code_length)s, %(code_per_attempt)s,
  %(max_checks)s, %(max_sends)s, now, now + %(ttl)s * interval '1 second', now + %(cooldown)s * interval '1 second'
FROM clock_timestamp() now
RETURNING *
), counted AS ({counted("c", verified=False)}
)
SELECT {COLUMNS} FROM c
"""  # noqa: S608  a literal fragment


def _send(caller: Caller, challenge: Row, policy: Policy, room: Room, *, seq: int) -> None:
    """Hands in the message of a start or a resend. It is never sent later than the challenge lives."""
    if challenge.to in settings.VERIFY_TEST_NUMBERS:
        return
    text = texts.compose(
        client=caller.slug,
        template=template_of(policy, challenge.context),
        locale=challenge.locale,
        minutes=math.ceil(challenge.left / 60),
        context=challenge.context,
        app_hash=policy.app_hash,
        webotp_host=policy.webotp_host,
    )
    message = intake.accept_draft(
        caller,
        Draft(
            msisdn=challenge.to,
            country=challenge.country,
            message_class=MessageClass.OTP,
            validity=int(challenge.left),
            text=text,
            sample=texts.sample(text, challenge.code_length),
            renderer=RENDERER,
            sender=policy.sender,
            locale=challenge.locale,
            tried=_used_providers(challenge.id) if seq > 1 else (),
            failover_after=policy.receipt_wait_seconds,
        ),
        room,
    )
    guard.spend(caller, challenge, message.prepared.cost, message.prepared.currency, policy)
    rows(
        "INSERT INTO verification_codemessage (message_id, challenge_id, seq) "
        "VALUES (%(message)s, %(challenge)s, %(seq)s)",
        {"message": message.prepared.id, "challenge": challenge.id, "seq": seq},
    )


def template_of(policy: Policy, context: Mapping[str, str]) -> str:
    """A context is always shown: whoever approves it must have read it (PSD2 RTS, article 5)."""
    return policy.template or ("code_payment" if context else "code")


def _used_providers(challenge: uuid.UUID) -> tuple[int, ...]:
    found = rows(
        """
        SELECT DISTINCT a.provider_id FROM verification_codemessage c JOIN messaging_attempt a USING (message_id)
        WHERE c.challenge_id = %(challenge)s""",
        {"challenge": challenge},
    )
    return tuple(provider for (provider,) in found)


def resend(caller: Caller, reference: str, *, idempotency_key: str | None = None) -> Answer:
    """Sends the code of a pending challenge again, by a provider that has not tried yet where there is one.

    Its time is not extended, and no check is given back. Raises UnknownObject, NotPending, ResendTooEarly,
    NoSendsLeft, DestinationBlocked, LimitReached, and what a message is refused for.
    """

    def work() -> Answer:
        with transaction.atomic():
            return Answer(202, _resend(caller, reference, room))

    with guard.recorded(), reserve(caller, 1) as room:
        return _counted(once(caller, "verification.resend", reference, idempotency_key, work), room)


def _resend(caller: Caller, reference: str, room: Room) -> dict[str, Any]:
    challenge = find(caller, reference, lock=True)
    if challenge is None:
        raise UnknownObject
    if challenge.shown_status != ChallengeStatus.PENDING or challenge.left < SHORTEST_VALIDITY:
        closed = challenge.shown_status != ChallengeStatus.PENDING
        raise NotPending(f"It is {challenge.shown_status}." if closed else "It is about to end.")
    if challenge.sends >= challenge.max_sends:
        raise guard.told(NoSendsLeft(), guard.of_challenge(caller, challenge), "no_sends_left")
    if challenge.wait > 0:
        early = ResendTooEarly(retry_after=math.ceil(challenge.wait))
        raise guard.told(early, guard.of_challenge(caller, challenge), "resend_too_early")
    policy = profiles.find(caller, challenge.purpose, challenge.profile)
    guard.admit_again(caller, challenge, policy)
    again = rows(
        f"""
        UPDATE verification_challenge SET sends = sends + 1,
          resend_at = clock_timestamp() + %(cooldown)s * interval '1 second'
        WHERE id = %(id)s RETURNING {COLUMNS}""",  # noqa: S608  a literal fragment
        {"id": challenge.id, "cooldown": policy.cooldown(challenge.sends + 1)},
    )
    challenge = Row(*again[0])
    _send(caller, challenge, policy, room, seq=challenge.sends)
    stand_down([challenge.id])
    return _pending_body(challenge)


def cancel(caller: Caller, reference: str) -> dict[str, Any]:
    """pending -> cancelled; a repeat changes nothing. Raises UnknownObject, NotPending."""
    where = "client_id = %(client)s AND reference = %(reference)s AND expires_at > clock_timestamp()"
    found = {"client": caller.id, "reference": normal(reference)}
    with transaction.atomic():
        close(where, found, ChallengeStatus.CANCELLED, "client")
        challenge = find(caller, reference)
        if challenge is None:
            raise UnknownObject
        if challenge.status != ChallengeStatus.CANCELLED:
            raise NotPending(f"It is {challenge.shown_status}.")
    return body(challenge)


def get(caller: Caller, reference: str) -> dict[str, Any]:
    """Raises UnknownObject."""
    challenge = find(caller, reference)
    if challenge is None:
        raise UnknownObject
    return body(challenge)


def _pending_body(challenge: Row) -> dict[str, Any]:
    return {
        "reference": challenge.reference,
        "status": challenge.status,
        "expires_at": rfc3339(challenge.expires_at),
        "resend_at": rfc3339(challenge.resend_at),
        "to_masked": mask(challenge.to),
    }
