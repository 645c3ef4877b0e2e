"""Texts that only the worker may know: what a message stores is a template, and another app fills it in."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.conf import settings
from django.utils.module_loading import import_string

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One attempt whose text is to be filled in."""

    attempt_id: uuid.UUID
    message_id: uuid.UUID
    text: str = field(repr=False)


def render(asked: Iterable[tuple[str, Asked]]) -> dict[uuid.UUID, str | None]:
    """(renderer, attempt) -> the whole text by attempt id; None: it must not be sent any more."""
    groups: dict[str, list[Asked]] = defaultdict(list)
    for name, one in asked:
        groups[name].append(one)
    found: dict[uuid.UUID, str | None] = {}
    for name, group in groups.items():
        found |= dict.fromkeys((one.attempt_id for one in group), None)
        if path := settings.MESSAGE_RENDERERS.get(name):
            found |= import_string(path)(group)
        else:
            log.error("no such renderer", extra={"renderer": name})
    return found
