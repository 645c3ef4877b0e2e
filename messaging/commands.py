"""What the commands topic asks for: read strictly, carried out by the same stages as a request over HTTP."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from messaging import bodies, cancellation, clients, idempotency, intake, quotas, schema
from messaging.clients import Caller
from messaging.errors import (
    AlreadyClosed,
    AlreadyLeft,
    ClientDisabled,
    MissingScope,
    RateLimited,
    Refusal,
    UnknownObject,
)
from messaging.idempotency import Answer
from messaging.models import DeadLetter
from messaging.quotas import Rooms
from providers.sql import rows

SEND, CANCEL = "messaging.message.send", "messaging.message.cancel"
TYPES = (SEND, CANCEL, *settings.COMMANDS_ABOVE)
LIMIT = settings.SINGLE_BODY_LIMIT + 4096  # bytes: the body of a POST and its envelope


class Unreadable(Refusal):
    """A record that is no command; each kind of it has its own code."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail)
        self.code = code


class KafkaDisabled(Refusal):
    code = "kafka_disabled"
    status = 403
    title = "The client may not send commands"


class Truncated(Refusal):
    code = "truncated"
    title = "Only its beginning was kept: it cannot be carried out any more"


@dataclass(frozen=True, slots=True)
class Command:
    caller: Caller
    id: str
    type: str
    data: Any = field(repr=False)


def read(key: bytes | None, value: bytes | None) -> Command:
    """Raises Refusal."""
    if value is None:
        raise Unreadable("tombstone", "The record has no value.")
    if len(value) > LIMIT:
        raise Unreadable("too_large", f"{len(value)} bytes, at most {LIMIT} are read.")
    envelope = bodies.parse(value)
    if not isinstance(envelope, dict):
        raise Unreadable("invalid_command", "A JSON object is expected.")
    if envelope.get("specversion") != "1.0":
        raise Unreadable("wrong_version", "A CloudEvent of version 1.0 in structured JSON is expected.")
    if envelope.get("type") not in TYPES:
        raise Unreadable("unknown_type", f"One of {', '.join(TYPES)} is expected.")
    if problem := schema.problem(f"{envelope['type']}.{schema.VERSION}.json", envelope):
        raise Unreadable("invalid_command", problem)
    if key != (envelope["subject"].encode() if "subject" in envelope else key):
        raise Unreadable("wrong_key", "The record's key is not the command's subject.")
    caller = _caller(envelope["source"])
    if envelope["type"] in (SEND, CANCEL) and "send" not in caller.scopes:
        raise MissingScope("The client does not have the scope send.")
    return Command(caller, envelope["id"], envelope["type"], envelope["data"])


def claimed_source(value: bytes | None) -> uuid.UUID | None:
    """The client that an unreadable record names, if it does."""
    try:
        source = clients.sources.get().get(bodies.parse((value or b"")[:LIMIT])["source"])
    except (Refusal, TypeError, KeyError):
        return None
    return source.caller.id if source else None


def reserved(commands: Sequence[Command]) -> AbstractContextManager[Rooms]:
    """Places under the limits of their clients, to be taken before the transaction begins."""
    return quotas.reserve_each(command.caller for command in commands if command.type == SEND)


def carry_out(commands: Sequence[Command], rooms: Rooms) -> list[Refusal | None]:
    """In their order and in the caller's transaction; sends that follow each other share their statements.

    None stands for done, also where it was done before. RateLimited: to be brought again, in the same order.
    """
    found: list[Refusal | None] = []
    late: dict[uuid.UUID, Refusal] = {}
    for kind, group in groupby(commands, key=lambda command: command.type):
        run = list(group)
        if kind == SEND:
            results = _send(run, rooms)
            late |= {c.caller.id: r for c, r in zip(run, results, strict=True) if isinstance(r, RateLimited)}
            found += results
        elif kind == CANCEL:  # what it calls back may be among those that wait
            found += [late.get(command.caller.id) or _cancel(command) for command in run]
        else:
            found += [_above(command) for command in run]
    return found


def replay(letter: DeadLetter) -> None:
    """Carries out a dead letter, once the reason is out of the way. Raises Refusal; then nothing has changed."""
    if letter.truncated:
        raise Truncated
    key, raw = (None if found is None else bytes(found) for found in (letter.key, letter.raw))
    command = read(key, raw)
    with reserved([command]) as rooms, transaction.atomic():
        (refusal,) = carry_out([command], rooms)
        if refusal:
            raise refusal
        rows(
            "UPDATE messaging_deadletter SET replayed_at = clock_timestamp() WHERE id = %(id)s",
            {"id": letter.pk},
        )


def _caller(slug: str) -> Caller:
    source = clients.sources.get().get(slug) or clients.sources.get(fresh=True).get(slug)
    if source is None:
        raise Unreadable("unknown_client", "The source is not the slug of a client.")
    if not source.kafka_enabled:
        source = clients.sources.get(fresh=True).get(slug, source)
    if not source.enabled:
        raise ClientDisabled
    if not source.kafka_enabled:
        raise KafkaDisabled
    return source.caller


def _send(run: Sequence[Command], rooms: Rooms) -> list[Refusal | None]:
    requests = [intake.Request(command.caller, command.data, command.id) for command in run]
    return intake.accept_untold(requests, rooms)


def _cancel(command: Command) -> Refusal | None:
    caller, data = command.caller, command.data

    def work() -> Answer:
        message_id = uuid.UUID(data["id"]) if "id" in data else _sent_by(caller, data["command_id"])
        cancellation.cancel(caller, message_id)
        return Answer(200, {"id": str(message_id)})

    try:
        idempotency.once(caller, "cancel", data, command.id, work)
    except (AlreadyLeft, AlreadyClosed):
        return None  # too late is an outcome, not a mistake: the message's events tell it
    except Refusal as refusal:
        return refusal
    return None


def _above(command: Command) -> Refusal | None:
    """Carried out by an app above this one (settings.COMMANDS_ABOVE)."""
    carry: Callable[[Caller, Any], None] = import_string(settings.COMMANDS_ABOVE[command.type])

    def work() -> Answer:
        carry(command.caller, command.data)
        return Answer(200, {})

    try:
        idempotency.once(command.caller, command.type, command.data, command.id, work)
    except Refusal as refusal:
        return refusal
    return None


def _sent_by(caller: Caller, command_id: str) -> uuid.UUID:
    found = rows(
        "SELECT body->>'id' FROM messaging_idempotencykey WHERE client_id = %(client)s AND key = %(key)s",
        {"client": caller.id, "key": command_id},
    )
    if not found or found[0][0] is None:
        raise UnknownObject("No message was sent by that command.")
    return uuid.UUID(found[0][0])
