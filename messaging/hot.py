"""The two calls that come by the thousand, without what the others need: one message, and a provider's receipts.

What comes at the same time shares a statement and a commit. Only what is right goes this way: whoever is to be told
anything but yes is given None, and goes the ordinary way, through the view that says what is wrong. A test holds that
both ways give the same answer.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from django.conf import settings
from django.db import Error

from messaging import bodies, intake, quotas, receipts, tasks
from messaging.authentication import authenticate, require
from messaging.errors import Refusal
from messaging.idempotency import Answer
from messaging.intake import Request
from messaging.states import EVENTS
from providers.adapters.base import SignatureError, UnreadableReceipt
from providers.types import ParsedReceipt, Webhook

log = logging.getLogger(__name__)

MESSAGES = "/api/v1/messages"
_JSON = {"Content-Type": "application/json"}
RECEIPTS = re.compile(r"/receipts/([A-Za-z0-9_-]+)(?:/([A-Za-z0-9_-]+))?")


@dataclass(frozen=True, slots=True)
class Post:
    """A POST as it came in. `target` is path and query; header names are in lower case, each of them is there once."""

    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    address: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered, and what the log tells of it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str | None = None
    key_id: str | None = None
    message_id: str | None = None


def route_of(post: Post) -> str:
    """Its pattern in urls.py, for the log: an address may hold anything."""
    if post.target == MESSAGES:
        return MESSAGES[1:]
    path = RECEIPTS.fullmatch(post.target.partition("?")[0])
    return "receipts/<slug:provider>" + ("/<slug:our_reference>" if path and path[2] else "")


def accept(posts: Sequence[Post]) -> list[Reply | None]:
    """Accepts messages; all that are stored are stored with one commit.

    Raises database errors after which nobody knows whether they are.
    """
    keys: dict[int, str] = {}
    requests: dict[int, Request] = {}
    for index, post in enumerate(posts):
        try:
            caller, keys[index] = authenticate(post.headers.get("authorization", ""), post.address)
            require(caller, "send")
            requests[index] = Request(caller, bodies.parse(post.body), post.headers.get("idempotency-key"))
        except Refusal:
            continue
    found = _accepted(list(requests.values())) if requests else []
    answers = dict(zip(requests, found, strict=True))
    return [_reply(answers.get(i), requests[i], keys[i]) if i in requests else None for i in range(len(posts))]


def _accepted(requests: Sequence[Request]) -> Sequence[Answer | Refusal | None]:
    """None for each where the database would not have one of them: the ordinary way finds out which."""
    with quotas.reserve_each(request.caller for request in requests) as rooms:
        try:
            return intake.accept_each(requests, rooms)
        except Error as error:
            # A limit can make it more than one statement: what the first has stored must not be stored again.
            if not _undone(error) or any(room.spent for room in rooms.values()):
                raise
            log.warning("accepted one by one: together they could not be", exc_info=error)
    return [None] * len(requests)


def _undone(error: Error) -> bool:
    """The server itself has refused the statement; where it or the connection went away, it may have committed."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state is not None and not state.startswith(("08", "57"))


def _reply(answer: Answer | Refusal | None, request: Request, key_id: str) -> Reply | None:
    if not isinstance(answer, Answer):
        return None
    return Reply(
        answer.status,
        orjson.dumps(answer.body),
        _JSON | ({"Idempotency-Replayed": "true"} if answer.replayed else {}),
        client=request.caller.slug,
        key_id=key_id,
        message_id=answer.body["id"],
    )


def store(posts: Sequence[Post]) -> list[Reply | None]:
    """Stores the receipts of many requests with one commit."""
    found: dict[int, list[tuple[int, ParsedReceipt]]] = {}
    for index, post in enumerate(posts):
        path = RECEIPTS.fullmatch(post.target.partition("?")[0])
        if path is None:
            continue
        webhook = Webhook(settings.PUBLIC_URL + post.target, post.headers, post.body, path[2] or "")
        try:
            found[index] = receipts.read(path[1], webhook)
        except (Refusal, SignatureError, UnreadableReceipt):
            continue
    if receipts.store([receipt for several in found.values() for receipt in several]):
        tasks.hint(EVENTS)
    return [Reply(204) if index in found else None for index in range(len(posts))]
