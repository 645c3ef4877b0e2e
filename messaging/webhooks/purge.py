"""Forgets what is finished: deliveries with their attempts, replays, endpoints that were deleted."""

from functools import partial

from django.conf import settings

from providers.sql import in_groups, rows

GROUP = 500


def purge() -> None:
    """Run by the sweeper's leader."""
    for statement in (_DELIVERIES, _REPLAYS, _LEFT_OVER, _ENDPOINTS):
        in_groups(partial(_forget, statement), GROUP)


def _forget(statement: str) -> int:
    return len(rows(statement, {"days": settings.WEBHOOK_KEEP_DAYS}))


def _deliveries(where: str) -> str:
    return f"""
WITH old AS (
  SELECT d.id FROM messaging_webhookdelivery d WHERE {where} LIMIT {GROUP} FOR UPDATE OF d SKIP LOCKED
), attempts AS (DELETE FROM messaging_webhookattempt a USING old WHERE a.delivery_id = old.id
)
DELETE FROM messaging_webhookdelivery d USING old WHERE d.id = old.id RETURNING 1
"""  # noqa: S608  literals of this module


_OLD = "< statement_timestamp() - %(days)s * interval '1 day'"
_DELIVERIES = _deliveries(f"d.status <> 'pending' AND d.finished_at {_OLD}")
# What waits for an endpoint that is switched off waits as long as what is finished is kept; then there is the replay.
_LEFT_OVER = _deliveries(f"""d.endpoint_id IN (SELECT w.id FROM messaging_webhookendpoint w
    WHERE w.deleted_at IS NOT NULL OR NOT w.enabled AND w.disabled_at {_OLD})""")  # noqa: S608  literals of this module
_REPLAYS = f"""
DELETE FROM messaging_webhookreplay WHERE id IN (
  SELECT id FROM messaging_webhookreplay WHERE finished_at {_OLD} LIMIT {GROUP} FOR UPDATE SKIP LOCKED) RETURNING 1
"""  # noqa: S608  literals of this module
_ENDPOINTS = f"""
WITH old AS (
  SELECT w.id FROM messaging_webhookendpoint w WHERE w.deleted_at {_OLD}
    AND NOT EXISTS (SELECT FROM messaging_webhookdelivery d WHERE d.endpoint_id = w.id)
  LIMIT {GROUP} FOR UPDATE SKIP LOCKED
), replays AS (DELETE FROM messaging_webhookreplay r USING old WHERE r.endpoint_id = old.id
)
DELETE FROM messaging_webhookendpoint w USING old WHERE w.id = old.id RETURNING 1
"""  # noqa: S608  literals of this module
