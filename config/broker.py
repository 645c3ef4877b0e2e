"""The Dramatiq broker that BROKER_URL names, and the middleware that ties a worker to its lanes.

Messages on it are hints ("this lane has work"): the database is the truth, so a lost hint costs one poll at most, and
sending one may fail but must not wait long.
"""

import importlib.util
import os
import signal
import threading
from types import FrameType
from urllib.parse import parse_qsl, urlencode, urlsplit

import dramatiq
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import q_name

from messaging import lifecycle
from messaging.states import MessageClass

# Seconds. Without them a broker that hangs would hold the sending thread for minutes.
RABBITMQ_PARAMETERS = {"heartbeat": "30", "blocked_connection_timeout": "5", "socket_timeout": "5"}


def broker_for_settings(middleware: list[dramatiq.Middleware]) -> dramatiq.Broker:
    """Build the broker for `settings.BROKER_URL`; django-dramatiq calls it once per process."""
    url = settings.BROKER_URL
    scheme = urlsplit(url).scheme
    if scheme in ("amqp", "amqps"):
        url = with_parameters(url, RABBITMQ_PARAMETERS)
        return RabbitmqBroker(url=url, confirm_delivery=True, middleware=middleware)
    if scheme == "postgresql":
        if importlib.util.find_spec("dramatiq_postgres") is None:
            raise ImproperlyConfigured(
                "BROKER_URL is postgresql://, which needs the package dramatiq-postgres (dependency group `embedded`)."
            )
        from config.local.broker import HintBroker

        return HintBroker(url, middleware)
    if scheme == "stub":
        return StubBroker(middleware=middleware)
    raise ImproperlyConfigured(f"BROKER_URL must be amqp://, amqps://, postgresql:// or stub://, not {scheme!r}.")


def with_parameters(url: str, defaults: dict[str, str]) -> str:
    """Add the query parameters that the address does not set itself."""
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**defaults, **dict(parse_qsl(parts.query))})).geturl()


class LaneMiddleware(dramatiq.Middleware):
    """Starts a worker's lanes when it is up and has their calls in flight settled before it goes down."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        from messaging import tasks  # actors register on the broker, so it must exist before they are imported

        lanes = {q_name(queue) for queue in worker.consumers}
        if lanes == {MessageClass.BULK}:
            lifecycle.give_way(leader=os.getppid())  # dramatiq's own, which has started this worker
        lifecycle.started(lanes=sorted(lanes))
        tasks.start(lanes)
        heed_first_sigterm_only()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        from messaging import tasks

        tasks.stop()
        lifecycle.stopped()


def heed_first_sigterm_only() -> None:
    """Dramatiq drops its calls in flight at a second SIGTERM.

    A supervisor that signals the whole process group sends one, since the leader passes its own on.
    """
    heeded = signal.getsignal(signal.SIGTERM)
    if not callable(heeded) or threading.current_thread() is not threading.main_thread():
        return  # not in a process of its own

    def handler(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        heeded(number, frame)

    signal.signal(signal.SIGTERM, handler)
