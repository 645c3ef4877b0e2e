"""What comes at the same time is done together: one thread, one database connection, one commit for a whole group."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from django.db import close_old_connections

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 100  # in a group: what comes later waits for no more than their work


class Together(Generic[Item, Result]):
    """Hands `work` what has gathered while it was busy with the group before, and in the `pause` seconds after its
    first item: where nobody waits for the answer, a larger group costs less.

    `work` gives a result for each item, in their order; what it raises, each of them is told. It runs on a thread of
    its own, which starts with a process's first item; `do` belongs to that process's one event loop.
    """

    def __init__(self, name: str, work: Callable[[Sequence[Item]], Sequence[Result]], *, pause: float = 0.0) -> None:
        self._name = name
        self._work = work
        self._pause = pause
        self._waiting: SimpleQueue[tuple[Item, asyncio.Future[Result]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, item: Item) -> Result:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
            self._thread.start()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.put((item, future))
        return await future

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not loop.is_closed():
            group = self._gathered()
            results: Sequence[Result | Exception]
            try:
                close_old_connections()  # as Django does before a request
                results = self._work([item for item, _ in group])
            except Exception as error:
                results = [error] * len(group)
            loop.call_soon_threadsafe(_tell, [future for _, future in group], results)

    def _gathered(self) -> list[tuple[Item, "asyncio.Future[Result]"]]:
        group = [self._waiting.get()]
        if self._pause:
            time.sleep(self._pause)
        while len(group) < MOST:
            try:
                group.append(self._waiting.get_nowait())
            except Empty:
                break
        return group


def _tell(futures: Sequence["asyncio.Future[Any]"], results: Sequence[Any]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():  # its client is gone
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
