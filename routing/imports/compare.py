"""What a file would change, in sets: the rows stand in the temporary table `incoming`, nothing is compared one by one.

What is compared is what holds from the moment the new book begins (`begin`): what is over by then does not count.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings

from providers.sql import rows
from routing.import_models import PriceImport

# As prices.place() has it: what a price is found by.
PLACE = """CASE WHEN {0}.mnc <> '' THEN 'n' || {0}.mcc || '-' || {0}.mnc WHEN {0}.prefix <> '' THEN 'p' || {0}.prefix
  WHEN {0}.mcc <> '' THEN 'm' || {0}.mcc ELSE 'c' || {0}.country END"""
STAGED = (
    *("line", "place", "country", "mcc", "mnc", "prefix"),
    *("price", "price_delivered", "currency", "valid_from", "valid_to"),
)
TABLE = """
CREATE TEMPORARY TABLE incoming (seq bigint GENERATED ALWAYS AS IDENTITY, line integer, place text, country text,
  mcc text, mnc text, prefix text, price numeric, price_delivered numeric, currency text,
  valid_from timestamptz, valid_to timestamptz)
"""
DEAR = 1  # of REPORTING_CURRENCY for one segment: nobody asks that
FACTOR = 10  # from what is usual in the country, for a place that had no price
USUAL = 3  # prices in a country: fewer tell nothing


def begin_table() -> None:
    drop_tables()
    rows(TABLE)


def drop_tables() -> None:
    rows("DROP TABLE IF EXISTS pg_temp.incoming, pg_temp.in_force, pg_temp.money")


def compare(found: PriceImport, *, begin: datetime, base: int | None, repeats: str) -> dict[str, Any]:
    """Fills StagedPrice from `incoming` and names what is left out of it. Returns the counts."""
    rows("ANALYZE pg_temp.incoming")
    settle_repeats(found.pk, repeats)
    settle_times(found.pk, begin)
    values = {
        "import": found.pk,
        "base": base,
        "begin": begin,
        "percent": found.outlier_percent,
        "reporting": settings.REPORTING_CURRENCY,
    }
    for statement in (*_PREPARE, _STAGE, *([] if found.partial else [_REMOVED])):
        rows(statement, values)
    return counts(found.pk)


def settle_repeats(import_id: int, repeats: str) -> None:
    """One price for a place and a time: the others are named. Different currencies can not be ranked."""
    order = {"dearest": "total DESC, seq", "cheapest": "total, seq", "last": "seq DESC"}.get(repeats, "seq")
    rows(
        f"""
        WITH groups AS (
          SELECT place, valid_from, (array_agg(seq ORDER BY {order}))[1] AS kept,
            (array_agg(line ORDER BY {order}))[1] AS kept_line,
            array_agg(line ORDER BY seq) AS lines,
            count(DISTINCT (price, price_delivered, currency, valid_to)) > 1
              AND (%(repeats)s = 'refuse' OR count(DISTINCT currency) > 1) AS refused
          FROM (SELECT *, price + price_delivered AS total FROM pg_temp.incoming) i
          GROUP BY place, valid_from HAVING count(*) > 1
        ), out AS (
          DELETE FROM pg_temp.incoming i USING groups g
          WHERE g.place = i.place AND g.valid_from IS NOT DISTINCT FROM i.valid_from AND (g.refused OR i.seq <> g.kept)
          RETURNING i.*, g.refused, g.kept_line, g.lines
        )
        INSERT INTO routing_leftout (price_import_id, line, kind, "column", value, reason)
        SELECT %(import)s, line, CASE WHEN refused THEN 'error' ELSE 'merged' END, 'place and price',
          {_SHOWN},
          CASE WHEN refused THEN 'line ' || coalesce((SELECT l FROM unnest(lines) l WHERE l <> line LIMIT 1), line)
              || ' has another price for the same place'
            ELSE 'line ' || kept_line || ' counts for this place' END
        FROM out""",  # noqa: S608  literals of this module
        {"import": import_id, "repeats": repeats},
    )


def settle_times(import_id: int, begin: datetime) -> None:
    """A price ends where the next one of its place begins. What overlaps even so is wrong; what is over is left."""
    following = "lead(valid_from) OVER (PARTITION BY place ORDER BY valid_from NULLS FIRST)"
    rows(f"""
        UPDATE pg_temp.incoming i SET valid_to = n.following
        FROM (SELECT seq, valid_to, {following} AS following FROM pg_temp.incoming) n
        WHERE n.seq = i.seq AND n.following IS NOT NULL AND n.valid_to IS NULL""")  # noqa: S608
    rows(
        f"""
        WITH ranges AS (
          SELECT seq, {following} < valid_to AS into_next,
            lag(valid_to) OVER (PARTITION BY place ORDER BY valid_from NULLS FIRST) > valid_from AS into_this,
            lead(line) OVER (PARTITION BY place ORDER BY valid_from NULLS FIRST) AS next_line,
            lag(line) OVER (PARTITION BY place ORDER BY valid_from NULLS FIRST) AS last_line
          FROM pg_temp.incoming
        ), out AS (
          DELETE FROM pg_temp.incoming i USING ranges r
          WHERE r.seq = i.seq AND (r.into_next OR r.into_this OR i.valid_to <= %(begin)s)
          RETURNING i.*, coalesce(r.into_next, false) OR coalesce(r.into_this, false) AS crosses,
            CASE WHEN r.into_next THEN next_line ELSE last_line END AS other
        )
        INSERT INTO routing_leftout (price_import_id, line, kind, "column", value, reason)
        SELECT %(import)s, line, CASE WHEN crosses THEN 'error' ELSE 'skipped' END, 'valid until',
          {_SHOWN},
          CASE WHEN crosses THEN 'overlaps in time with line ' || other || ', which is of the same place'
            ELSE 'over before the list begins: ' || to_char(valid_to AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') END
        FROM out""",  # noqa: S608
        {"import": import_id, "begin": begin},
    )


_SHOWN = (
    """left(country || ' ' || substr(place, 2) || ' ' || (price + price_delivered)::text || ' ' || currency, 200)"""
)
# What one unit of a currency is worth, so that prices in two of them can be compared.
_PREPARE = (
    """
    CREATE TEMPORARY TABLE money AS
    SELECT DISTINCT ON (currency) currency, 1 / rate AS worth FROM routing_exchangerate
    WHERE valid_from <= %(begin)s AND currency <> %(reporting)s ORDER BY currency, valid_from DESC""",
    "INSERT INTO pg_temp.money VALUES (%(reporting)s, 1)",
    f"""
    CREATE TEMPORARY TABLE in_force AS
    SELECT {PLACE.format("p")} AS place, p.country, p.mcc, p.mnc, p.prefix, p.price, p.price_delivered, p.currency,
      p.valid_from, p.valid_to
    FROM routing_price p WHERE p.price_list_id = %(base)s::bigint AND (p.valid_to IS NULL OR p.valid_to > %(begin)s)
    """,  # noqa: S608
    "CREATE INDEX ON pg_temp.in_force (place)",
    "ANALYZE pg_temp.in_force",
)
_STAGE = f"""
WITH usual AS (
  SELECT country, percentile_cont(0.5) WITHIN GROUP (ORDER BY worth)::numeric AS price FROM (
    SELECT i.country, (i.price + i.price_delivered) * coalesce(m.worth, 1) AS worth
    FROM pg_temp.incoming i LEFT JOIN pg_temp.money m USING (currency)
    UNION ALL SELECT f.country, (f.price + f.price_delivered) * coalesce(m.worth, 1)
    FROM pg_temp.in_force f LEFT JOIN pg_temp.money m USING (currency)) p
  GROUP BY country HAVING count(*) >= {USUAL}
), pairs AS (
  SELECT i.*, i.price + i.price_delivered AS total, coalesce(im.worth, 1) AS worth,
    f.place IS NOT NULL AS known, f.price + f.price_delivered AS old_total, f.currency AS old_currency,
    (f.price, f.price_delivered, f.currency) IS DISTINCT FROM (i.price, i.price_delivered, i.currency) AS differs,
    CASE WHEN f.currency = i.currency THEN 1 ELSE im.worth / fm.worth END AS exchange, usual.price AS usual
  FROM pg_temp.incoming i
  LEFT JOIN pg_temp.in_force f ON f.place = i.place
    AND coalesce(f.valid_from, '-infinity') <= greatest(%(begin)s, coalesce(i.valid_from, '-infinity'))
    AND coalesce(f.valid_to, 'infinity') > greatest(%(begin)s, coalesce(i.valid_from, '-infinity'))
  LEFT JOIN pg_temp.money im ON im.currency = i.currency
  LEFT JOIN pg_temp.money fm ON fm.currency = f.currency
  LEFT JOIN usual ON usual.country = i.country
), judged AS (
  SELECT *, round(((total * exchange) / nullif(old_total, 0) - 1) * 100, 2) AS percent,
    CASE WHEN NOT known THEN 'new' WHEN NOT differs THEN 'unchanged'
      WHEN exchange IS NULL OR total * exchange > old_total THEN 'up'
      WHEN total * exchange < old_total THEN 'down' ELSE 'terms' END AS change
  FROM pairs
), warned AS (
  SELECT *, CASE
    WHEN total = 0 AND (old_total > 0 OR NOT known) THEN 'costs nothing'
    WHEN change IN ('up', 'down') AND exchange IS NULL THEN 'another currency, without an exchange rate to compare'
    WHEN change IN ('up', 'down') AND (percent IS NULL OR abs(percent) > %(percent)s)
      THEN 'changes by more than ' || %(percent)s || ' %%'
    WHEN change <> 'unchanged' AND total * worth > {DEAR} THEN 'dearer than {DEAR} ' || %(reporting)s || ' a segment'
    WHEN change = 'new' AND (total * worth > usual * {FACTOR} OR total * worth * {FACTOR} < usual)
      THEN 'far from what is usual in the country' ELSE '' END AS outlier
  FROM judged
)
INSERT INTO routing_stagedprice (price_import_id, line, place, country, mcc, mnc, prefix, price, price_delivered,
  currency, valid_from, valid_to, change, old_price, old_currency, percent, outlier, weight)
SELECT %(import)s, line, place, country, mcc, mnc, prefix, price, price_delivered, currency, valid_from, valid_to,
  change, old_total, coalesce(old_currency, ''), CASE WHEN percent > 99999999 THEN 99999999 ELSE percent END, outlier,
  CASE change WHEN 'unchanged' THEN 0 WHEN 'new' THEN 0.5 WHEN 'terms' THEN 0.7
    ELSE least(coalesce(abs(percent), 99999999), 99999999) + 1 END
FROM warned ORDER BY line, seq
"""  # noqa: S608
_REMOVED = """
INSERT INTO routing_stagedprice (price_import_id, line, place, country, mcc, mnc, prefix, price, price_delivered,
  currency, valid_from, valid_to, change, old_price, old_currency, percent, outlier, weight)
SELECT %(import)s, 0, f.place, f.country, f.mcc, f.mnc, f.prefix, f.price, f.price_delivered, f.currency,
  f.valid_from, f.valid_to, 'removed', f.price + f.price_delivered, f.currency, NULL, '', 0.9
FROM pg_temp.in_force f WHERE NOT EXISTS (SELECT FROM pg_temp.incoming i WHERE i.place = f.place)
ORDER BY f.place
"""


def counts(import_id: int) -> dict[str, Any]:
    """By kind of change and of what was left out, and the currencies that have no exchange rate."""
    values = {"import": import_id, "reporting": settings.REPORTING_CURRENCY}
    found: dict[str, Any] = dict.fromkeys(("new", "up", "down", "terms", "unchanged", "removed"), 0)
    found |= dict.fromkeys(("error", "skipped", "merged", "outlier", "places"), 0)
    grouped: Iterable[tuple[Any, ...]] = rows(
        """
        SELECT change, count(*) FROM routing_stagedprice WHERE price_import_id = %(import)s GROUP BY 1
        UNION ALL SELECT 'outlier', count(*) FROM routing_stagedprice
          WHERE price_import_id = %(import)s AND outlier <> ''
        UNION ALL SELECT 'lost', count(*) FROM (
          SELECT country FROM routing_stagedprice WHERE price_import_id = %(import)s GROUP BY country
          HAVING bool_and(change = 'removed')) c
        UNION ALL SELECT kind, count(*) FROM routing_leftout WHERE price_import_id = %(import)s GROUP BY 1
        UNION ALL SELECT 'priced', count(DISTINCT line) FROM routing_stagedprice
          WHERE price_import_id = %(import)s AND line > 0""",
        values,
    )
    found |= {name: number for name, number in grouped}
    found["prices"] = sum(found[name] for name in ("new", "up", "down", "terms", "unchanged"))
    found["no_rate"] = [
        currency
        for (currency,) in rows(
            """
            SELECT DISTINCT currency FROM routing_stagedprice s
            WHERE price_import_id = %(import)s AND change <> 'removed' AND currency <> %(reporting)s
              AND NOT EXISTS (SELECT FROM routing_exchangerate e WHERE e.currency = s.currency) ORDER BY 1""",
            values,
        )
    ]
    return found
