"""Helpers for the hot statements, which take and give many rows at once."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson
import psycopg
from django.db import DEFAULT_DB_ALIAS, connections

PLANS_LAST = 1.0  # seconds
_thread = threading.local()


def keep_plans() -> None:
    """For a thread of hot statements, before its first one: each is planned once a second, not each time.

    Planning them costs as much as running them. A plan is no good for ever: one that was made while a table was empty
    would go on reading all of it.
    """
    wrapper = connections[DEFAULT_DB_ALIAS]
    known = wrapper.settings_dict["OPTIONS"]
    options = f"{known.get('options', '')} -c plan_cache_mode=force_generic_plan"
    wrapper.settings_dict = {**wrapper.settings_dict, "OPTIONS": {**known, "options": options}}
    _thread.plan_at = 0.0


def rows(
    statement: str, params: Mapping[str, Any] | None = None, *, planned_once: bool = False
) -> list[tuple[Any, ...]]:
    """Runs one statement on this thread's connection, in its transaction, and returns what it returns.

    `planned_once` prepares it on the connection: for a hot statement whose plan does not depend on how
    full the tables are. (A look-up planned on an empty table would go on scanning it when it is large.)
    """
    connection = connections[DEFAULT_DB_ALIAS]
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        plan_at = getattr(_thread, "plan_at", None)
        if plan_at is not None and plan_at <= time.monotonic():
            cursor.execute("DISCARD PLANS")
            _thread.plan_at = time.monotonic() + PLANS_LAST
        cursor.execute(statement, params, prepare=planned_once or plan_at is not None, binary=True)
        # Not `description`, which describes each column first.
        return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []


def now() -> datetime:
    """The database's clock, aware UTC."""
    ((found,),) = rows("SELECT clock_timestamp()")
    return found


def records(values: Iterable[Any]) -> str:
    """Many rows, mappings or dataclasses, as one parameter for jsonb_to_recordset: cheaper than an array per column."""
    return orjson.dumps(list(values), default=str).decode()


def in_groups(step: Callable[[], int], size: int, seconds: float = 2.0) -> None:
    """Runs `step`, which tells how many it did, until a group is not full.

    For so many seconds at most: what else the sweeper does waits for it, and the next round goes on.
    """
    until = time.monotonic() + seconds
    while step() == size and time.monotonic() <= until:
        pass
