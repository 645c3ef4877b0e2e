"""A client's receiver: a real HTTP server that answers as a test tells it to; and short words for its events."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from messaging.models import Message
from messaging.moves import Move
from messaging.states import Status
from messaging.webhook_models import WebhookEndpoint
from messaging.webhooks import endpoints, sending, signatures
from messaging.webhooks.sending import Outcome
from tests.factories import MessageFactory


class Receiver:
    """`answer` takes the handler, which it may write to, and gives a status; None: it has answered itself."""

    def __init__(self, host="127.0.0.1"):
        self.requests: list[tuple[float, dict[str, str], bytes]] = []  # time, headers, body
        self.answer: Callable[..., int | None] = lambda handler: 200
        self.ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((time.time(), headers, body))
                status = receiver.answer(self)
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def send_redirect(self, location):
                self.send_response(302)
                self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format, *args):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # a client that went away is what is tested

        self.server = Server((host, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{host}:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def hang(self, handler):
        self.ended.wait(30)


def endpoint(client, url, *, events=("*",), **fields) -> WebhookEndpoint:
    row = endpoints.prepare(client.pk, url, list(events))
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(force_insert=True)
    return row


def secret_of(row) -> str:
    row.refresh_from_db()
    return next(iter(signatures.unseal(row.pk, row.secrets)))


def tell(client, status=Status.SENT) -> Message:
    """A message of the client that moves, and with it an event."""
    origin = {Status.SENT: Status.SENDING, Status.DELIVERED: Status.SENT}.get(status, Status.QUEUED)
    message = MessageFactory(client=client, status=origin)
    Message.objects.transition([Move(message.id, status)])
    return message


def settle(*shots, status=200, error=None, **fields):
    """`error` in place of an answer."""
    code = error if error is not None else "" if 200 <= status < 300 else f"http_{status}"
    http_status = None if error else status
    sending.settle([Outcome(shot, http_status, code, 0.01, **fields) for shot in shots])


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")
