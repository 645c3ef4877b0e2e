"""One answer that the database refuses must not cost the others of its group."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import InterfaceError, InternalError, OperationalError

T = TypeVar("T")


def settle_apart(
    group: Sequence[T], settle: Callable[[Sequence[T]], None], distrust: Callable[[T, Exception], T | None]
) -> None:
    """Settles a group in one go, and one by one where the database is at odds with a value in it.

    `distrust` gives the one to blame without its value, as an answer that proves nothing, or None where
    nothing is left to leave out. Raises what it cannot settle, and at once where the database is away.
    """
    try:
        settle(group)
    except (OperationalError, InterfaceError, InternalError):
        raise
    except Exception as error:
        if len(group) > 1:
            for one in group:
                settle_apart([one], settle, distrust)
            return
        harmless = distrust(group[0], error)
        if harmless is None:
            raise
        settle_apart([harmless], settle, distrust)
