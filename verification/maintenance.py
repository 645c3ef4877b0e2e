"""What time does to challenges and counters. Run by the sweeper's leader."""

from functools import partial

from providers.sql import in_groups, rows
from verification.evidence import KEEP_DAYS, KEEP_HOURS
from verification.limits import DAY
from verification.records import close
from verification.states import ChallengeStatus

GROUP = 500
# Compared with statement_timestamp(): clock_timestamp() may change while an index is read, so none is asked.
KEEP = "30 days"  # closed challenges, refusals
KEEP_BLOCKS = "90 days"  # after their end


def expire() -> None:
    """pending -> expired: seeds are wiped, events told."""
    due = f"""id IN (
      SELECT id FROM verification_challenge WHERE status = 'pending' AND expires_at <= statement_timestamp()
      ORDER BY expires_at LIMIT {GROUP} FOR UPDATE SKIP LOCKED)"""  # noqa: S608  a literal
    in_groups(lambda: len(close(due, {}, ChallengeStatus.EXPIRED)), GROUP)


def purge() -> None:
    """Forgets old challenges and refusals, blocks that ended long ago, and counts whose time is over."""
    for statement in OLD:
        in_groups(partial(_forget, statement), GROUP)


def _forget(statement: str) -> int:
    return len(rows(statement))


# What hangs on a challenge goes with it; the messages have a retention of their own.
_CHALLENGES = f"""
WITH old AS (
  SELECT id FROM verification_challenge WHERE closed_at < statement_timestamp() - interval '{KEEP}'
  LIMIT {GROUP} FOR UPDATE SKIP LOCKED
), attempts AS (DELETE FROM verification_codeattempt a USING old WHERE a.challenge_id = old.id
), messages AS (DELETE FROM verification_codemessage m USING old WHERE m.challenge_id = old.id
)
DELETE FROM verification_challenge c USING old WHERE c.id = old.id RETURNING 1
"""  # noqa: S608  literals of this module

_FORGET = [
    f"""
    DELETE FROM verification_{table} WHERE id IN (
      SELECT id FROM verification_{table} WHERE {old} LIMIT {GROUP} FOR UPDATE SKIP LOCKED) RETURNING 1"""  # noqa: S608
    for table, old in (
        ("bucket", "until < statement_timestamp()"),
        ("refused", f"created_at < statement_timestamp() - interval '{KEEP}'"),
        ("block", f"coalesce(lifted_at, expires_at) < statement_timestamp() - interval '{KEEP_BLOCKS}'"),
        (
            "startcount",
            f"at < statement_timestamp() - interval '{KEEP_HOURS}' AND (kind <> 'country' OR span < {DAY}) "
            f"OR at < statement_timestamp() - interval '{KEEP_DAYS}'",
        ),
    )
]
OLD = (_CHALLENGES, *_FORGET)
