"""Hints over PostgreSQL, for an installation without RabbitMQ."""

import dramatiq
import psycopg
from dramatiq.errors import ConnectionClosed
from dramatiq_postgres import schema
from dramatiq_postgres.broker import QUERIES, PostgresBroker
from dramatiq_postgres.utils import tidy4json
from psycopg.types.json import Json

from config.broker import with_parameters

SEND_TIMEOUT = 0.4  # seconds
# Every queue and its delay queue hold a connection, besides the listener and one per sending or acknowledging thread:
# the library's 16 run out, and then sending blocks for good. Connections are opened on demand.
POOL_PARAMETERS = {"maxconn": "48", "connect_timeout": "5"}


class HintBroker(PostgresBroker):
    """dramatiq-postgres whose `enqueue` fails within half a second when the database is away.

    The library's own would repeat ten times with growing pauses, minutes in all.
    """

    def __init__(self, url: str, middleware: list[dramatiq.Middleware]) -> None:
        super().__init__(url=with_parameters(url, POOL_PARAMETERS), results=False, middleware=middleware)

    def enqueue(self, message: dramatiq.Message, *, delay: int | None = None) -> dramatiq.Message:
        self.emit_before("enqueue", message, delay)
        row = (message.queue_name, message.message_id, Json(tidy4json(message)), delay or 0)
        try:
            with self.pool.connection(timeout=SEND_TIMEOUT) as connection:
                connection.execute(QUERIES.ENQUEUE, row)
        except psycopg.Error as error:
            raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]
        self.emit_after("enqueue", message, delay)
        return message


def create_schema(url: str) -> None:
    """Create the broker's own tables where they are missing."""
    broker = HintBroker(url, middleware=[])
    with broker.pool.connection() as connection, connection.cursor() as cursor:
        schema.init(cursor)
    broker.close()
