"""What the service keeps: the commands that it wants carried out, and what it knows of each message.

One SQLite file stands for the database that such a service has anyway.
"""

import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TABLES = """
CREATE TABLE IF NOT EXISTS command (id TEXT PRIMARY KEY, reference TEXT UNIQUE, body TEXT, produced INT DEFAULT 0);
CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS message (subject TEXT PRIMARY KEY, reference TEXT, status TEXT, sequence INT);
"""


class Store:
    def __init__(self, path: str) -> None:
        self._path = path
        with self._open() as database:
            database.executescript(TABLES)

    def want(self, reference: str, to: str, text: str) -> None:
        """To be written in the transaction of what the message is about: the id is chosen once, here.

        A second call with the same reference changes nothing.
        """
        command = {
            "specversion": "1.0",
            "type": "messaging.message.send",
            "source": "core-backend",
            "id": str(uuid.uuid4()),
            "subject": reference,
            "data": {"to": to, "text": text, "reference": reference},
        }
        with self._open() as database:
            database.execute(
                "INSERT OR IGNORE INTO command (id, reference, body) VALUES (?, ?, ?)",
                (command["id"], reference, json.dumps(command)),
            )

    def wanted(self) -> list[dict[str, Any]]:
        """Commands that Kafka has not acknowledged. One may be there already: it is produced again as it is."""
        with self._open() as database:
            rows = database.execute("SELECT body FROM command WHERE NOT produced ORDER BY rowid")
            return [json.loads(body) for (body,) in rows]

    def produced(self, command_id: str) -> None:
        with self._open() as database:
            database.execute("UPDATE command SET produced = 1 WHERE id = ?", (command_id,))

    def hear(self, event: dict[str, Any]) -> bool:
        """Takes an event once, whichever way it came and however often; False where it changes nothing.

        Events of one message may come in another order by webhook: one with an older `sequence` is not news.
        """
        if not event.get("type", "").startswith("message."):
            return False
        row = (event["subject"], event["data"].get("reference", ""), event["data"]["status"], event["sequence"])
        with self._open() as database:
            if not database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (event["id"],)).rowcount:
                return False
            changed = database.execute(
                """INSERT INTO message VALUES (?, ?, ?, ?) ON CONFLICT (subject) DO UPDATE
                SET reference = excluded.reference, status = excluded.status, sequence = excluded.sequence
                WHERE excluded.sequence > message.sequence""",
                row,
            )
            return changed.rowcount > 0

    def statuses(self) -> dict[str, str]:
        """Of each message, by the reference of what it is about."""
        with self._open() as database:
            return dict(database.execute("SELECT reference, status FROM message ORDER BY reference"))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction; the process that listens and the one that serves share the file."""
        database = sqlite3.connect(self._path, timeout=10)
        try:
            with database:
                yield database
        finally:
            database.close()
