"""Texts that only the worker may know: what a message stores is a template, and another app fills it in."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from django.conf import settings
from django.db import OperationalError, transaction
from django.utils.module_loading import import_string

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One attempt whose text is to be filled in."""

    attempt_id: uuid.UUID
    message_id: uuid.UUID
    text: str = field(repr=False)


Renderer = Callable[[Sequence[Asked]], dict[uuid.UUID, str | None]]


def render(asked: Iterable[tuple[str, Asked]]) -> dict[uuid.UUID, str | None]:
    """(renderer, attempt) -> the whole text by attempt id, in the caller's transaction.

    None: it must not be sent any more. Missing: it could not be rendered, which is on record and may heal.
    """
    groups: dict[str, list[Asked]] = defaultdict(list)
    for name, one in asked:
        groups[name].append(one)
    found: dict[uuid.UUID, str | None] = {}
    for name, group in groups.items():
        if path := settings.MESSAGE_RENDERERS.get(name):
            found |= _safely(path, group)
        else:
            log.error("no such renderer", extra={"code": name})
    return found


def _safely(path: str, group: Sequence[Asked]) -> dict[uuid.UUID, str | None]:
    """What one of them breaks, the others must not lose: where a group fails, each is rendered alone."""
    try:
        with transaction.atomic():  # what the renderer wrote goes with it
            renderer: Renderer = import_string(path)
            texts = renderer(group)
            return {one.attempt_id: texts[one.attempt_id] for one in group}
    except OperationalError:  # the database's trouble, not theirs: the claim is repeated
        raise
    except Exception as error:
        if len(group) == 1:
            # Neither the message nor the trace of the exception: they may quote a text.
            fields = {"message_id": group[0].message_id, "code": type(error).__name__}
            log.error("a text could not be rendered", extra=fields)
            return {}
    return {key: text for one in group for key, text in _safely(path, [one]).items()}
