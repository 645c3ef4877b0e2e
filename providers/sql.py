"""Two helpers for the hot statements, which take and give many rows at once."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from django.db import connection


def rows(statement: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Runs one statement on this thread's connection and returns what it returns."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


def records(values: Iterable[Mapping[str, Any]]) -> str:
    """Many rows as one parameter, read back with jsonb_to_recordset: cheaper than an array per column."""
    return orjson.dumps(list(values), default=str).decode()
