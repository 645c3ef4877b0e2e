"""The other end of the wire: a real HTTP server that answers as a test tells it to."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]
ACCEPTED: Answer = (202, {"id": "their-1", "segments": 1, "price": "0.04", "currency": "EUR"})


class Wire:
    """`answer` takes (method, path, headers, body) and gives (status, JSON, perhaps headers); None closes the line."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[..., Answer | None] = lambda *request: ACCEPTED
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = (self.command, self.path, headers, self.rfile.read(length))
                wire.requests.append(request)
                answer = wire.answer(*request)
                if answer is None:
                    self.close_connection = True
                    return
                status, body, *more = answer
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                for name, value in (pair for headers in more for pair in headers.items()):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
