"""Work in groups: to the end where it is short, for its time where it is long. Plans that are kept, for a second."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from providers import sql
from providers.sql import in_groups, keep_plans, rows


def test_groups_end_with_the_first_that_is_not_full():
    sizes = [3, 3, 1, 3]

    in_groups(lambda: sizes.pop(0), 3)

    assert sizes == [3]


def test_full_groups_end_with_their_time():
    groups = []

    def step() -> int:
        groups.append(time.monotonic())
        time.sleep(0.01)
        return 3

    in_groups(step, 3, seconds=0.05)

    assert 2 <= len(groups) <= 6
    assert groups[-1] - groups[0] < 1


def in_thread(act: Callable[[], Any]) -> Any:
    """With a connection of its own."""
    found = []

    def run() -> None:
        try:
            found.append(act())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return found[0]


def planned(statement: str) -> list[tuple[int, int]]:
    """(without looking at its values, by its values): how often the statement was planned."""
    return rows(
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = %(it)s", {"it": statement}
    )


@pytest.mark.django_db(transaction=True)
def test_only_threads_that_keep_plans_prepare_every_statement() -> None:
    def three_times(keep: bool) -> list[tuple[int, int]]:
        if keep:
            keep_plans()
        for _ in range(3):
            rows("SELECT 1 AS once")
        return planned("SELECT 1 AS once")

    assert in_thread(lambda: three_times(True)) == [(3, 0)]
    assert in_thread(lambda: three_times(False)) == []


@pytest.mark.django_db(transaction=True)
def test_kept_plan_does_not_outlive_a_table_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made for an empty table it reads all of it, and would go on so."""
    monkeypatch.setattr(sql, "PLANS_LAST", 0.0)

    def way() -> str:
        rows("SELECT filler FROM pg_temp.growing WHERE id = %(id)s", {"id": 1})
        ((name,),) = rows("SELECT name FROM pg_prepared_statements WHERE statement LIKE 'SELECT filler%'")
        with connection.cursor() as cursor:
            cursor.execute(f'EXPLAIN EXECUTE "{name}" (1)')
            return str(cursor.fetchone()[0]).split(" on ")[0]

    def ways() -> list[str]:
        keep_plans()
        rows("CREATE TEMPORARY TABLE growing (id int PRIMARY KEY, filler text)")
        rows("VACUUM ANALYZE pg_temp.growing")
        empty = way()
        rows("INSERT INTO pg_temp.growing SELECT n, repeat('x', 200) FROM generate_series(1, 20000) n")
        return [empty, way().split(" using ")[0]]

    assert in_thread(ways) == ["Seq Scan", "Index Scan"]
