"""Once more: one event, or everything of a time. A delivery that is there begins anew; one that is not is made."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from messaging.models import Event
from messaging.webhook_models import WebhookEndpoint, WebhookReplay
from messaging.webhooks.fanout import COLUMNS, VALUES, WANTED
from providers.sql import now, rows

GROUP = 1000  # events looked at in one step
MOST_OPEN = 3  # replays of an endpoint at a time

_AGAIN = """
ON CONFLICT (event_id, endpoint_id) DO UPDATE SET status = 'pending', tries = 0, next_at = clock_timestamp(),
  replayed_at = clock_timestamp(), finished_at = NULL
"""


def one(endpoint: WebhookEndpoint, event_id: UUID) -> bool:
    """Whatever the endpoint wants otherwise. False where its client has no such event."""
    if not Event.objects.filter(pk=event_id, client_id=endpoint.client_id).exists():
        return False
    rows(
        f"""
        INSERT INTO messaging_webhookdelivery ({COLUMNS}, replayed_at)
        SELECT {VALUES}, clock_timestamp() FROM messaging_event e, messaging_webhookendpoint w
        WHERE e.id = %(event)s AND w.id = %(endpoint)s AND w.client_id = e.client_id {_AGAIN}""",  # noqa: S608
        {"event": event_id, "endpoint": endpoint.pk},
    )
    return True


def since(
    endpoint: WebhookEndpoint, moment: datetime, until: datetime | None = None, *, failed_only: bool = False
) -> WebhookReplay | None:
    """Asks for all of a time, until now by default; None where MOST_OPEN are running."""
    with transaction.atomic():
        WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        if endpoint.replays.filter(finished_at=None).count() >= MOST_OPEN:
            return None
        at = now()
        return WebhookReplay.objects.create(
            endpoint=endpoint, since=moment, until=min(until or at, at), failed_only=failed_only, created_at=at
        )


def step() -> bool:
    """One group of one replay that no other process is at. True where there may be more."""
    with transaction.atomic():
        found = rows(_NEXT)
        if not found:
            return False
        ((replay, endpoint, begin, end, failed_only, cursor),) = found
        params: dict[str, Any] = {
            "replay": replay,
            "endpoint": endpoint,
            "since": begin,
            "until": end,
            "failed_only": failed_only,
            "cursor": cursor,
        }
        rows(_STEP, params)
    return True


_NEXT = """
SELECT id, endpoint_id, since, until, failed_only, cursor FROM messaging_webhookreplay
WHERE finished_at IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""

# Events are walked in the order of their ids, which begin with the time: no index of their own is needed. An id is a
# little older than its row's `created_at` at most, so the walk begins and ends with a margin.
_STEP = f"""
WITH seen AS MATERIALIZED (
  SELECT e.id, e.type, e.client_id, e.created_at FROM messaging_event e
  WHERE e.id > coalesce(%(cursor)s::uuid, uuidv7(%(since)s::timestamptz - interval '1 minute' - clock_timestamp()))
  ORDER BY e.id LIMIT {GROUP}
), made AS (
  INSERT INTO messaging_webhookdelivery ({COLUMNS}, replayed_at)
  SELECT {VALUES}, clock_timestamp() FROM seen e JOIN messaging_webhookendpoint w
    ON w.id = %(endpoint)s AND w.client_id = e.client_id AND {WANTED}
  WHERE e.created_at BETWEEN %(since)s AND %(until)s AND e.type <> 'webhook.test'
    AND NOT (%(failed_only)s AND EXISTS (SELECT FROM messaging_webhookdelivery d
      WHERE d.event_id = e.id AND d.endpoint_id = w.id AND d.status <> 'failed'))
  ORDER BY e.id
  {_AGAIN}
  RETURNING 1
)
UPDATE messaging_webhookreplay SET
  cursor = coalesce((SELECT id FROM seen ORDER BY id DESC LIMIT 1), cursor),
  found = found + (SELECT count(*) FROM made),
  finished_at = CASE WHEN (SELECT count(*) FROM seen) < {GROUP}
      OR (SELECT max(created_at) FROM seen) > %(until)s::timestamptz + interval '1 minute' THEN clock_timestamp() END
WHERE id = %(replay)s
"""  # noqa: S608  literals of this module
