"""Events in, by webhook: the signature first (Standard Webhooks), then the same store as the topic's."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

from examples.core_backend.store import Store

LARGEST = 65_536  # bytes


def server(store: Store, port: int, secret: str) -> ThreadingHTTPServer:
    """Answers 204 for what it has stored or knows, 401 for what nobody has signed with `secret` (whsec_...)."""
    webhook = Webhook(secret)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= LARGEST:
                return self._answer(413)
            body = self.rfile.read(length)
            try:
                # The bytes as they came: parsed and written anew they would have another signature.
                webhook.verify(body, {name.lower(): value for name, value in self.headers.items()})
            except (WebhookVerificationError, ValueError):  # the latter: headers or a body that are no text
                return self._answer(401)
            store.hear(json.loads(body))
            return self._answer(204)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: an event names a customer's message."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
