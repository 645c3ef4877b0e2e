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
    for table, old in (
        ("challenge", f"closed_at < clock_timestamp() - interval '{KEEP}'"),
        ("bucket", "until < clock_timestamp()"),
    ):
        statement = f"""
            DELETE FROM verification_{table} WHERE id IN (SELECT id FROM verification_{table}
              WHERE {old} LIMIT {GROUP} FOR UPDATE SKIP LOCKED) RETURNING 1"""  # noqa: S608  literals of this module
        while len(rows(statement)) == GROUP:
            pass
