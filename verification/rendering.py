"""The one place where a code and its text meet: in the memory of the worker that sends it."""

import uuid
from collections.abc import Sequence

from messaging.rendering import Asked
from providers.sql import records, rows
from verification import codes, texts
from verification.codes import Binding
from verification.records import PENDING


def render(asked: Sequence[Asked]) -> dict[uuid.UUID, str | None]:
    """The whole text by attempt; None where the challenge is closed. Runs in the transaction that claims them.

    Raises KeyError where this worker's OTP_KEYS lacks a key.
    """
    found = rows(
        """
        SELECT r.attempt_id, c.id, c.client_id, c.purpose, c."to", c.context, c.code_length, c.kid, c.seed,
          c.code_per_attempt, a.generation
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(attempt_id uuid, message_id uuid)
        JOIN verification_codemessage m ON m.message_id = r.message_id
        JOIN verification_challenge c ON c.id = m.challenge_id
        LEFT JOIN verification_codeattempt a ON a.attempt_id = r.attempt_id
        WHERE c.status = 'pending' AND c.expires_at > clock_timestamp() ORDER BY c.id, m.seq""",
        {"rows": records({"attempt_id": one.attempt_id, "message_id": one.message_id} for one in asked)},
    )
    text_of = {one.attempt_id: one.text for one in asked}
    rendered: dict[uuid.UUID, str | None] = dict.fromkeys(text_of)
    # In the order of their challenges: two workers that hold two messages of each must not wait for each other.
    for attempt, *bound, code_per_attempt, generation in found:
        if not code_per_attempt:
            generation = 0
        elif generation is None:
            generation = _allot(bound[0], attempt)
        if generation is not None:
            rendered[attempt] = texts.fill(text_of[attempt], codes.derive(Binding(*bound), generation))
    return rendered


def _allot(challenge: uuid.UUID, attempt: uuid.UUID) -> int | None:
    """The next generation, written with the attempt that carries it; a re-post of that finds it again."""
    found = rows(
        f"""
        WITH c AS (
          UPDATE verification_challenge SET generation = generation + 1
          WHERE id = %(challenge)s AND {PENDING} RETURNING id, generation
        )
        INSERT INTO verification_codeattempt (attempt_id, challenge_id, generation)
        SELECT %(attempt)s, id, generation FROM c RETURNING generation""",  # noqa: S608  a literal fragment
        {"challenge": challenge, "attempt": attempt},
    )
    return found[0][0] if found else None
