"""The production proxy's configuration, on a real nginx: a web process never meets a slow client."""

import gzip
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from config.local import postgres
from config.local.up import BASE_DIR
from tests.certificates import self_signed
from tests.fleet import wait_for


@dataclass
class Upstream:
    """One web process: a server that answers one request at a time and remembers them."""

    port: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def start(self) -> HTTPServer:
        seen = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen.append((self.path, dict(self.headers), body))
                if self.path != "/silent":
                    self.send_response(202)
                    self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", self.port), Handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


@dataclass(frozen=True)
class Proxy:
    port: int
    upstream: Upstream
    directory: Path

    def connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.directory / "fullchain.pem")
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        return context.wrap_socket(raw, server_hostname="127.0.0.1")

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        with self.connect() as connection:
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while part := connection.recv(65536):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx and os.environ.get("CI") == "true":
        pytest.fail("nginx is not installed")
    if not nginx:
        pytest.skip("install nginx to try the production proxy (Debian: nginx-light)")
    directory = Path(tempfile.mkdtemp(prefix="mexar-proxy-", dir=postgres.SHARED_DIR))
    upstream = Upstream()
    server = upstream.start()
    found = Proxy(postgres.free_port(), upstream, directory)
    process = None
    try:
        prepare(found)
        with (directory / "errors").open("wb") as errors:
            process = subprocess.Popen(
                [nginx, "-e", directory / "errors", "-c", directory / "nginx.conf", "-g", "daemon off;"],
                stdout=errors,
                stderr=errors,
                preexec_fn=postgres.die_with_parent(signal.SIGTERM),
                **postgres.account(),
            )
        wait_for(lambda: process.poll() is not None or is_open(found.port))
        assert process.poll() is None, (directory / "errors").read_text()
        yield found
    finally:
        if process:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)
        server.shutdown()
        server.server_close()
        shutil.rmtree(directory)


def prepare(proxy: Proxy) -> None:
    """The file of the repository, with this machine's ports and directories."""
    text = (BASE_DIR / "config" / "deploy" / "nginx.conf").read_text()
    for old, new in (
        ("/tmp/", f"{proxy.directory}/tmp/"),  # noqa: S108
        ("listen 8443", f"listen 127.0.0.1:{proxy.port}"),
        ("listen 8080", f"listen 127.0.0.1:{postgres.free_port()}"),
        ("web:8000", f"127.0.0.1:{proxy.upstream.port}"),
        ("/etc/nginx/tls/", f"{proxy.directory}/"),
        ("/srv/static/", f"{proxy.directory}/static/"),
        ("/dev/stderr", f"{proxy.directory}/errors"),
        ("/dev/stdout", f"{proxy.directory}/access"),
    ):
        assert old in text
        text = text.replace(old, new)
    (proxy.directory / "nginx.conf").write_text(text)
    (proxy.directory / "errors").touch()
    (proxy.directory / "tmp").mkdir()
    (proxy.directory / "static").mkdir()
    (proxy.directory / "static" / "page.0123456789ab.css").write_text("a {}")
    (proxy.directory / "static" / "page.0123456789ab.css.gz").write_bytes(gzip.compress(b"a {}"))
    shutil.copy(self_signed(proxy.directory / "privkey.pem"), proxy.directory / "fullchain.pem")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "nobody", proxy.directory], check=True)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_client_that_stalls_in_its_body_holds_no_web_process(proxy: Proxy) -> None:
    with proxy.connect() as slow:
        slow.sendall(b"POST /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\n12345")
        time.sleep(0.3)

        quick = proxy.call("POST", "/quick", b"{}")
        slow.sendall(b"67890")
        answer = read_answer(slow)

    assert (quick[0], answer[0]) == (202, 202)
    assert [(path, body) for path, _, body in proxy.upstream.requests] == [("/quick", b"{}"), ("/slow", b"1234567890")]


def test_web_hears_who_connected_and_that_it_was_https(proxy: Proxy) -> None:
    proxy.call("GET", "/ready", X_Forwarded_For="10.0.0.1", X_Forwarded_Proto="http")

    _, headers, _ = proxy.upstream.requests[0]
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["Host"] == "localhost"


def test_silence_of_web_is_passed_on_as_what_it_is(proxy: Proxy) -> None:
    status, headers, body = proxy.call("POST", "/silent", b"{}")

    assert status == 502
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["code"] == "no_answer"
    assert len(proxy.upstream.requests) == 1


def test_static_files_come_from_the_volume_for_good(proxy: Proxy) -> None:
    status, headers, body = proxy.call("GET", "/static/page.0123456789ab.css", Accept_Encoding="gzip")

    assert status == 200
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert gzip.decompress(body) == b"a {}"
    assert proxy.upstream.requests == []


def test_what_the_proxy_refuses_is_a_problem_document(proxy: Proxy) -> None:
    status, headers, body = proxy.call("POST", "/api/v1/messages/batch", b" " * (5 * 1024 * 1024 + 1))

    assert status == 413
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["code"] == "body_too_large"


def test_metrics_are_not_shown_outside(proxy: Proxy) -> None:
    assert proxy.call("GET", "/metrics")[0] == 404
    assert proxy.upstream.requests == []


def test_queries_are_not_logged(proxy: Proxy) -> None:
    proxy.call("GET", "/api/v1/messages?to=%2B380501234567")

    wait_for(lambda: "/api/v1/messages" in (proxy.directory / "access").read_text())
    assert "380501234567" not in (proxy.directory / "access").read_text()
