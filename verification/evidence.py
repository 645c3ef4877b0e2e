"""What has been started and verified, and what is blocked and trusted: counted and read by one statement each.

A start is counted with its challenge and a success with its check, in their transactions and their statements,
both in the windows of the start: a count tells how many of those who started then came through.
"""

from collections.abc import Sequence

from providers.sql import rows
from verification import limits
from verification.limits import DAY, HOUR, Full, Limit, prefix
from verification.rules import BEST_DAYS, BLOCK_MEMORY, PREFIX_STARTS, Count, Facts, Standing, Start, block_seconds

SHARDS = 32
KEEP_HOURS, KEEP_DAYS = "2 days", f"{BEST_DAYS + 2} days"


def counted(source: str, *, verified: bool) -> str:
    """INSERT of one start, or one success, for each row of `source`, which is a literal and has challenges."""
    starts, successes = (0, 1) if verified else (1, 0)
    network = "network(set_masklen(c.ip, CASE family(c.ip) WHEN 4 THEN 24 ELSE 64 END))::text"
    # Whoever counts holds its row until it is on disk: a shard by chance is rarely another's. In one order, so that no
    # two requests can deadlock.
    return f"""
  INSERT INTO verification_startcount AS n (kind, value, country, span, at, shard, starts, verified)
  SELECT kind, value, c.country, span, date_trunc(unit, c.created_at, 'UTC'), floor(random() * {SHARDS}), {starts},
    {successes}
  FROM {source} c, LATERAL (VALUES
    ('country', '', {DAY}, 'day'),
    ('country', '', {HOUR}, 'hour'),
    ('ip', {network}, {DAY}, 'day'),
    ('prefix', left(c."to", -4), {HOUR}, 'hour')
  ) w(kind, value, span, unit) WHERE value IS NOT NULL
  ORDER BY kind, value, span
  ON CONFLICT (kind, value, country, span, at, shard) DO UPDATE SET
    starts = n.starts + excluded.starts, verified = n.verified + excluded.verified"""  # noqa: S608  literals


class Database:
    """The evidence for what happens now."""

    def facts(self, start: Start) -> Facts:
        names = start.names
        ((trusted, blocks, day, best, hour, ip_day, countries, last),) = rows(
            _FACTS,
            {
                "client": start.client,
                "number": start.msisdn,
                "country": start.country,
                "prefix": prefix(start.msisdn),
                "network": names.get("ip"),
                "kinds": list(names),
                "values": list(names.values()),
            },
            planned_once=True,  # planning it takes longer than running it
        )
        return Facts(
            trusted=trusted,
            blocks=[Standing(*block) for block in blocks or ()],
            day=Count(*day),
            best=best,
            hour=Count(*hour),
            ip_day=Count(*ip_day),
            ip_countries=countries,
            prefix=[Count(*one) for one in last or ()],
        )

    def take(self, wanted: Sequence[Limit]) -> list[Full]:
        return limits.take(wanted)

    def peek(self, wanted: Sequence[Limit]) -> list[Full]:
        return limits.peek(wanted)


def trusted(start: Start) -> bool:
    ((found,),) = rows(f"SELECT {_TRUSTED}", {"number": start.msisdn, "client": start.client})
    return bool(found)


_TRUSTED = """EXISTS (
  SELECT FROM verification_trustednumber WHERE msisdn = %(number)s AND coalesce(client_id, %(client)s) = %(client)s
    AND coalesce(expires_at > clock_timestamp(), true))"""

_SUMS = "jsonb_build_array(coalesce(sum(starts), 0), coalesce(sum(verified), 0))"

_FACTS = f"""
WITH now AS (
  SELECT date_trunc('day', now, 'UTC') AS day, date_trunc('hour', now, 'UTC') AS hour FROM clock_timestamp() now
), totals AS MATERIALIZED (
  SELECT span, at, sum(starts) AS starts, sum(verified) AS verified FROM verification_startcount, now
  WHERE kind = 'country' AND value = '' AND country = %(country)s
    AND (span = {DAY} AND at >= now.day - interval '{BEST_DAYS} days' OR span = {HOUR} AND at >= now.hour)
  GROUP BY span, at
), ip AS MATERIALIZED (
  SELECT country, starts, verified FROM verification_startcount, now
  WHERE kind = 'ip' AND value = %(network)s AND span = {DAY} AND at >= now.day
), blocked_before AS (
  SELECT coalesce(lifted_at, expires_at - interval '1 hour') AS ended FROM verification_block
  WHERE kind = 'prefix' AND value = %(prefix)s AND by_rule ORDER BY created_at DESC LIMIT 1
)
SELECT {_TRUSTED},
  (SELECT jsonb_agg(jsonb_build_array(b.kind, b.by_rule)) FROM verification_block b
   JOIN unnest(%(kinds)s::text[], %(values)s::text[]) AS w(kind, value) USING (kind, value)
   WHERE coalesce(b.client_id, %(client)s) = %(client)s
     AND b.lifted_at IS NULL AND coalesce(b.expires_at > clock_timestamp(), true)),
  (SELECT {_SUMS} FROM totals WHERE span = {DAY} AND at >= now.day),
  (SELECT coalesce(max(verified), 0)::int FROM totals WHERE span = {DAY} AND at < now.day),
  (SELECT {_SUMS} FROM totals WHERE span = {HOUR}),
  (SELECT {_SUMS} FROM ip),
  (SELECT count(*)::int FROM (
     SELECT country FROM ip GROUP BY country HAVING sum(verified) = 0
     UNION SELECT %(country)s::text WHERE %(network)s::text IS NOT NULL
       AND NOT EXISTS (SELECT FROM ip WHERE country = %(country)s AND verified > 0)
   ) unverified),
  (SELECT jsonb_agg(jsonb_build_array(starts, verified) ORDER BY at DESC) FROM (
     SELECT at, sum(starts) AS starts, sum(verified) AS verified FROM verification_startcount
     WHERE kind = 'prefix' AND value = %(prefix)s AND country = %(country)s AND span = {HOUR}
       AND at > coalesce((SELECT ended FROM blocked_before), '-infinity')
     GROUP BY at ORDER BY at DESC LIMIT {PREFIX_STARTS}) h)
FROM now
"""  # noqa: S608  literals of this module


def block(start: Start, reason: str) -> None:
    """Blocks the prefix of a start for a while, twice as long as the last time if that is not long ago."""
    value = {"value": prefix(start.msisdn)}
    # One at a time: a hundred parallel starts find the same, and block once.
    rows("SELECT pg_advisory_xact_lock(hashtextextended('block ' || %(value)s, 0))", value)
    found = rows(
        """
        SELECT level, coalesce(expires_at > clock_timestamp(), true) FROM verification_block
        WHERE kind = 'prefix' AND value = %(value)s AND by_rule AND lifted_at IS NULL
          AND coalesce(expires_at, 'infinity') > clock_timestamp() - %(memory)s * interval '1 second'
        ORDER BY created_at DESC LIMIT 1""",
        {**value, "memory": BLOCK_MEMORY},
    )
    if found and found[0][1]:
        return
    level = found[0][0] + 1 if found else 0
    rows(
        """
        INSERT INTO verification_block (kind, value, reason, by_rule, level, created_at, expires_at)
        SELECT 'prefix', %(value)s, %(reason)s, true, %(level)s, now, now + %(seconds)s * interval '1 second'
        FROM clock_timestamp() now""",
        {**value, "reason": reason, "level": level, "seconds": block_seconds(level)},
    )
