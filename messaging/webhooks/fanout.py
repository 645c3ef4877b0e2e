"""Of each event that was marked: one delivery for every endpoint of its client that wants it."""

from providers.sql import rows

GROUP = 500

#: Does the endpoint `w` want the type of the event `e`?
WANTED = "w.events && ARRAY['*', split_part(e.type, '.', 1) || '.*', e.type]::varchar[]"
#: ... and the row of its delivery, from the two.
COLUMNS = "endpoint_id, event_id, status, next_at, created_at"
VALUES = "w.id, e.id, 'pending', clock_timestamp(), e.created_at"

# By the mark, never "id > last seen": ids commit out of order. The mark goes in the same statement in which the
# deliveries come, so an event is fanned out once, whoever dies. Its lock is one that other readers do not wait for.
_FAN_OUT = f"""
WITH marked AS (
  SELECT id FROM messaging_event WHERE fan_out ORDER BY id LIMIT {GROUP} FOR NO KEY UPDATE SKIP LOCKED
), e AS (
  UPDATE messaging_event e SET fan_out = false FROM marked WHERE e.id = marked.id
  RETURNING e.id, e.type, e.client_id, e.created_at
), made AS (
  INSERT INTO messaging_webhookdelivery ({COLUMNS})
  SELECT {VALUES} FROM e JOIN messaging_webhookendpoint w
    ON w.client_id = e.client_id AND w.enabled AND w.deleted_at IS NULL AND {WANTED}
  ON CONFLICT (event_id, endpoint_id) DO NOTHING
)
SELECT count(*) FROM e
"""  # noqa: S608  literals of this module


def fan_out() -> int:
    """One group; returns how many events it had. GROUP: there are more."""
    ((count,),) = rows(_FAN_OUT)
    return int(count)
