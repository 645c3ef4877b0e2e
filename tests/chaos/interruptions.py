"""Loaded by a real worker after its tasks: the process kills or stops itself, once, at one point of the send path.

INTERRUPT_AT     name of the point, a key of POINTS
INTERRUPT_BY     SIGKILL or SIGSTOP
INTERRUPT_COUNT  how many times the point is passed before
INTERRUPT_MARK   file that is made right before
"""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from messaging import delivery, drain
from providers import http1, transport

_passes_left = int(os.environ["INTERRUPT_COUNT"])


def interrupt() -> None:
    global _passes_left
    if _passes_left == 0:
        Path(os.environ["INTERRUPT_MARK"]).touch()
        # To this thread, which so goes no further; a signal to the process could reach another one first.
        signal.raise_signal(signal.Signals[os.environ["INTERRUPT_BY"]])
    _passes_left -= 1


def before_intent_commit() -> None:
    intend = delivery._intend

    def interrupted(steps: Sequence[Any]) -> Any:
        written = intend(steps)
        if written:
            interrupt()
        return written

    delivery._intend = interrupted


def after_intent_commit() -> None:
    claim = drain.claim

    def interrupted(lane: str, limit: int) -> Any:
        offers, due = claim(lane, limit)
        if offers:
            interrupt()
        return offers, due

    drain.claim = interrupted


def before_gate() -> None:
    """The connection is in hand, no byte is written."""
    pass_gate = transport._Flight.pass_gate

    def interrupted(flight: Any) -> None:
        interrupt()
        pass_gate(flight)

    transport._Flight.pass_gate = interrupted


def after_send() -> None:
    """The request is written, its answer is not read."""
    write = http1.Connection._write

    def interrupted(connection: Any, message: bytes) -> None:
        write(connection, message)
        interrupt()

    http1.Connection._write = interrupted


def before_settle() -> None:
    settle = delivery.settle

    def interrupted(group: Sequence[Any]) -> None:
        interrupt()
        settle(group)

    delivery.settle = interrupted


POINTS: dict[str, Callable[[], None]] = {
    point.__name__: point
    for point in (before_intent_commit, after_intent_commit, before_gate, after_send, before_settle)
}
POINTS[os.environ["INTERRUPT_AT"]]()
