"""The control port: a small JSON API over the carriers and the ledger, and the inbox page."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from providers.simulator.faults import BadPlan, parse_rules
from providers.simulator.http import JSON, BadRequest, Connection, Reply, Request
from providers.simulator.ledger import summarise

if TYPE_CHECKING:
    from providers.simulator.server import CarrierServer

FILES = {
    "/": ("inbox.html", "text/html; charset=utf-8"),
    "/inbox.css": ("inbox.css", "text/css; charset=utf-8"),
    "/inbox.js": ("inbox.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
GUARDS = (
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
)
ENTRY_LIMIT, MOST_ENTRIES = 1000, 100_000
STREAM_BACKLOG = 1024 * 1024  # bytes a page may lag behind before it is cut off; it connects again by itself


class ControlConnection(Connection):
    def __init__(self, server: "CarrierServer") -> None:
        super().__init__(server.loop, server.connections)
        self._server = server

    def received(self, request: Request) -> None:
        if request.method == "GET" and request.target == "/api/stream":
            self._stream()
            return
        try:
            result = answer(self._server, request)
        except (BadRequest, BadPlan) as error:
            result = failure(error.status if isinstance(error, BadRequest) else 400, str(error))
        if isinstance(result, Reply):
            self.send(result)
        else:
            self._server.spawn(self._answer_later(result))

    def refused(self, error: BadRequest) -> Reply:
        return failure(error.status, str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.inbox.unlisten(self._push)
        super().connection_lost(exc)

    async def _answer_later(self, result: Coroutine[Any, Any, Reply]) -> None:
        self.send(await result)

    def _stream(self) -> None:
        """Server-sent events; the connection is busy from here on."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n{GUARDS}\r\n"
        self.transport.write(head.encode() + b"retry: 1000\n\n")
        self._server.inbox.listen(self._push, self._server.describe)

    def _push(self, event: bytes) -> None:
        if self.transport.get_write_buffer_size() > STREAM_BACKLOG:
            self.transport.abort()
        else:
            self.transport.write(event)


def answer(server: "CarrierServer", request: Request) -> Reply | Coroutine[Any, Any, Reply]:
    """Raises BadRequest and BadPlan."""
    path, _, query = request.target.partition("?")
    if request.method not in ("GET", "HEAD"):
        _refuse_foreign_pages(request)
    if path in FILES and request.method == "GET":
        name, content_type = FILES[path]
        return Reply(200, Path(__file__).with_name(name).read_bytes(), content_type, GUARDS)
    parts = path.strip("/").split("/")
    if request.method == "PUT" and len(parts) == 4 and parts[:2] == ["api", "carriers"] and parts[3] == "faults":
        return _put_faults(server, parts[2], request.body)
    if request.method == "POST" and path == "/api/reset":
        return _reset(server)
    if request.method == "GET" and path in READERS:
        return ok(READERS[path](server, {key: values[-1] for key, values in parse_qs(query).items()}))
    raise BadRequest(404, "there is nothing at this address")


async def _put_faults(server: "CarrierServer", slug: str, body: bytes) -> Reply:
    served = server.served.get(slug)
    if served is None:
        return failure(404, f"there is no carrier of this name; there are {', '.join(server.served)}")
    try:
        rules = parse_rules(orjson.loads(body))
    except orjson.JSONDecodeError:
        return failure(400, "the body is not JSON")
    except BadPlan as error:
        return failure(400, str(error))
    served.carrier.plan.replace(rules)
    await served.follow_plan()
    server.inbox.touch(0)
    return ok(served.describe())


async def _reset(server: "CarrierServer") -> Reply:
    await server.reset()
    return ok(server.describe())


def _carriers(server: "CarrierServer", query: dict[str, str]) -> dict[str, Any]:
    return server.describe()


def _ledger(server: "CarrierServer", query: dict[str, str]) -> dict[str, Any]:
    after, limit = _whole(query, "after", 0), min(_whole(query, "limit", ENTRY_LIMIT), MOST_ENTRIES)
    equal: dict[str, str] = {key: query[key] for key in ("reference", "to", "carrier", "event") if key in query}
    entries = server.ledger.entries(equal, after=after, limit=limit)
    return {"entries": entries, "last": len(server.ledger)}


def _summary(server: "CarrierServer", query: dict[str, str]) -> dict[str, Any]:
    by = query.get("by", "reference")
    if by not in ("reference", "text"):
        raise BadRequest(400, "by must be reference or text (number and text)")
    equal = {"carrier": query["carrier"]} if "carrier" in query else {}
    return summarise(server.ledger.entries(equal), by)


def _inbox(server: "CarrierServer", query: dict[str, str]) -> dict[str, Any]:
    return {"messages": server.inbox.messages(_whole(query, "limit", 100))}


READERS: dict[str, Callable[["CarrierServer", dict[str, str]], dict[str, Any]]] = {
    "/api/carriers": _carriers,
    "/api/ledger": _ledger,
    "/api/ledger/summary": _summary,
    "/api/inbox": _inbox,
}


def ok(data: object) -> Reply:
    return Reply(200, orjson.dumps(data), JSON, GUARDS)


def failure(status: int, message: str) -> Reply:
    return Reply(status, orjson.dumps({"error": {"message": message}}), JSON, GUARDS)


def _whole(query: dict[str, str], key: str, default: int) -> int:
    text = query.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadRequest(400, f"{key} must be a whole number, zero or more")
    return int(text)


def _refuse_foreign_pages(request: Request) -> None:
    """Another site open in the same browser must not break carriers."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise BadRequest(403, "requests from other sites are not served")
