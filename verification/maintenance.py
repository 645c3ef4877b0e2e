"""What time does to challenges and counters. Run by the sweeper's leader."""

from providers.sql import rows
from verification.records import close
from verification.states import ChallengeStatus

GROUP = 500
KEEP = "30 days"  # closed challenges


def expire() -> None:
    """pending -> expired: seeds are wiped, events told."""
    due = f"""id IN (SELECT id FROM verification_challenge WHERE status = 'pending' AND expires_at <= clock_timestamp()
      ORDER BY expires_at LIMIT {GROUP} FOR UPDATE SKIP LOCKED)"""  # noqa: S608  a literal
    while len(close(due, {}, ChallengeStatus.EXPIRED)) == GROUP:
        pass


def purge() -> None:
    """Forgets old challenges, and counters whose time is over."""
    for statement in (_CHALLENGES, _BUCKETS):
        while len(rows(statement)) == GROUP:
            pass


# What hangs on a challenge goes with it; the messages have a retention of their own.
_CHALLENGES = f"""
WITH old AS (
  SELECT id FROM verification_challenge WHERE closed_at < clock_timestamp() - interval '{KEEP}'
  LIMIT {GROUP} FOR UPDATE SKIP LOCKED
), attempts AS (DELETE FROM verification_codeattempt a USING old WHERE a.challenge_id = old.id
), messages AS (DELETE FROM verification_codemessage m USING old WHERE m.challenge_id = old.id
)
DELETE FROM verification_challenge c USING old WHERE c.id = old.id RETURNING 1
"""  # noqa: S608  literals of this module

_BUCKETS = f"""
DELETE FROM verification_bucket WHERE id IN (
  SELECT id FROM verification_bucket WHERE until < clock_timestamp() LIMIT {GROUP} FOR UPDATE SKIP LOCKED) RETURNING 1
"""  # noqa: S608  literals of this module
