"""What the phones show: the last messages with their receipts, and a stream of changes for the page."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import orjson

from providers.simulator.ledger import Entry

Listener = Callable[[bytes], None]
SHOWN = ("id", "reference", "to", "text", "sender", "price", "currency", "segments")


class Inbox:
    """Listeners hear of changes at most every `pause` seconds; more than `burst` come as a whole new picture."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int = 500, pause: float = 0.1, burst: int = 200) -> None:
        self._loop = loop
        self._size = size
        self._pause = pause
        self._burst = burst
        self._messages: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._changed: dict[int, None] = {}
        self._listeners: set[Listener] = set()
        self._extra: Callable[[], dict[str, Any]] = dict
        self._timer: asyncio.TimerHandle | None = None

    def add(self, seq: int, carrier: str, at: float, entry: Entry) -> None:
        self._messages[seq] = {"seq": seq, "carrier": carrier, "at": at, "receipts": [], **{k: entry[k] for k in SHOWN}}
        if len(self._messages) > self._size:
            self._messages.popitem(last=False)
        self.touch(seq)

    def receipt(self, seq: int, **receipt: Any) -> None:
        if seq in self._messages:
            self._messages[seq]["receipts"].append(receipt)
            self.touch(seq)

    def reset(self) -> None:
        self._messages.clear()
        self._changed.clear()
        self.touch(0)

    def messages(self, limit: int) -> list[dict[str, Any]]:
        """The last ones, newest first."""
        newest = list(reversed(self._messages.values()))
        return newest[:limit]

    def listen(self, listener: Listener, extra: Callable[[], dict[str, Any]]) -> None:
        """`extra` is sent along with every change: the carriers' counters and plans."""
        self._listeners.add(listener)
        self._extra = extra
        listener(self._snapshot())

    def unlisten(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def touch(self, seq: int) -> None:
        """Notes a change of one message, or of something else with 0."""
        if not self._listeners:
            return
        self._changed[seq] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause, self._tell)

    def _tell(self) -> None:
        self._timer = None
        seqs, self._changed = self._changed, {}
        if len(seqs) > self._burst or not self._messages:
            event = self._snapshot()
        else:
            event = self._event([self._messages[seq] for seq in seqs if seq in self._messages], reset=False)
        for listener in tuple(self._listeners):
            listener(event)

    def _snapshot(self) -> bytes:
        return self._event(self.messages(self._size), reset=True)

    def _event(self, messages: list[dict[str, Any]], reset: bool) -> bytes:
        """With `reset` the page forgets what it has."""
        return b"data: " + orjson.dumps({"messages": messages, "reset": reset, **self._extra()}) + b"\n\n"
