"""What waits to be sent to endpoints, and which endpoints get nothing."""

from dataclasses import dataclass

from messaging.webhook_models import REASONS
from providers.sql import rows

COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """Events that are not fanned out and deliveries that are due, each counted to COUNTED + 1, and the age of the
    oldest in seconds. What waits for an endpoint that is disabled, or for the time of its next try, is not late."""

    events: int
    due: int
    seconds: float


def waiting() -> Waiting:
    ((events, age, due, late),) = rows(_WAITING)
    return Waiting(events, due, max(age, late))


# One look at each endpoint, by the index webhook_due.
_WAITING = f"""
WITH due AS (
  SELECT d.next_at, d.n FROM messaging_webhookendpoint w JOIN messaging_client c ON c.id = w.client_id AND c.enabled
  CROSS JOIN LATERAL (
    SELECT min(next_at) AS next_at, count(*) AS n FROM (
      SELECT next_at FROM messaging_webhookdelivery d WHERE d.endpoint_id = w.id AND d.status = 'pending'
        AND d.next_at <= statement_timestamp() ORDER BY next_at LIMIT {COUNTED + 1}) one) d
  WHERE w.enabled AND w.deleted_at IS NULL
)
SELECT
  (SELECT count(*) FROM (SELECT FROM messaging_event WHERE fan_out LIMIT {COUNTED + 1}) e),
  coalesce((SELECT greatest(0, extract(epoch FROM statement_timestamp() - created_at))::float8
    FROM messaging_event WHERE fan_out ORDER BY id LIMIT 1), 0),
  least({COUNTED + 1}, (SELECT coalesce(sum(n), 0)::bigint FROM due)),
  coalesce((SELECT greatest(0, extract(epoch FROM statement_timestamp() - min(next_at)))::float8 FROM due), 0)
"""  # noqa: S608  literals of this module


def disabled() -> dict[str, int]:
    """Endpoints that get nothing, by the reason."""
    found = dict(
        rows("""
        SELECT disabled_reason, count(*) FROM messaging_webhookendpoint
        WHERE NOT enabled AND deleted_at IS NULL GROUP BY disabled_reason""")
    )
    return {reason: found.get(reason, 0) for reason, _ in REASONS}


def failing() -> int:
    """Endpoints whose last try failed."""
    ((count,),) = rows("""
        SELECT count(*) FROM messaging_webhookendpoint
        WHERE enabled AND deleted_at IS NULL AND failing_since IS NOT NULL""")
    return int(count)
