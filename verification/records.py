"""Challenges as rows: found, closed with their events, and told."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from messaging.clients import Caller
from messaging.models import rfc3339
from messaging.moves import fan_out
from messaging.serializers import moment
from providers.sql import rows
from routing.numbers import mask
from verification import codes
from verification.codes import Binding
from verification.states import ChallengeStatus


@dataclass(frozen=True, slots=True)
class Row:
    """A challenge as it was found. `late`: its time is over, whether or not it was closed yet."""

    id: uuid.UUID
    reference: str
    client_id: uuid.UUID
    purpose: str
    profile: str
    to: str = field(repr=False)
    country: str
    locale: str
    status: str
    context: Mapping[str, str] = field(repr=False)
    ip: str = field(repr=False)
    device: str = field(repr=False)
    seed: bytes | None = field(repr=False)
    kid: int
    code_length: int
    code_per_attempt: bool
    checks: int
    max_checks: int
    sends: int
    max_sends: int
    created_at: datetime
    expires_at: datetime
    resend_at: datetime
    verified_at: datetime | None
    closed_at: datetime | None
    checked_by: bytes | None = field(repr=False)
    token_salt: bytes | None = field(repr=False)
    redeemed_at: datetime | None
    late: bool
    left: float  # seconds until it expires
    wait: float  # seconds until it may be sent again

    @property
    def shown_status(self) -> str:
        pending = self.status == ChallengeStatus.PENDING
        return ChallengeStatus.EXPIRED.value if pending and self.late else self.status

    @property
    def attempts_left(self) -> int:
        return self.max_checks - self.checks if self.shown_status == ChallengeStatus.PENDING else 0

    @property
    def binding(self) -> Binding:
        return Binding(
            challenge=self.id,
            client=self.client_id,
            purpose=self.purpose,
            msisdn=self.to,
            context=self.context,
            length=self.code_length,
            kid=self.kid,
            seed=bytes(self.seed or b""),
        )


COLUMNS = """id, reference, client_id, purpose, profile, "to", country, locale, status, context,
  coalesce(host(ip), '') AS ip, device, seed, kid, code_length, code_per_attempt, checks, max_checks, sends,
  max_sends, created_at, expires_at, resend_at, verified_at, closed_at, checked_by, token_salt, redeemed_at,
  expires_at <= clock_timestamp() AS late, extract(epoch FROM expires_at - clock_timestamp())::float8 AS remaining,
  extract(epoch FROM resend_at - clock_timestamp())::float8 AS wait"""


# Is it pending, of a row that is found by something else? Said so that no partial index of the pending ones fits: with
# statistics of a quiet hour the planner takes that, and walks all of them for one.
PENDING = "status || '' = 'pending'"


def find(caller: Caller, reference: str, *, lock: bool = False) -> Row | None:
    """What is another client's is looked for like what does not exist, by the same statement."""
    found = rows(
        f"SELECT {COLUMNS} FROM verification_challenge "  # noqa: S608  a literal fragment
        f"WHERE client_id = %(client)s AND reference = %(reference)s{' FOR UPDATE' if lock else ''}",
        {"client": caller.id, "reference": normal(reference)},
        planned_once=True,
    )
    return Row(*found[0]) if found else None


def normal(reference: str) -> str:
    """What cannot be a reference is looked for under one that nobody has."""
    return reference if len(reference) == 22 and reference.isascii() and reference.isprintable() else "-" * 22


_NEVER = datetime.min
NOBODY = uuid.UUID(int=0)


def decoy() -> Row:
    """Stands for what was not found: as much is computed and asked for it as for a challenge."""
    return Row(
        id=NOBODY,
        reference="-" * 22,
        client_id=NOBODY,
        purpose="",
        profile="",
        to="+10000000000",
        country="",
        locale="",
        status=ChallengeStatus.PENDING,
        context={},
        ip="",
        device="",
        seed=bytes(codes.SEED_BYTES),
        kid=codes.newest(),
        code_length=6,
        code_per_attempt=False,
        checks=0,
        max_checks=1,
        sends=1,
        max_sends=1,
        created_at=_NEVER,
        expires_at=_NEVER,
        resend_at=_NEVER,
        verified_at=None,
        closed_at=None,
        checked_by=None,
        token_salt=None,
        redeemed_at=None,
        late=False,
        left=0,
        wait=0,
    )


def told(source: str) -> str:
    """INSERT of the event of those rows of `source` that are closed. They close once, so its sequence is 1."""
    return f"""
  INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at, fan_out)
  SELECT uuidv7(), 'verification.' || c.status, c.reference, 1, c.client_id, jsonb_strip_nulls(jsonb_build_object(
    'reference', c.reference, 'status', c.status, 'purpose', c.purpose, 'country', c.country,
    'to_masked', left(c."to", 4) || repeat('*', length(c."to") - 7) || right(c."to", 3),
    'sends', c.sends, 'checks', c.checks, 'reason', nullif(c.reason, ''))), clock_timestamp(),
    {fan_out("c")}
  FROM {source} c WHERE c.status <> 'pending'"""  # noqa: S608  literals of this module


def close(where: str, params: Mapping[str, Any], status: ChallengeStatus, reason: str = "") -> list[uuid.UUID]:
    """pending -> `status` for those that `where`, a literal, finds; wipes seeds, writes events, returns ids."""
    found = rows(
        f"""
        WITH c AS (
          UPDATE verification_challenge SET status = %(status)s, reason = %(reason)s, seed = NULL,
            closed_at = clock_timestamp()
          WHERE {PENDING} AND {where} RETURNING *
        ), told AS ({told("c")}
        ) SELECT id FROM c""",  # noqa: S608  literal fragments
        {**params, "status": status.value, "reason": reason},
    )
    closed = [row[0] for row in found]
    stand_down(closed)
    return closed


def stood_down(source: str) -> str:
    """CTEs: the messages of those rows of `source` that are closed need no further provider. No lock is waited for:
    a worker may hold a message and wait for our row. Where HELD tells so, `stand_down` does the rest."""
    return f"""waiting AS (
  SELECT m.id AS waiting_id FROM {source} c JOIN verification_codemessage s ON s.challenge_id = c.id
  JOIN messaging_message m ON m.id = s.message_id WHERE c.status <> 'pending' AND m.failover_after IS NOT NULL
), stood AS (
  UPDATE messaging_message SET failover_after = NULL WHERE id IN (
    SELECT m.id FROM messaging_message m JOIN waiting ON m.id = waiting_id
    WHERE m.failover_after IS NOT NULL ORDER BY m.id FOR NO KEY UPDATE OF m SKIP LOCKED)
  RETURNING 1
)"""  # noqa: S608  a literal


HELD = "(SELECT count(*) FROM waiting) > (SELECT count(*) FROM stood) AS held"


def stand_down(challenges: Collection[uuid.UUID]) -> None:
    """Their messages need no further provider, but for the last one of what is still pending.

    After the commit: a worker may hold them and wait for our row.
    """
    if challenges:
        params = {"challenges": list(challenges)}
        # No functools.partial: where a robust hook fails, Django logs its __qualname__, and that has none.
        transaction.on_commit(lambda: rows(_STAND_DOWN, params, planned_once=True), robust=True)


# Locked in the order of ids, as by the workers that settle a group of them.
_STAND_DOWN = """
UPDATE messaging_message SET failover_after = NULL WHERE id IN (
  SELECT m.id FROM messaging_message m JOIN verification_codemessage s ON s.message_id = m.id
  JOIN verification_challenge c ON c.id = s.challenge_id
  WHERE c.id = ANY(%(challenges)s) AND (c.status <> 'pending' OR s.seq < c.sends) AND m.failover_after IS NOT NULL
  ORDER BY m.id FOR UPDATE OF m)
"""


def body(challenge: Row) -> dict[str, Any]:
    """A challenge as its client may see it: no code, and the number masked."""
    return {
        "reference": challenge.reference,
        "status": challenge.shown_status,
        "purpose": challenge.purpose,
        "profile": challenge.profile,
        "to_masked": mask(challenge.to),
        "country": challenge.country,
        "context": challenge.context,
        "attempts_left": challenge.attempts_left,
        "sends": challenge.sends,
        "created_at": rfc3339(challenge.created_at),
        "expires_at": rfc3339(challenge.expires_at),
        "resend_at": rfc3339(challenge.resend_at),
        "verified_at": moment(challenge.verified_at),
        "closed_at": moment(challenge.closed_at),
        "redeemed_at": moment(challenge.redeemed_at),
    }
