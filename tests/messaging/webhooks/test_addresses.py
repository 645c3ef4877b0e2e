"""Nothing of this machine or of a private network is ever connected to, however its address is written."""

import socket
import threading
from ipaddress import ip_network

import pytest
import uvloop

from messaging.webhooks import addresses, sending
from providers import http1
from providers.transport import Call, Transport, boottime
from providers.types import HttpRequest, HttpResponse
from tests.messaging.door import assert_problem
from tests.messaging.webhooks.receiver import Receiver, endpoint, tell

# PORT is the trap's. Names with .test are answered by the test, as a resolver in somebody's hands could.
HOSTILE = [
    "http://127.0.0.1:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.0.0.1:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://017700000001:PORT/",
    "http://127.000.000.001:PORT/",
    "http://127.255.255.254:PORT/",
    "http://0.0.0.0:PORT/",
    "http://0:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[64:ff9b::7f00:1]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b:1::7f00:1]:PORT/",
    "http://[2002:7f00:1::]:PORT/",
    "http://[2001:0:7f00:1::]:PORT/",
    "http://[fe80::1]:PORT/",
    "http://[fe80::1%25lo]:PORT/",
    "http://[fd00::1]:PORT/",
    "http://[fec0::1]:PORT/",
    "http://[ff02::1]:PORT/",
    "http://10.0.0.1:PORT/",
    "http://172.16.0.1:PORT/",
    "http://192.168.0.1:PORT/",
    "http://169.254.169.254:PORT/latest/meta-data/",
    "http://100.64.0.1:PORT/",
    "http://224.0.0.1:PORT/",
    "http://255.255.255.255:PORT/",
    "http://198.18.0.1:PORT/",
    "http://192.0.0.8:PORT/",
    "http://loopback.test:PORT/",
    "http://mapped.test:PORT/",
    "http://both.test:PORT/",
    "http://rebinding.test:PORT/",
    "http://user@127.0.0.1:PORT/",
    "http://example.com:80@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\@example.com/",
    "http://ⓛocalhost:PORT/",
    "gopher://127.0.0.1:PORT/",
    "file:///etc/passwd",
]
PUBLIC = "192.0.66.1"
NAMES = {
    "loopback.test": [["127.0.0.1"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "both.test": [[PUBLIC, "127.0.0.1"]],
    "rebinding.test": [["10.0.0.1"], ["127.0.0.1"]],  # a different one each time it is asked
}


class Trap:
    """Counts connections to a port on loopback of both families."""

    def __init__(self):
        self.count = 0
        first = socket.create_server(("", 0))
        self.port = first.getsockname()[1]
        self.sockets = [first]
        if socket.has_ipv6:
            self.sockets.append(socket.create_server(("::", self.port), family=socket.AF_INET6))
        for listening in self.sockets:
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def _accept(self, listening):
        while True:
            try:
                caught = listening.accept()[0]
            except OSError:
                return
            self.count += 1  # before whoever was caught can go on
            caught.close()

    def stop(self):
        for listening in self.sockets:
            listening.close()


@pytest.fixture
def trap():
    found = Trap()
    yield found
    found.stop()


@pytest.fixture
def asked(monkeypatch):
    """How often each name was resolved; NAMES are ours, and no answer is kept."""
    counts: dict[str, int] = {}
    real = uvloop.Loop.getaddrinfo

    async def getaddrinfo(self, host, port, **options):
        if host not in NAMES:
            return await real(self, host, port, **options)
        answers = NAMES[host]
        found = answers[min(counts.get(host, 0), len(answers) - 1)]
        counts[host] = counts.get(host, 0) + 1
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found
        ]

    monkeypatch.setattr(uvloop.Loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(http1, "DNS_TTL", -1.0)
    return counts


@pytest.fixture
def post():
    """As the sender does it, without its look at the URL before: the connection alone must be safe."""
    transport = Transport(connect=2, read=2, total=3, admit=addresses.admit, status_only=True)
    yield lambda url: transport.fetch(Call(HttpRequest("POST", url, {}, b"{}"), boottime() + 60))
    transport.close()


@pytest.fixture
def _nothing_allowed(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []


@pytest.mark.usefixtures("_nothing_allowed")
def test_hostile_addresses_are_never_connected_to(trap, post, asked):
    answers = {url: post(url.replace("PORT", str(trap.port))) for url in HOSTILE for _ in range(2)}

    assert len(HOSTILE) >= 40
    assert trap.count == 0
    # No address at all, for us or for the resolver of this machine; most are refused by what they lead to.
    refused = {url: getattr(answer, "code", answer) for url, answer in answers.items()}
    assert set(refused.values()) <= {"address_refused", "invalid_url", "dns_failure"}, refused
    assert sum(code == "address_refused" for code in refused.values()) >= 35
    assert asked["rebinding.test"] == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:PORT/", "http://localhost:PORT/", "http://loopback.test:PORT/"])
def test_the_trap_would_have_caught_them(trap, post, asked, settings, url):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8"), ip_network("::1/128")]

    post(url.replace("PORT", str(trap.port)))

    assert trap.count >= 1


def test_a_redirect_is_not_followed(trap, post, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.2/32")]
    receiver = Receiver("127.0.0.2")
    receiver.answer = lambda handler: handler.send_redirect(f"http://127.0.0.2:{trap.port}/")
    try:
        answer = post(receiver.url)
    finally:
        receiver.stop()

    assert (answer.status, trap.count) == (302, 0)


def test_private_networks_can_be_allowed(post, settings, receiver):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.1/32")]

    assert isinstance(post(receiver.url), HttpResponse)
    assert not addresses.allowed("127.0.0.2")
    assert addresses.allowed("127.0.0.1")


@pytest.mark.usefixtures("_nothing_allowed")
@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.15.0.1", "100.63.0.1", "2606:4700::1111"])
def test_public_addresses_are_allowed(address):
    assert addresses.allowed(address)


@pytest.mark.django_db
@pytest.mark.usefixtures("_nothing_allowed")
def test_what_can_be_told_from_the_url_is_refused_when_it_is_given(api, settings):
    settings.WEBHOOK_ALLOW_HTTP = False
    told_later = ("test:", "localhost")  # a name says nothing about where it leads, until it is asked
    for url in HOSTILE:
        if any(word in url.lower() for word in told_later):
            continue
        secure = url.replace("PORT", "8443").replace("http://", "https://")
        answer = api.post("/api/v1/webhook-endpoints", {"url": secure}, format="json")

        assert_problem(answer, 422, "validation_failed")
        assert {error["field"] for error in answer.json()["errors"]} == {"url"}, url


@pytest.mark.django_db
def test_a_url_that_is_not_allowed_any_more_is_not_sent_to(client_row, receiver, claim, settings):
    endpoint(client_row, receiver.url)
    tell(client_row)
    settings.WEBHOOK_ALLOW_HTTP = False

    (shot,) = claim()

    assert (shot.call, shot.problem) == (None, "address_refused")
    assert sending.pause(shot.tries)
