"""Is somebody guessing over many numbers? One guess at each is under every limit: only the share of wrong ones tells.

Five guesses at each of a hundred thousand numbers find a code of six digits every second time.
"""

import logging

from providers.sql import rows

log = logging.getLogger(__name__)

NOW, BEFORE = "5 minutes", "7 days"
TIMES = 3  # as large as before is too large
USUAL = 0.05  # people mistype; without a past that tells more
LEAST = 50  # wrong guesses, or a handful of people would be an alarm


def guessing() -> None:
    """Warns while far more guesses are wrong than usual, ten minutes late at most: a challenge counts when closed."""
    ((wrong, right, wrong_before, right_before),) = rows(_GUESSES)
    if wrong >= LEAST and _share(wrong, right) > TIMES * max(USUAL, _share(wrong_before, right_before)):
        log.warning("far more guesses are wrong than in the last seven days", extra={"count": wrong})


def _share(wrong: int, right: int) -> float:
    return wrong / (wrong + right) if wrong else 0.0


# Index challenge_closed; constraint one_hour_per_key.
_GUESSES = f"""
SELECT now.wrong, now.verified, before.wrong, before.verified
FROM (SELECT coalesce(sum(checks), 0)::bigint AS wrong, count(*) FILTER (WHERE status = 'verified') AS verified
  FROM verification_challenge WHERE closed_at >= statement_timestamp() - interval '{NOW}') now,
  (SELECT coalesce(sum(wrong), 0)::bigint AS wrong, coalesce(sum(verified), 0)::bigint AS verified
  FROM verification_hour WHERE hour >= statement_timestamp() - interval '{BEFORE}') before
"""  # noqa: S608  literals of this module
