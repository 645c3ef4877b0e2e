"""A person's number is taken out of the database: what is kept about its messages has no number and no text.

Each app names its tables in `PARTS` (the setting ERASURES). An opt-out stays: without its number it would be forgotten.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from messaging.states import FINAL, Status
from providers.sql import rows
from routing import networks

log = logging.getLogger(__name__)

GROUP = 500
SEPARATORS = "-+ .()/"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one table that hold the number. SQL over `t`: which ones (`where`), what becomes of them (`change`, SET;
    empty: they are deleted), and which of them forbid it all (`busy`). What is changed is not found again."""

    name: str
    table: str
    where: str
    change: str = ""
    busy: str = ""


class StillBusy(Exception):
    """Something is still under way for the number: nothing was changed."""


def erase(msisdn: str, *, dry_run: bool) -> dict[str, int]:
    """How many rows of each part were changed, or would be. Can be run again after an interruption.

    Raises StillBusy.
    """
    params = _params(msisdn)
    busy = {part.name: found for part in _parts() if part.busy and (found := _count(part, params, part.busy))}
    if busy:
        told = ", ".join(f"{count} {name}" for name, count in busy.items())
        raise StillBusy(f"{told} of this number are not closed yet: cancel them or wait")
    if dry_run:
        return {part.name: _count(part, params) for part in _parts()}
    changed = {part.name: sum(_groups(part, params)) for part in _parts()}
    log.info("number erased", extra={"count": sum(changed.values())})
    return changed


def _parts() -> Iterator[Part]:
    for path in settings.ERASURES:
        yield from import_string(path)


def _params(msisdn: str) -> Mapping[str, Any]:
    return {
        "number": msisdn,
        "erased": msisdn[:4] + "*" * len(msisdn[4:]),
        # As people and programs write it: any separators between its digits, nothing but the number itself.
        "written": r"(?<![0-9])" + f"[{SEPARATORS}]{{0,3}}".join(msisdn[1:]) + r"(?![0-9])",
        "bytes": f"({'|'.join(_hex(SEPARATORS))}){{0,3}}".join(_hex(msisdn[1:])),
        "group": GROUP,
        "network_key": networks.key(msisdn),
    }


def _hex(text: str) -> list[str]:
    return [character.encode().hex() for character in text]


def _count(part: Part, params: Mapping[str, Any], also: str = "true") -> int:
    ((found,),) = rows(f"SELECT count(*) FROM {part.table} t WHERE {part.where} AND {also}", params)  # noqa: S608  literals
    return int(found)


def _groups(part: Part, params: Mapping[str, Any]) -> Iterator[int]:
    verb = f"UPDATE {part.table} t SET {part.change}" if part.change else f"DELETE FROM {part.table} t"  # noqa: S608
    statement = f"""
        {verb} WHERE t.id IN (
          SELECT t.id FROM {part.table} t WHERE {part.where} ORDER BY t.id LIMIT %(group)s FOR UPDATE) RETURNING 1"""  # noqa: S608  literals
    done = GROUP
    while done == GROUP:
        with transaction.atomic():
            done = len(rows(statement, params))
        yield done


def without(column: str) -> str:
    """A JSON column with 0 in place of the number, which is JSON as a string and as a number."""
    return f"{column} = regexp_replace(t.{column}::text, %(written)s, '0', 'g')::jsonb"


_OURS = """(SELECT m.id FROM messaging_message m WHERE m."to" = %(number)s)"""
_ATTEMPTS = f"(SELECT a.id FROM messaging_attempt a WHERE a.message_id IN {_OURS})"  # noqa: S608  literals
_CLOSED = ", ".join(f"'{status}'" for status in sorted(FINAL))

#: The messages come last: by them the others are found.
PARTS = (
    Part("known networks", "routing_networksighting", "t.key = %(network_key)s"),
    Part(
        "receipts",
        "messaging_receipt",
        f"(t.attempt_id IS NULL OR t.attempt_id IN {_ATTEMPTS}) AND t.raw::text ~ %(written)s",
        without("raw"),
    ),
    Part(
        "events",
        "messaging_event",
        f"t.subject IN (SELECT o.id::text FROM {_OURS} o) AND t.data::text ~ %(written)s",  # noqa: S608  literals
        without("data"),
    ),
    Part("stored answers", "messaging_idempotencykey", "t.body::text ~ %(written)s", without("body")),
    Part(
        "dead letters",
        "messaging_deadletter",
        # As hexadecimal digits: what came need not be a text at all.
        "(encode(t.raw, 'hex') ~ %(bytes)s OR encode(t.key, 'hex') ~ %(bytes)s OR t.headers::text ~ %(written)s)",
        f"raw = ''::bytea, key = NULL, truncated = true, {without('headers')}",
    ),
    Part(
        "messages",
        "messaging_message",
        """t."to" = %(number)s""",
        f""""to" = %(erased)s, text = '', reference = regexp_replace(t.reference, %(written)s, '0', 'g'),
          {without("metadata")}""",
        busy=f"t.status NOT IN ({_CLOSED}) AND NOT (t.status = '{Status.SENT}' AND t.receipt_overdue)",
    ),
)
