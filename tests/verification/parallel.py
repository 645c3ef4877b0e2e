"""Many at once: threads with a database connection each, started by one barrier."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection


def together(works: Sequence[Callable[[], Any]], threads: int = 50) -> list[Any]:
    """What each returned, in the order of `works`; they are dealt out to the threads one by one."""
    threads = min(threads, len(works))
    barrier = threading.Barrier(threads)

    def run(share: Sequence[Callable[[], Any]]) -> list[Any]:
        try:
            connection.ensure_connection()
            barrier.wait(30)
            return [work() for work in share]
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        shares = [pool.submit(run, works[number::threads]) for number in range(threads)]
        found = [share.result() for share in shares]
    return [found[number % threads][number // threads] for number in range(len(works))]
