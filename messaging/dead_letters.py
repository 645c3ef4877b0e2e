"""What time does to dead letters. Run by the sweeper's leader."""

from django.conf import settings

from providers.sql import in_groups, rows

GROUP = 500


def purge() -> None:
    """Forgets the old ones; where there is Kafka, those that are on its topic of dead letters."""
    in_groups(lambda: len(rows(_OLD, {"days": settings.DEAD_LETTER_DAYS, "kafka": _kafka()})), GROUP)


def _kafka() -> bool:
    return bool(settings.KAFKA_BOOTSTRAP_SERVERS)


_OLD = f"""
DELETE FROM messaging_deadletter WHERE id IN (
  SELECT id FROM messaging_deadletter WHERE received_at < statement_timestamp() - %(days)s * interval '1 day'
    AND (published_at IS NOT NULL OR NOT %(kafka)s)
  ORDER BY received_at LIMIT {GROUP} FOR UPDATE SKIP LOCKED)
RETURNING 1
"""  # noqa: S608  a literal
