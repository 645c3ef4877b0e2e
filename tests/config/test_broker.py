"""The broker by URL: its parameters, and hints on a real worker over PostgreSQL and RabbitMQ."""

import secrets
import threading
import time
from collections.abc import Iterator

import dramatiq
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import BrokerConnectionError
from pytest_django import Settings

from config.broker import broker_for_settings, with_parameters
from config.local import postgres
from config.local.broker import HintBroker, create_schema
from tests.fleet import rabbitmq_url


def postgres_url() -> str:
    return "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format_map(connection.settings_dict)


@pytest.fixture(params=["postgresql", pytest.param("amqp", marks=pytest.mark.broker)])
def broker(request: pytest.FixtureRequest, settings: Settings) -> Iterator[dramatiq.Broker]:
    if request.param == "postgresql":
        request.getfixturevalue("transactional_db")
        settings.BROKER_URL = postgres_url()
        create_schema(settings.BROKER_URL)
    else:
        settings.BROKER_URL = rabbitmq_url()
    broker = broker_for_settings(middleware=[dramatiq.middleware.Retries()])
    yield broker
    broker.close()


def test_hint_wakes_a_worker_at_once(broker: dramatiq.Broker) -> None:
    woken = threading.Event()
    queue = f"lane-{secrets.token_hex(4)}"
    actor = dramatiq.actor(woken.set, broker=broker, queue_name=queue, actor_name="wake")
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()

    actor.send()

    assert woken.wait(5)
    worker.stop()


def test_failing_hint_is_not_repeated(broker: dramatiq.Broker) -> None:
    calls: list[float] = []
    done = threading.Event()
    queue = f"lane-{secrets.token_hex(4)}"

    def fail() -> None:
        calls.append(time.monotonic())
        raise ValueError("on purpose")

    failing = dramatiq.actor(fail, broker=broker, queue_name=queue, max_retries=0)
    following = dramatiq.actor(done.set, broker=broker, queue_name=queue, actor_name="following")
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()

    failing.send()
    following.send()

    assert done.wait(5)
    worker.stop()
    assert len(calls) == 1


@pytest.mark.parametrize("scheme", ["postgresql", "amqp"])
def test_send_fails_within_half_a_second_when_the_broker_is_away(scheme: str, settings: Settings) -> None:
    settings.BROKER_URL = f"{scheme}://user:password@127.0.0.1:{postgres.free_port()}/name"
    broker = broker_for_settings(middleware=[])
    actor = dramatiq.actor(time.time, broker=broker, actor_name="wake")
    before = time.monotonic()

    with pytest.raises(BrokerConnectionError):
        actor.send()

    assert time.monotonic() - before < 0.6
    broker.close()


def test_all_lanes_and_threads_find_a_connection(transactional_db: None) -> None:
    url = postgres_url()
    create_schema(url)
    broker = HintBroker(url, middleware=[])
    woken = threading.Semaphore(0)
    prefix = secrets.token_hex(4)
    actors = [
        dramatiq.actor(woken.release, broker=broker, queue_name=f"lane-{prefix}-{n}", actor_name=f"wake-{n}")
        for n in range(9)
    ]
    worker = dramatiq.Worker(broker, worker_threads=4, worker_timeout=100)
    worker.start()
    time.sleep(0.5)  # until every consumer holds its connection

    for actor in actors:
        actor.send()

    assert all(woken.acquire(timeout=5) for _ in actors)
    worker.stop()
    broker.close()


def test_schema_can_be_created_twice(transactional_db: None) -> None:
    create_schema(postgres_url())
    create_schema(postgres_url())

    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('dramatiq.queue')")
        assert cursor.fetchone() != (None,)


def test_rabbitmq_gets_confirms_and_short_timeouts(settings: Settings) -> None:
    settings.BROKER_URL = "amqps://user:password@rabbit.example/vhost?heartbeat=10"

    broker = broker_for_settings(middleware=[])

    assert isinstance(broker, RabbitmqBroker)
    assert broker.confirm_delivery is True
    assert broker.parameters.heartbeat == 10
    assert broker.parameters.blocked_connection_timeout == 5
    assert broker.parameters.socket_timeout == 5
    assert broker.parameters.virtual_host == "vhost"


def test_stub_broker_serves_tests(settings: Settings) -> None:
    settings.BROKER_URL = "stub://"

    assert isinstance(broker_for_settings(middleware=[]), StubBroker)


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "127.0.0.1:5672", "rabbit"])
def test_unknown_scheme_is_refused_without_showing_the_address(url: str, settings: Settings) -> None:
    settings.BROKER_URL = url

    with pytest.raises(ImproperlyConfigured, match="BROKER_URL must be amqp://") as caught:
        broker_for_settings(middleware=[])

    assert "5672" not in str(caught.value)


def test_parameters_of_the_address_win() -> None:
    url = with_parameters("amqp://host/vhost?heartbeat=1", {"heartbeat": "30", "socket_timeout": "5"})

    assert url == "amqp://host/vhost?heartbeat=1&socket_timeout=5"
