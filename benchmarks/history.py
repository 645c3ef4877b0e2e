"""A database with millions of closed messages: real rows of this version, multiplied by INSERT .. SELECT."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg

from benchmarks import measure
from benchmarks.fleets import Ours

DAYS = 30  # over which the history is spread
WARM_UP = 30_000  # messages: by then most pages of the indexes by random references have been changed
# Its number, its time, and an id of version 7 for that time in two halves: ids are ordered as in life.
SERIES = """
SELECT n, to_timestamp(ms / 1000.0) AS at, lpad(to_hex(ms), 12, '0') || '7' AS head,
  '8' || lpad(to_hex(n), 15, '0') AS tail
FROM (
  SELECT n, (extract(epoch FROM now()) * 1000)::bigint - {days} * 86400000::bigint * ({messages} - n) / {messages} AS ms
  FROM generate_series(1, {messages}) n) s OFFSET 0
"""
MESSAGE, ATTEMPT, EVENT = (f"(g.head || {tag} || g.tail)::uuid" for tag in ("'001'", "'002'", "'01' || t.sequence"))
OURS, THEIRS = "md5('ours' || g.n)::uuid", "'carrier-a-' || left(md5(g.n::text), 16)"
# What differs between two copies of `t`, by table and its rows of one message.
VALUES: dict[tuple[str, str], dict[str, str]] = {
    ("messaging_message", "id = %(id)s"): {
        "id": MESSAGE,
        '"to"': "'+38050' || lpad(mod(g.n, 10000000)::text, 7, '0')",
        "reference": "'old-' || g.n",
    },
    ("messaging_attempt", "message_id = %(id)s"): {
        "id": ATTEMPT,
        "message_id": MESSAGE,
        "our_reference": OURS,
        "provider_reference": THEIRS,
    },
    ("messaging_receipt", "attempt_id IN (SELECT id FROM messaging_attempt WHERE message_id = %(id)s)"): {
        "id": "nextval('messaging_receipt_id_seq')",
        "attempt_id": ATTEMPT,
        "our_reference": OURS,
        "provider_reference": THEIRS,
        "dedupe_key": "sha256(('receipt' || g.n)::bytea)",
    },
    ("messaging_event", "subject = %(id)s::text"): {
        "id": EVENT,
        "subject": f"{MESSAGE}::text",
        "published_at": "g.at",
    },
}


class Full(Ours):
    """A fleet whose database keeps what it has."""

    def clear(self) -> None:
        return


def fill(fleet: Ours, messages: int) -> None:
    """One delivered message with everything around it, `messages` times; statistics and visibility are fresh."""
    measure.end_to_end(fleet, 1, receipts=True, size=1)
    fleet.work(False)
    template = fleet.one("SELECT id FROM messaging_message LIMIT 1")

    def multiply(table: str, rows: str, values: Mapping[str, str]) -> None:
        with psycopg.connect(fleet.url) as connection:
            # History breaks no foreign key: not checking each row is several times as fast.
            connection.execute("SET session_replication_role = replica")
            columns = _columns(connection, table)
            connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) "
                f"SELECT {', '.join(values.get(name, copied) for name, copied in columns.items())} "
                f"FROM (SELECT * FROM {table} WHERE {rows}) t, ({SERIES.format(days=DAYS, messages=messages)}) g",
                {"id": template},
            )

    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(multiply, *key, values) for key, values in VALUES.items()]:
            done.result()
    fleet.world.run("manage.py", "recount", **fleet.environment)
    with psycopg.connect(fleet.url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
    # The first change of a page after a checkpoint writes all of it to the log. Checkpoints are 15 minutes apart, and
    # what is measured here takes seconds: without this it would be nothing but first changes.
    measure.end_to_end(fleet, WARM_UP, receipts=True)


def _columns(connection: psycopg.Connection, table: str) -> dict[str, str]:
    """Quoted name -> what a copy has there: the same, or another time."""
    found = connection.execute(
        "SELECT quote_ident(attname), atttypid = 'timestamptz'::regtype FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        [table],
    )
    moved = "CASE WHEN t.{0} IS NOT NULL THEN g.at END"
    return {name: moved.format(name) if is_time else f"t.{name}" for name, is_time in found}
