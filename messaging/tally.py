"""Counts that agree with the tables to the message, however many messages there are.

Whoever moves a message or an attempt writes what it did as rows of `TallyDelta`, in the same statement:
grouped, so a handful for a hundred messages, and never updated, so nobody waits for anybody. The sweeper
folds them into `Tally`: per quarter of an hour for a few days, and in total for ever. A reader adds what
is not folded yet. So a count is exact in every snapshot of the database, and survives whatever dies.

`origin` and `target` are the status left and entered; how many are in a status is what entered less what left.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import models, transaction

from messaging.states import AttemptStatus
from providers.sql import rows

SLOT = "15 minutes"
KEEP = "8 days"  # of slots; totals stay
GROUP = 20_000  # rows folded or forgotten in one transaction
EPOCH = "1970-01-01 00:00:00+00"  # the slot of the totals
#: Upper ends of the latency buckets, in seconds: from a fast provider to a handset that was off overnight.
BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
MESSAGE, ATTEMPT, WEBHOOK = "message", "attempt", "webhook"  # kinds
UNTIMED = -1  # bucket of what has no latency


class Count(models.Model):
    slot = models.DateTimeField()
    kind = models.CharField(max_length=7)  # message, attempt or webhook
    message_class = models.CharField(max_length=14)  # empty for attempts
    provider_id = models.BigIntegerField()  # 0: none. No foreign key: checking it costs more than the row
    origin = models.CharField(max_length=12)  # empty: new
    target = models.CharField(max_length=12)  # empty: nothing moved, the cost alone changed
    bucket = models.SmallIntegerField()  # index of the first of BOUNDS that is not exceeded
    currency = models.CharField(max_length=3)
    n = models.BigIntegerField()
    seconds = models.FloatField()  # sum of the latencies
    cost = models.DecimalField(max_digits=20, decimal_places=6)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.slot} {self.kind} {self.origin}>{self.target} {self.n}"


class Tally(Count):
    """What was counted in one slot; the slot EPOCH is for ever."""

    class Meta:
        constraints = [
            # fold finds its row, readers the slots of a time
            models.UniqueConstraint(
                fields=["slot", "kind", "message_class", "provider_id", "origin", "target", "bucket", "currency"],
                name="one_tally_per_key",
            )
        ]


class TallyDelta(Count):
    """What one statement did, until it is folded."""


# --- write: fragments for the statements that move ------------------------------------------------

_KEY = "kind, message_class, provider_id, origin, target, bucket, currency"
_SUMS = "n, seconds, cost"
_NOW = f"date_bin('{SLOT}', statement_timestamp(), '{EPOCH}')"
_BUCKET = f"coalesce(width_bucket(seconds, '{{{','.join(map(str, BOUNDS))}}}'::float8[]), {UNTIMED})"


def count_messages(source: str) -> str:
    """INSERT that counts the rows of `source`: message_class, provider_id, was, status, seconds (each but
    status and class may be NULL)."""
    return f"""
    INSERT INTO messaging_tallydelta (slot, {_KEY}, {_SUMS})
    SELECT {_NOW}, 'message', message_class, coalesce(provider_id, 0), coalesce(was, ''), status, {_BUCKET}, '',
      count(*), coalesce(sum(seconds), 0), 0
    FROM {source} GROUP BY message_class, provider_id, was, status, {_BUCKET}"""  # noqa: S608  literals of this module


#: What an UPDATE of attempts `a` must return as the CTE `a` for COUNT_ATTEMPTS.
ATTEMPT_CHANGE = """a.provider_id, old.status AS was, new.status, old.cost AS was_cost, new.cost AS is_cost,
  old.currency AS was_currency, new.currency AS is_currency"""

#: INSERT that counts the moves of attempts and what their costs rose or fell by. An intent is not counted,
#: its message is: the attempt counts from its first outcome on.
COUNT_ATTEMPTS = f"""
    INSERT INTO messaging_tallydelta (slot, {_KEY}, {_SUMS})
    SELECT {_NOW}, 'attempt', '', provider_id, was, status, {_BUCKET}, currency,
      sum(n), coalesce(sum(seconds), 0), sum(cost)
    FROM (
      SELECT provider_id, CASE WHEN was = status THEN '' ELSE was END AS was,
        CASE WHEN was = status THEN '' ELSE status END AS status,
        CASE WHEN was = 'intent' THEN seconds END AS seconds, is_currency AS currency, (was <> status)::int AS n,
        coalesce(is_cost, 0) - CASE WHEN is_currency = was_currency THEN coalesce(was_cost, 0) ELSE 0 END AS cost
      FROM a
      UNION ALL
      SELECT provider_id, '', '', NULL, was_currency, 0, -was_cost FROM a
      WHERE was_cost <> 0 AND is_currency <> was_currency
    ) changes
    WHERE n <> 0 OR cost <> 0
    GROUP BY provider_id, was, status, currency, {_BUCKET}"""  # noqa: S608  literals of this module


#: INSERT that counts the tries of webhooks in the CTE `d`: outcome, and seconds from the event to a delivery or NULL.
COUNT_WEBHOOKS = f"""
    INSERT INTO messaging_tallydelta (slot, {_KEY}, {_SUMS})
    SELECT {_NOW}, 'webhook', '', 0, '', outcome, {_BUCKET}, '', count(*), coalesce(sum(seconds), 0), 0
    FROM d GROUP BY outcome, {_BUCKET}"""  # noqa: S608  literals of this module


# --- keep -----------------------------------------------------------------------------------------


def fold() -> None:
    """Moves what was written into the table that is read. Any number may run at once."""
    while len(rows(_FOLD)) == GROUP:
        pass
    while len(rows(_FORGET)) == GROUP:
        pass


# The sums of a group go to its slots and to the totals; in key order, so that two folding at once cannot deadlock.
_FOLD = f"""
WITH taken AS (
  DELETE FROM messaging_tallydelta WHERE id = ANY(ARRAY(
    SELECT id FROM messaging_tallydelta ORDER BY id LIMIT {GROUP} FOR UPDATE SKIP LOCKED))
  RETURNING *
), folded AS (
  INSERT INTO messaging_tally AS t (slot, {_KEY}, {_SUMS})
  SELECT coalesce(slot, '{EPOCH}') AS slot, {_KEY}, sum(n), sum(seconds), sum(cost)
  FROM taken GROUP BY GROUPING SETS ((slot, {_KEY}), ({_KEY})) ORDER BY slot, {_KEY}
  ON CONFLICT (slot, {_KEY}) DO UPDATE
    SET n = t.n + excluded.n, seconds = t.seconds + excluded.seconds, cost = t.cost + excluded.cost
)
SELECT 1 FROM taken
"""  # noqa: S608  literals of this module

_FORGET = f"""
DELETE FROM messaging_tally WHERE id = ANY(ARRAY(
  SELECT id FROM messaging_tally WHERE slot > '{EPOCH}' AND slot < statement_timestamp() - interval '{KEEP}'
  ORDER BY slot LIMIT {GROUP} FOR UPDATE SKIP LOCKED))
RETURNING 1
"""  # noqa: S608  literals of this module


def recount() -> int:
    """Corrects the counts by what the tables hold, and returns how many were wrong. Reads every message.

    Needed once after rows were written by something that does not count: a version from before the tally,
    or a person. One statement and so one snapshot, which is why nobody has to stop meanwhile.
    """
    with transaction.atomic():
        rows("SET LOCAL statement_timeout = 0")
        return len(rows(_RECOUNT))


_RECOUNT = f"""
WITH truth AS (
  SELECT 'message' AS kind, message_class, 0::bigint AS provider_id, status, '' AS currency, count(*) AS n, 0 AS cost
  FROM messaging_message GROUP BY message_class, status
  UNION ALL
  SELECT 'attempt', '', provider_id, status, '', count(*), 0
  FROM messaging_attempt WHERE status <> 'intent' GROUP BY provider_id, status
  UNION ALL
  SELECT 'attempt', '', provider_id, '', currency, 0, sum(cost)
  FROM messaging_attempt WHERE cost <> 0 GROUP BY provider_id, currency
), tally AS (
  SELECT {_KEY}, {_SUMS} FROM messaging_tally WHERE slot = '{EPOCH}'
  UNION ALL SELECT {_KEY}, {_SUMS} FROM messaging_tallydelta
), counted AS (
  SELECT kind, message_class, CASE kind WHEN 'message' THEN 0 ELSE provider_id END AS provider_id, status,
    '' AS currency, sign * n AS n, 0 AS cost
  FROM tally, LATERAL (VALUES (target, 1), (origin, -1)) moved(status, sign)
  WHERE status NOT IN ('', 'intent') AND kind IN ('message', 'attempt')
  UNION ALL
  SELECT 'attempt', '', provider_id, '', currency, 0, cost FROM tally WHERE kind = 'attempt'
)
INSERT INTO messaging_tallydelta (slot, {_KEY}, {_SUMS})
SELECT {_NOW}, kind, message_class, provider_id, '', status, {UNTIMED}, currency, sum(n), 0, sum(cost)
FROM (SELECT * FROM truth UNION ALL
  SELECT kind, message_class, provider_id, status, currency, -n, -cost FROM counted) differences
GROUP BY kind, message_class, provider_id, status, currency HAVING sum(n) <> 0 OR sum(cost) <> 0
RETURNING 1
"""  # noqa: S608  literals of this module


# --- read -----------------------------------------------------------------------------------------

#: A FROM item: the slots from the parameter `since` on, and what is not folded yet.
RECENT = f"""(SELECT slot, {_KEY}, {_SUMS} FROM messaging_tally WHERE slot >= %(since)s
  UNION ALL SELECT slot, {_KEY}, {_SUMS} FROM messaging_tallydelta WHERE slot >= %(since)s) recent"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Counted:
    """One count; `slot` is None where it is a total."""

    slot: datetime | None
    kind: str
    message_class: str
    provider_id: int
    origin: str
    target: str
    bucket: int
    currency: str
    n: int
    seconds: float
    cost: Decimal


def totals() -> list[Counted]:
    """Everything since the beginning, in one snapshot. A few hundred rows, however many messages there are."""
    found = rows(
        f"""
        SELECT NULL, {_KEY}, sum(n)::bigint, sum(seconds), sum(cost) FROM (
          SELECT {_KEY}, {_SUMS} FROM messaging_tally WHERE slot = '{EPOCH}'
          UNION ALL SELECT {_KEY}, {_SUMS} FROM messaging_tallydelta) t
        GROUP BY {_KEY}"""  # noqa: S608  literals of this module
    )
    return [Counted(*row) for row in found]


def standing(counts: Iterable[Counted], kind: str) -> Counter[tuple[str, int, str]]:
    """How many there are now of each (class, provider, status): messages by class, attempts by provider."""
    found: Counter[tuple[str, int, str]] = Counter()
    for one in counts:
        if one.kind == kind:
            key = one.message_class, one.provider_id if kind == ATTEMPT else 0
            found[*key, one.target] += one.n
            found[*key, one.origin] -= one.n
    return Counter({key: n for key, n in found.items() if n and key[2] not in ("", AttemptStatus.INTENT)})
