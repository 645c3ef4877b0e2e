"""The transport over real sockets on the loopback."""

import asyncio
import errno
import gzip
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from providers import http1
from providers import transport as module
from providers.http1 import ANSWER_LIMIT
from providers.outcomes import Ambiguous, GateRefused, Unavailable
from providers.transport import Call, Result, Transport, boottime, verdict
from providers.types import HttpRequest, HttpResponse
from tests.certificates import self_signed

ROOT = Path(__file__).resolve().parents[2]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Vendor: one\r\n\r\nok"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Reads requests on a loopback port, counts them, and answers each as it is told."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self.received = 0
        self._serving: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []
        self._loop = asyncio.new_event_loop()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
        self._server = self._loop.run_until_complete(starting)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/send"
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await asyncio.sleep(0.01)  # asyncio loses a connection that is accepted in the moment of closing
        self._server.close()
        talking = {task for task, _ in self._serving}
        if accepting := asyncio.all_tasks() - talking - {asyncio.current_task()}:
            await asyncio.wait(accepting, timeout=2)
        for task, writer in self._serving:
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*(task for task, _ in self._serving), return_exceptions=True)
        await asyncio.sleep(0)  # lets the aborted transports close their sockets

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.append((asyncio.ensure_future(self._converse(reader, writer)), writer))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.requests.append(await self._read(reader))
                await self.answer(writer)
        except asyncio.IncompleteReadError as ended:
            self.received += len(ended.partial)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        request = head + await reader.readexactly(int(fields.get(b"content-length", 0)))
        self.received += len(request)
        return request


def saying(*parts: bytes, pause: float = 0.0, close: bool = False) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        if close:
            writer.close()

    return answer


async def silence(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def reset(writer: asyncio.StreamWriter) -> None:
    linger_for_nothing = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_nothing)
    writer.transport.abort()


class Inbox:
    """Keeps what done() brings, and waits for a number of results."""

    def __init__(self) -> None:
        self.results: list[tuple[object, Result]] = []
        self._changed = threading.Condition()

    def done(self, key: object, result: Result) -> None:
        with self._changed:
            self.results.append((key, result))
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.results) >= count, timeout=20), len(self.results)

    def counted(self) -> Counter[object]:
        return Counter(key for key, _ in self.results)

    def outcomes(self) -> Counter[object]:
        return Counter(
            result.status if isinstance(result, HttpResponse) else (type(result), result.code)
            for _, result in self.results
        )


Serve = Callable[..., Server]
Converse = Callable[[Callable[[socket.socket], None]], int]
Build = Callable[..., Transport]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(answer: Answer, tls: ssl.SSLContext | None = None) -> Server:
            server = Server(answer, tls)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def converse() -> Iterator[Converse]:
    """Runs a conversation over the first connection to the port that it returns."""
    with ExitStack() as stack:

        def start(conversation: Callable[[socket.socket], None]) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(5)

            def run() -> None:
                connection, _ = listener.accept()
                with connection:
                    conversation(connection)

            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(thread.join)
            return int(listener.getsockname()[1])

        yield start


@pytest.fixture
def build() -> Iterator[Build]:
    with ExitStack() as stack:

        def make(connect: float = 2.0, read: float = 2.0, total: float = 5.0) -> Transport:
            made = Transport(connect=connect, read=read, total=total)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return self_signed(tmp_path / "carrier.pem")


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def post(url: str, body: bytes = b"text=hello", gate: float = 60.0) -> Call:
    return Call(HttpRequest("POST", url, {"Content-Type": "text/plain"}, body), boottime() + gate)


def get(url: str, gate: float = 60.0) -> Call:
    return Call(HttpRequest("GET", url), boottime() + gate)


def run_python(script: str, **environment: str) -> str:
    """What the script prints; it must end well and say nothing on stderr."""
    prelude = "from providers.transport import Call, Transport, boottime\nfrom providers.types import HttpRequest\n"
    ran = subprocess.run(
        # From Python 3.12 on a process with threads is warned before it forks; dramatiq does so too.
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", prelude + script],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


# --- answers --------------------------------------------------------------------------------------


def test_an_answer_is_brought_whole(serve, build):
    server = serve(saying(OK))

    result = build().fetch(post(server.url, b"\x00text"))

    assert result == HttpResponse(200, {"content-length": "2", "x-vendor": "one"}, b"ok")
    assert server.requests[0].startswith(b"POST /send HTTP/1.1\r\n")
    assert server.requests[0].endswith(b"\r\n\r\n\x00text")
    assert b"Content-Type: text/plain\r\n" in server.requests[0]


def test_the_url_goes_out_as_the_adapter_wrote_it(serve, build):
    server = serve(saying(OK))

    build().fetch(get(server.url + "?to=%2B1&text=a%20b+c%2F"))

    assert server.requests[0].startswith(b"GET /send?to=%2B1&text=a%20b+c%2F HTTP/1.1\r\n")


@pytest.mark.parametrize("status", [204, 400, 429, 503])
def test_every_status_is_an_answer(serve, build, status):
    server = serve(saying(b"HTTP/1.1 %d Word\r\nContent-Length: 0\r\n\r\n" % status))

    result = build().fetch(post(server.url))

    assert isinstance(result, HttpResponse)
    assert result.status == status


def test_a_redirect_is_not_followed(serve, build):
    other = serve(saying(OK))
    server = serve(saying(b"HTTP/1.1 307 Go\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % other.url.encode()))

    result = build().fetch(post(server.url))

    assert isinstance(result, HttpResponse)
    assert result.status == 307
    assert other.requests == []


def test_cookies_are_not_kept(serve, build):
    server = serve(saying(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"))
    shared = build()

    shared.fetch(post(server.url))
    shared.fetch(post(server.url))

    assert len(server.requests) == 2
    assert b"Cookie" not in server.requests[1]


def test_a_chunked_answer_is_joined(serve, build):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = serve(saying(head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n", pause=0.02))

    result = build().fetch(post(server.url))

    assert isinstance(result, HttpResponse)
    assert result.body == b"abcde"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_an_answer_may_come_in_any_pieces(serve, build, size):
    whole = b"HTTP/1.1 202 Taken\r\nX-Vendor: one\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    server = serve(saying(*(whole[at : at + size] for at in range(0, len(whole), size)), pause=0.001))

    result = build().fetch(post(server.url))

    assert result == HttpResponse(202, {"x-vendor": "one", "transfer-encoding": "chunked"}, b"abcde")


def test_an_answer_without_a_length_ends_with_its_connection(serve, build):
    server = serve(saying(b"HTTP/1.1 200 OK\r\n\r\n", b"whole", pause=0.02, close=True))
    shared = build()

    first, second = shared.fetch(post(server.url)), shared.fetch(post(server.url))

    assert isinstance(first, HttpResponse)
    assert first.body == b"whole"
    assert first == second
    assert server.connections == 2


def test_an_interim_answer_is_not_the_answer(serve, build):
    server = serve(saying(b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n", OK, pause=0.02))

    result = build().fetch(post(server.url))

    assert result == HttpResponse(200, {"content-length": "2", "x-vendor": "one"}, b"ok")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_answer_nobody_asked_for_is_unpacked(serve, build, coding):
    body = gzip.compress(b"text") if coding == "gzip" else zlib.compress(b"text")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), len(body))
    server = serve(saying(head + body))

    result = build().fetch(post(server.url))

    assert isinstance(result, HttpResponse)
    assert result.body == b"text"
    assert b"accept-encoding" not in server.requests[0].lower()


def test_a_connection_that_the_server_will_close_is_not_used_again(serve, build):
    server = serve(saying(OK.replace(b"X-Vendor: one", b"Connection: close")))
    shared = build()

    for _ in range(3):
        shared.fetch(post(server.url))

    assert (server.connections, len(server.requests)) == (3, 3)


def test_a_connection_idle_for_long_is_not_used_again(serve, build, monkeypatch):
    monkeypatch.setattr(http1, "KEEP_ALIVE", 0.2)
    server = serve(saying(OK))
    shared = build()
    shared.fetch(post(server.url))
    time.sleep(0.3)

    result = shared.fetch(post(server.url))

    assert isinstance(result, HttpResponse)
    assert server.connections == 2


def test_a_connection_is_used_again(serve, build):
    server = serve(saying(OK))
    shared = build()

    for _ in range(20):
        shared.fetch(post(server.url))

    assert len(server.requests) == 20
    assert server.connections == 1


def test_an_answer_nobody_asked_for_is_not_given_to_the_next_call(serve, build):
    server = serve(saying(OK, OK.replace(b"ok", b"no"), pause=0.05))
    shared = build()
    shared.fetch(post(server.url))
    time.sleep(0.2)

    result = shared.fetch(post(server.url))

    assert isinstance(result, HttpResponse)
    assert result.body == b"ok"
    assert (server.connections, len(server.requests)) == (2, 2)


def test_two_answers_in_one_breath_are_not_mixed_and_end_the_connection(serve, build):
    server = serve(saying(OK + OK.replace(b"ok", b"no").replace(b"one", b"two")))
    shared = build()

    first, second = shared.fetch(post(server.url)), shared.fetch(post(server.url))

    assert first == second == HttpResponse(200, {"content-length": "2", "x-vendor": "one"}, b"ok")
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_connection_on_which_the_server_has_said_goodbye_is_not_used_again():
    class Wire(asyncio.Transport):
        closing = False

        def is_closing(self) -> bool:
            return self.closing

    async def connected() -> tuple[bool, bool]:
        connection, wire = http1.Connection(1.0), Wire()
        connection.connection_made(wire)
        before = connection.reusable
        wire.closing = True
        return before, connection.reusable

    assert asyncio.run(connected()) == (True, False)


# --- surely not processed -------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_refused_connection_is_unavailable(build):
    result = build().fetch(post(f"http://127.0.0.1:{free_port()}/"))

    assert result == Unavailable("connection_refused", "ConnectionRefusedError ECONNREFUSED")


def test_a_name_that_does_not_resolve_is_unavailable(build):
    result = build().fetch(post("http://carrier.invalid/"))

    assert isinstance(result, Unavailable)
    assert result.code in {"dns_failure", "connect_timeout"}  # the latter where the resolver itself is out of reach


@pytest.mark.parametrize(
    "url",
    ["", "carrier.example", "ftp://127.0.0.1/", "http://", "/send", "http://a:b@127.0.0.1/", "http://127.0.0.1/a b",
     "http://127.0.0.1/\r\nX: y", "http://127.0.0.1:99999/"],
)  # fmt: skip
def test_a_wrong_base_url_is_unavailable(build, url):
    result = build().fetch(post(url))

    assert isinstance(result, Unavailable)
    assert result.code == "invalid_url"


def test_a_process_without_a_free_descriptor_blames_itself(serve, build):
    server, transport = serve(saying(OK)), build()
    transport.fetch(post(f"http://127.0.0.1:{free_port()}/"))  # its loop has its own descriptors
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        result = transport.fetch(post(server.url))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert (type(result), result.code) == (Unavailable, "out_of_resources")


def test_a_header_with_a_line_break_is_refused_before_a_byte_is_written(serve, build):
    server = serve(saying(OK))
    call = Call(HttpRequest("POST", server.url, {"X-Sender": "a\r\nX-Other: b"}, b"text"), boottime() + 60)

    result = build().fetch(call)

    assert result == Unavailable("not_sent", "ValueError")
    assert server.received == 0


def test_a_connection_that_nobody_accepts_is_unavailable_after_the_connect_timeout(build):
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fills the backlog: the next handshake gets no answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            assert waiting.connect_ex(listener.getsockname()) in {0, errno.EINPROGRESS}
        started = time.monotonic()

        result = build(connect=0.3).fetch(post(f"http://127.0.0.1:{listener.getsockname()[1]}/"))

    assert result == Unavailable("connect_timeout", "ConnectTimeout")
    assert 0.25 < time.monotonic() - started < 4


def test_a_tls_handshake_without_an_answer_counts_into_the_connect_timeout(build):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = build(connect=0.3).fetch(post(f"https://127.0.0.1:{listener.getsockname()[1]}/"))

    assert result == Unavailable("connect_timeout", "ConnectTimeout")


def test_a_server_without_tls_is_unavailable(converse, build):
    def speak_plainly(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    result = build().fetch(post(f"https://127.0.0.1:{converse(speak_plainly)}/"))

    assert isinstance(result, Unavailable)
    assert result.code == "tls_failure"


def test_a_certificate_that_nobody_vouches_for_is_unavailable(serve, build, server_tls):
    server = serve(saying(OK), tls=server_tls)

    result = build().fetch(post(server.url))

    assert isinstance(result, Unavailable)
    assert result.code == "tls_failure"
    assert "self-signed certificate" in result.detail
    assert server.requests == []


def test_a_certificate_of_a_trusted_authority_is_accepted(serve, certificate, server_tls):
    server = serve(saying(OK), tls=server_tls)

    printed = run_python(
        f"""
call = Call(HttpRequest("POST", {server.url!r}, {{}}, b"text"), boottime() + 9)
print(Transport(connect=2, read=2, total=5).fetch(call))
""",
        SSL_CERT_FILE=str(certificate),
    )

    assert printed.startswith("HttpResponse(status=200")
    assert len(server.requests) == 1


# --- the gate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [get, post])
def test_a_call_past_its_gate_writes_no_byte(serve, build, make):
    server = serve(saying(OK))

    result = build().fetch(make(server.url, gate=-0.01))

    assert result == GateRefused()
    time.sleep(0.1)
    assert (server.connections, server.received) == (1, 0)


def test_a_gate_that_closes_while_the_connection_is_made_is_noticed(converse, certificate, server_tls):
    received = []

    def shake_hands_late(connection: socket.socket) -> None:
        time.sleep(0.5)
        with server_tls.wrap_socket(connection, server_side=True) as tls:
            received.append(read_to_the_end(tls))

    url = f"https://127.0.0.1:{converse(shake_hands_late)}/"
    printed = run_python(
        f"""
transport = Transport(connect=2, read=2, total=5)
print(transport.fetch(Call(HttpRequest("POST", {url!r}, {{}}, b"text"), boottime() + 0.2)))
transport.close()
""",
        SSL_CERT_FILE=str(certificate),
    )

    assert printed.startswith("GateRefused(")
    assert received == [b""]


def test_the_gate_runs_on_a_clock_that_counts_suspended_time():
    monotonic = time.monotonic()
    before = boottime()
    time.sleep(0.05)

    assert before >= monotonic
    assert 0.04 < boottime() - before < 1


# --- may have been processed ----------------------------------------------------------------------


def test_a_read_timeout_is_ambiguous(serve, build):
    server = serve(silence)
    started = time.monotonic()

    result = build(read=0.3).fetch(post(server.url))

    assert result == Ambiguous("read_timeout", "ReadTimeout")
    assert 0.25 < time.monotonic() - started < 4
    assert len(server.requests) == 1


def test_a_silence_inside_the_answer_is_a_read_timeout(serve, build):
    server = serve(saying(OK[:-1], pause=30))

    result = build(read=0.3).fetch(post(server.url))

    assert result == Ambiguous("read_timeout", "ReadTimeout")


def test_slow_bytes_are_cut_by_the_total_timeout(serve, build):
    server = serve(saying(*(bytes([byte]) for byte in OK), pause=0.1))
    started = time.monotonic()

    result = build(read=0.5, total=0.8).fetch(post(server.url))

    assert result == Ambiguous("total_timeout", "TimeoutError")
    assert 0.7 < time.monotonic() - started < 4


def test_what_was_not_delivered_is_dropped_when_the_call_is_given_up(build):
    body = b"x" * 100_000
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        shared = build(total=0.3)

        result = shared.fetch(post(f"http://127.0.0.1:{listener.getsockname()[1]}/", body))

        assert result == Ambiguous("total_timeout", "TimeoutError")
        time.sleep(0.1)
        with listener.accept()[0] as connection:
            received = read_to_the_end(connection)
        assert 0 < len(received) < len(body)


def read_to_the_end(connection: socket.socket) -> bytes:
    received = b""
    with suppress(OSError):  # a reset, in the clear or under TLS
        while data := connection.recv(65536):
            received += data
    return received


def test_a_reset_after_the_request_is_ambiguous(serve, build):
    server = serve(reset)

    result = build().fetch(post(server.url))

    assert result == Ambiguous("connection_lost", "ConnectionResetError ECONNRESET")
    assert len(server.requests) == 1


def test_a_close_after_the_request_is_ambiguous(serve, build):
    server = serve(saying(close=True))

    result = build().fetch(post(server.url))

    assert result == Ambiguous("connection_lost", "Disconnected")
    assert len(server.requests) == 1


@pytest.mark.parametrize("make", [get, post])
def test_a_kept_connection_that_drops_after_the_request_is_not_tried_again(serve, build, make):
    server = serve(saying(OK))
    shared = build()
    shared.fetch(make(server.url))
    server.answer = saying(close=True)

    result = shared.fetch(make(server.url))

    assert result == Ambiguous("connection_lost", "Disconnected")
    time.sleep(0.1)
    assert (server.connections, len(server.requests)) == (1, 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 many OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\n" + gzip.compress(b"text")[:12],
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nplain",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Endless: " + b"x" * 200_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tea\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=[
        *("other protocol", "status", "length", "cut", "chunk", "encoding", "cut encoding", "other encoding"),
        *("header", "endless", "upgrade", "two lengths"),
    ],
)
def test_an_answer_that_is_not_http_is_ambiguous(serve, build, answer):
    server = serve(saying(answer, close=True))

    result = build().fetch(post(server.url))

    assert isinstance(result, Ambiguous)
    assert result.code == "invalid_answer"


def test_an_answer_at_the_limit_is_brought(serve, build):
    body = os.urandom(ANSWER_LIMIT)
    server = serve(saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))

    result = build().fetch(post(server.url))

    assert isinstance(result, HttpResponse)
    assert result.body == body


BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (ANSWER_LIMIT + 1) + bytes(ANSWER_LIMIT + 1),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(2_000_000),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,
    ],
    ids=["one byte", "endless", "packed"],
)
def test_an_answer_above_the_limit_is_ambiguous(serve, build, answer):
    server = serve(saying(answer))
    shared = build()

    result = shared.fetch(post(server.url))

    assert result == Ambiguous("answer_too_large", "AnswerTooLarge")
    server.answer = saying(OK)
    assert isinstance(shared.fetch(post(server.url)), HttpResponse)


# --- every call is answered exactly once ----------------------------------------------------------


def test_five_hundred_calls_run_at_once(serve, build):
    server = serve(saying(b"", OK, pause=0.3))
    inbox = Inbox()

    build().offer([(key, post(server.url)) for key in range(500)], inbox.done)
    inbox.wait(500)

    assert inbox.outcomes() == {200: 500}
    assert inbox.counted() == Counter(range(500))
    assert server.connections == 500


def test_many_threads_may_offer(serve, build):
    server = serve(saying(OK))
    inbox, shared = Inbox(), build()
    together = threading.Barrier(8)

    def offer(thread: int) -> None:
        together.wait()
        for number in range(25):
            shared.offer([((thread, number), post(server.url))], inbox.done)

    threads = [threading.Thread(target=offer, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    inbox.wait(200)

    for thread in threads:
        thread.join()
    assert inbox.outcomes() == {200: 200}
    assert set(inbox.counted().values()) == {1}


def test_one_bad_call_does_not_touch_its_batch(serve, build):
    server = serve(saying(OK))
    inbox = Inbox()

    calls = [("good", post(server.url)), ("bad", post("http://[")), ("late", post(server.url, gate=-1))]
    build().offer(calls, inbox.done)
    inbox.wait(3)

    found = {key: type(result) for key, result in inbox.results}
    assert found == {"good": HttpResponse, "bad": Unavailable, "late": GateRefused}


def test_a_receiver_that_fails_does_not_stop_the_others(serve, build, caplog):
    server = serve(saying(OK))
    inbox, shared = Inbox(), build()

    def fail(key: object, result: Result) -> None:
        inbox.done(key, result)
        raise LookupError

    shared.offer([(key, post(server.url)) for key in range(5)], fail)
    inbox.wait(5)

    assert isinstance(shared.fetch(post(server.url)), HttpResponse)
    assert inbox.counted() == Counter(range(5))
    assert "the receiver of a result failed" in caplog.text


def test_a_result_may_be_answered_by_the_next_offer(serve, build):
    server = serve(saying(OK))
    inbox, shared = Inbox(), build()

    def fail_over(key: object, result: Result) -> None:
        shared.offer([(key, post(server.url))], inbox.done)

    shared.offer([("first", post(f"http://127.0.0.1:{free_port()}/"))], fail_over)
    inbox.wait(1)

    assert inbox.outcomes() == {200: 1}


def test_closing_answers_what_is_in_flight_by_its_phase(serve, converse, build):
    server = serve(silence)
    no_handshake = converse(lambda _: time.sleep(1))
    inbox, shared = Inbox(), build()
    shared.offer([(key, post(server.url)) for key in range(20)], inbox.done)
    shared.offer([("handshake", post(f"https://127.0.0.1:{no_handshake}/"))], inbox.done)
    wait_until(lambda: len(server.requests) == 20)

    shared.close()

    assert inbox.outcomes() == {(Ambiguous, "transport_closed"): 20, (Unavailable, "transport_closed"): 1}
    assert dict(inbox.results)["handshake"] == Unavailable("transport_closed", "CancelledError")


def test_a_closed_transport_writes_nothing_more(serve, build):
    server = serve(saying(OK))
    shared = build()
    shared.fetch(post(server.url))
    shared.close()

    result = shared.fetch(post(server.url))

    assert result == Unavailable("transport_closed", "RuntimeError")
    assert len(server.requests) == 1


def test_offers_that_race_with_closing_are_answered_once(serve, build):
    server = serve(saying(OK))
    for _ in range(10):
        inbox, shared = Inbox(), build()
        shared.fetch(post(server.url))
        together = threading.Barrier(5)

        def offer(thread: int, shared=shared, inbox=inbox, together=together) -> None:
            together.wait()
            for number in range(20):
                shared.offer([((thread, number), post(server.url))], inbox.done)

        threads = [threading.Thread(target=offer, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        together.wait()
        shared.close()
        for thread in threads:
            thread.join()

        assert len(inbox.results) == 80
        assert set(inbox.counted().values()) == {1}


def kill_the_loop(key: object, result: Result) -> None:
    raise SystemExit


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_dies_leaves_no_call_unanswered_and_the_next_offer_starts_another(serve, build):
    server = serve(silence)
    inbox, shared = Inbox(), build()
    shared.offer([(key, post(server.url)) for key in range(20)], inbox.done)
    wait_until(lambda: len(server.requests) == 20)

    shared.offer([("killer", post("http://["))], kill_the_loop)
    inbox.wait(20)

    assert inbox.outcomes() == {(Ambiguous, "transport_closed"): 20}
    server.answer = saying(OK)
    wait_until(lambda: isinstance(shared.fetch(post(server.url)), HttpResponse))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_calls_offered_while_the_loop_dies_are_answered(serve, build):
    server = serve(silence)
    inbox, shared = Inbox(), build()

    def fail_over(key: int, result: Result) -> None:
        inbox.done(key, result)
        server.answer = saying(OK)
        if key < 19:
            shared.offer([(key + 1, post(server.url))], fail_over)

    shared.offer([(0, post(server.url))], fail_over)
    wait_until(lambda: len(server.requests) == 1)

    shared.offer([("killer", post("http://["))], kill_the_loop)
    inbox.wait(20)

    assert inbox.counted() == Counter(range(20))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_cannot_start_leaves_no_call_unanswered(serve, build, monkeypatch):
    server = serve(saying(OK))
    inbox, shared = Inbox(), build()
    with monkeypatch.context() as broken:
        broken.setattr(http1.ssl, "create_default_context", lambda: ssl.SSLContext().load_verify_locations("/nowhere"))
        shared.offer([(key, post(server.url)) for key in range(5)], inbox.done)
        inbox.wait(5)

    wait_until(lambda: isinstance(shared.fetch(post(server.url)), HttpResponse))

    assert inbox.counted() == Counter(range(5))
    assert {type(result) for _, result in inbox.results} == {Unavailable}


def wait_until(fact: Callable[[], bool]) -> None:
    for _ in range(500):
        if fact():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within five seconds")


# --- processes ------------------------------------------------------------------------------------


def test_a_forked_child_has_its_own_loop_and_leaves_the_parents_alone(serve):
    server, silent = serve(saying(OK)), serve(silence)

    printed = run_python(
        f"""
import os
import resource
transport = Transport(connect=2, read=9, total=9)
def call(url):
    return Call(HttpRequest("POST", url, {{}}, b"text"), boottime() + 9)
def fetch():
    print(transport.fetch(call({server.url!r})).status, flush=True)
transport.offer([("parent's", call({silent.url!r}))], lambda key, result: print(key, flush=True))
fetch()
if (child := os.fork()) == 0:
    fetch()
    fetch()
    transport.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
fetch()
transport.close()
"""
    )

    assert printed.splitlines() == ["200", "200", "200", "200", "parent's"]
    assert server.connections == 2  # one per process: the parent's lived on


def test_a_process_may_end_with_an_idle_transport(serve):
    server = serve(saying(OK))

    printed = run_python(
        f"""
transport = Transport(connect=2, read=2, total=5)
print(transport.fetch(Call(HttpRequest("POST", {server.url!r}, {{}}, b"text"), boottime() + 9)).status)
"""
    )

    assert printed == "200\n"


def test_a_process_has_one_transport_for_its_timeouts(settings):
    settings.CONNECT_TIMEOUT, settings.READ_TIMEOUT, settings.TOTAL_TIMEOUT = 1, 2, 3
    first, second = module.transport(), module.transport()

    settings.TOTAL_TIMEOUT = 4

    assert first is second
    assert module.transport() is not first


# --- names ----------------------------------------------------------------------------------------


def test_every_error_of_the_client_has_its_name():
    raised = {found for found in vars(http1).values() if isinstance(found, type) and issubclass(found, Exception)}

    assert raised == {found for found in module.CODES if found.__module__ == http1.__name__}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError(), "connection_refused"),
        (ConnectionResetError(), "connection_lost"),
        (ConnectionAbortedError(), "connection_lost"),
        (BrokenPipeError(), "connection_lost"),
        (TimeoutError(), "total_timeout"),
        (ssl.SSLError(), "tls_failure"),
        (ssl.SSLCertVerificationError(), "tls_failure"),
        (OSError(errno.EHOSTUNREACH, "no route"), "connect_failed"),
        (OSError(errno.EMFILE, "too many open files"), "out_of_resources"),
        (asyncio.CancelledError(), "transport_closed"),
        (RuntimeError("the loop is closed"), "transport_closed"),
        (socket.gaierror(), "dns_failure"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_the_system_is_named_by_its_class(error, code):
    assert verdict(error, written=False).code == code


@pytest.mark.parametrize("error", [ValueError(), KeyError(), AssertionError(), MemoryError()])
def test_an_error_nobody_listed_is_named_by_its_phase(error):
    assert verdict(error, written=False) == Unavailable("not_sent", type(error).__name__)
    assert verdict(error, written=True) == Ambiguous("failed_in_flight", type(error).__name__)


def test_a_verdict_shows_neither_url_nor_number(build):
    url = f"http://127.0.0.1:{free_port()}/?to=%2B380441234567"

    results = [
        build().fetch(post(url)),
        build().fetch(get("ftp://carrier.example/?to=+380441234567")),
        verdict(ValueError("+380441234567"), written=True),
        verdict(OSError(errno.EPIPE, "+380441234567"), written=True),
    ]

    assert "380441234567" not in repr(results)
