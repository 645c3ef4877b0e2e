"""The web process: the two hot calls go the short way (messaging/hot.py), everything else to Django on its threads.

An event loop reads the requests, so a slow client holds nobody up.
"""

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from config.requests import ADMIN, log_request, own_id
from config.threads import Headers, Threads, Wsgi
from messaging import authentication, hot, problems
from messaging.context import request_id
from messaging.hot import Post, Reply
from messaging.together import Together

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Seconds for which a thread that computes keeps the others waiting: Python's own 5 ms would be felt in every check of a
# code that comes beside a batch, once for each of its answers from the database.
SWITCH = 0.001
GATHER = 0.005  # seconds for which a receipt waits for others: no provider minds, and they share a commit
THREADS = 2  # of Django: a check of a code does not wait behind a batch; more would only wait for each other
PATIENCE = 30.0  # seconds for a whole body to come in
BATCH = "/api/v1/messages/batch"
UPLOAD = 64 * 1024 * 1024  # bytes: a file for the admin
UPLOADS = 2  # of files that are longer than a batch, at once: the others wait unread, and take no memory
NO_BASE = {b"content-length", b"content-type", b"x-request-id"}
_QUERY = re.compile(rb"[A-Za-z0-9._~=&+-]*")  # Django would write it in the same way


class Application:
    """An ASGI 3.0 application."""

    def __init__(self, django: Wsgi) -> None:
        sys.setswitchinterval(SWITCH)
        self._django = Threads(django, THREADS)
        self._accept = Together("accept", hot.accept)
        self._store = Together("store", hot.store, pause=GATHER)
        self._uploads = asyncio.Semaphore(UPLOADS)
        self._base: Headers = []  # the headers of every answer of the API

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        async with self._uploads if _is_upload(scope) else nullcontext():
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        body = await _body(scope, receive)
        if body is None:
            refused = problems.bad_request()
            await _send(send, 400, [(b"content-type", problems.MEDIA_TYPE.encode())], refused.content)
            return
        post = _post(scope, body)
        reply = await self._short_way(post) if post else None
        if post and reply:
            await self._answer(scope, post, reply, started, send)
            return
        await _send(send, *await self._django.answer(scope, body))

    async def _short_way(self, post: Post) -> Reply | None:
        if post.target != hot.MESSAGES:
            try:
                return await self._store.do(post)
            except Exception:
                return None  # to store a receipt twice is to store it once
        try:
            return await self._accept.do(post)
        except Exception as error:
            failed = problems.handler(error, {})
            return Reply(failed.status_code, failed.content, dict(failed.items()))

    async def _answer(self, scope: Scope, post: Post, reply: Reply, started: float, send: Send) -> None:
        if not self._base:
            self._base = await self._headers_of_the_api(scope)
        own = own_id(post.headers.get("x-request-id", ""))
        headers = {**reply.headers, "x-request-id": own}
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        length = (b"content-length", b"%d" % len(reply.body))
        await _send(send, reply.status, [*self._base, *encoded, length], reply.body)
        token = request_id.set(own)
        log_request(
            method="POST",
            route=hot.route_of(post),
            status=reply.status,
            seconds=time.perf_counter() - started,
            client=reply.client,
            key_id=reply.key_id,
            message_id=reply.message_id,
            bytes_in=len(post.body),
            bytes_out=len(reply.body),
        )
        request_id.reset(token)

    async def _headers_of_the_api(self, scope: Scope) -> Headers:
        """As Django's middleware sets them: those of another answer, to the same caller."""
        live = {**scope, "method": "GET", "path": "/live", "raw_path": b"/live", "query_string": b""}
        _, headers, _ = await self._django.answer(live, b"")
        return [header for header in headers if header[0] not in NO_BASE]


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _is_upload(scope: Scope) -> bool:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return scope["path"].startswith(ADMIN) and (not length.isdigit() or int(length) > settings.BATCH_BODY_LIMIT)


def _most(path: str) -> int:
    """Bytes of a body that its view may want to see."""
    if path.startswith(ADMIN):
        return UPLOAD
    return settings.BATCH_BODY_LIMIT if path == BATCH else settings.SINGLE_BODY_LIMIT


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The body, cut off behind what its view would refuse as too long; None where its client has gone or dawdles."""
    most = _most(scope["path"])
    body, came = bytearray(), 0
    try:
        async with asyncio.timeout(PATIENCE):
            # The rest is read too, and not kept: who is closed to while he writes may not hear why.
            while came <= max(most, settings.BATCH_BODY_LIMIT):
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                came += len(part)
                body += part[: most + 1 - len(body)]
                if not message.get("more_body"):
                    break
    except TimeoutError:
        return None
    return bytes(body)


def _post(scope: Scope, body: bytes) -> Post | None:
    """The request, if it is one for the short way and there is nothing unusual about it."""
    path, query = scope["raw_path"], scope["query_string"]
    if scope["method"] != "POST" or len(body) > settings.SINGLE_BODY_LIMIT or not _QUERY.fullmatch(query):
        return None
    target = (path + b"?" + query if query else path).decode("latin-1")
    if target != hot.MESSAGES and not hot.RECEIPTS.fullmatch(path.decode("latin-1")):
        return None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    if len(headers) != len(scope["headers"]) or headers.get("content-length") != str(len(body)):
        return None
    if not _host_is_ours(headers.get("host", "")) or not _is_secure(scope, headers):
        return None
    if target == hot.MESSAGES and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return None
    connected = str((scope.get("client") or ("",))[0])
    passed = headers.get("x-forwarded-for", "")
    return Post(target, headers, body, authentication.caller_address(connected, passed))


@lru_cache(maxsize=64)
def _host_is_ours(host: str) -> bool:
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def _is_secure(scope: Scope, headers: MutableMapping[str, str]) -> bool:
    """What is not is sent to the secure address by Django."""
    return not settings.SECURE_SSL_REDIRECT or headers.get("x-forwarded-proto") == "https"


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
