from ipaddress import ip_network

import pytest

from messaging.webhooks import fanout, sending
from messaging.webhooks.dispatcher import Dispatcher
from tests.messaging.webhooks.receiver import Receiver


@pytest.fixture(autouse=True)
def _loopback(settings):
    """Receivers of tests are on this machine."""
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.stop()


@pytest.fixture
def dispatch():
    """Starts dispatchers, as many as asked for; they end with the test."""
    threads = []

    def start(number=1):
        found = [Dispatcher() for _ in range(number)]
        threads.extend(found)
        for thread in found:
            thread.start()
        return found[0]

    yield start
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join(20)


@pytest.fixture
def claim():
    """Fans out everything and claims what is due, as a process that has nothing in flight."""

    def claim(free=100, busy=None, careful_busy=0):
        while fanout.fan_out():
            pass
        return sending.claim(free, busy or {}, careful_busy)

    return claim
