"""The bare loop beside the bridge: reads records in groups of 500, parses their JSON, and inserts them.

python -m benchmarks.ingest KAFKA TOPIC GROUP DATABASE: one row and its unique key for each, in one statement and
one transaction for a group, the offsets behind the commit. No rules, no prices, no events, no limits. It ends by
SIGTERM.
"""

import sys

import orjson
import psycopg
from confluent_kafka import Consumer

from benchmarks.limits import TABLE

INSERT = """
INSERT INTO bench_message
SELECT gen_random_uuid(), client, key, "to", body, 'queued', clock_timestamp()
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) r(client, key, "to", body)
ON CONFLICT (client, key) DO NOTHING
"""


def main() -> None:
    servers, topic, group, database = sys.argv[1:]
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
        }
    )
    consumer.subscribe([topic], on_assign=lambda _, places: print("reads", len(places), flush=True))
    with psycopg.connect(database, autocommit=True) as connection:
        while True:
            first = consumer.poll(0.5)
            if first is None:
                continue
            messages = [first, *consumer.consume(499, 0.02)]
            commands = [orjson.loads(message.value()) for message in messages]
            columns = zip(*((c["source"], c["id"], c["data"]["to"], c["data"]["text"]) for c in commands), strict=True)
            connection.execute(INSERT, [list(column) for column in columns])
            for message in messages:
                consumer.store_offsets(message)


def prepare(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TABLE)


if __name__ == "__main__":
    main()
