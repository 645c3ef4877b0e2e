"""Django, a WSGI application (PEP 3333), on a few threads of an ASGI server.

Own code, because the adapters of the field cost several times the 90 us a request that this one does: they carry each
part of a body and of an answer from thread to loop by itself. Here a request is whole before its thread sees it.
"""

import asyncio
import io
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]


class Threads:
    """`count` threads, each with a database connection of its own that lasts."""

    def __init__(self, application: Wsgi, count: int) -> None:
        self._application = application
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="django")

    async def answer(self, scope: Mapping[str, Any], body: bytes) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, scope, body)

    def _call(self, scope: Mapping[str, Any], body: bytes) -> Answer:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            started.append((status, headers))

        result = self._application(_environ(scope, body), start_response)
        try:
            content = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()  # Django's end of a request
        status, headers = started[-1]
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return int(status.partition(" ")[0]), encoded, b"" if scope["method"] == "HEAD" else content


def _environ(scope: Mapping[str, Any], body: bytes) -> Environ:
    host, port = scope.get("server") or ("localhost", 80)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": str((scope.get("client") or ("",))[0]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    _add_headers(environ, scope["headers"])
    return environ


def _add_headers(environ: MutableMapping[str, Any], headers: Iterable[tuple[bytes, bytes]]) -> None:
    for raw, value in headers:
        if b"_" in raw:
            continue  # it would pass for the header with a hyphen, which a proxy has set or removed
        name = raw.decode("latin-1").upper().replace("-", "_")
        key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
        text = value.decode("latin-1")
        joint = "; " if key == "HTTP_COOKIE" else ","  # RFC 9110, section 5.3; RFC 9113, section 8.2.3
        environ[key] = f"{environ[key]}{joint}{text}" if key in environ else text
