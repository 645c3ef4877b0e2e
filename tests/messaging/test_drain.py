"""The drain: slots, groups, wake-ups, shutdown and a database that goes away."""

import threading
import time

import pytest
from django.db import connection

from messaging import tasks
from messaging.drain import Drain
from messaging.models import Attempt, Message
from messaging.states import Status
from providers import throughput
from tests.factories import ClientFactory, MessageFactory, ProviderFactory
from tests.messaging.wire import ACCEPTED

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(settings):
    settings.POLL = 0.3


@pytest.fixture
def provider(wire):
    return ProviderFactory(price="0.04", base_url=wire.url)


@pytest.fixture
def drain():
    thread = Drain("transactional")
    yield thread
    thread.stop()
    if thread.ident:
        thread.join(20)


def wait_for(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def all_sent():
    return not Message.objects.exclude(status=Status.SENT).exists()


def test_backlog_is_sent_with_no_more_in_flight_than_slots(provider, wire, settings):
    settings.SLOTS = {"transactional": 8}
    running, most, lock = [0], [0], threading.Lock()

    def slow(*request):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1
        return ACCEPTED

    wire.answer = slow
    MessageFactory.create_batch(60, client=ClientFactory())
    drain = Drain("transactional")

    drain.start()
    wait_for(all_sent)
    drain.stop()
    drain.join(20)

    assert len(wire.requests) == 60
    assert 4 <= most[0] <= 8


def test_slow_answer_holds_nobody_back(provider, wire, drain):
    release = threading.Event()

    def answer(method, path, headers, body):
        if b"slow" in body:
            release.wait(10)
        return ACCEPTED

    wire.answer = answer
    client = ClientFactory()
    slow = MessageFactory(client=client, text="slow")
    MessageFactory.create_batch(20, client=client)

    drain.start()
    wait_for(lambda: Message.objects.filter(status=Status.SENT).count() == 20, seconds=5)

    assert Message.objects.get(pk=slow.pk).status == Status.SENDING
    release.set()
    wait_for(all_sent)


def test_wake_up_is_not_lost_and_needs_no_poll(provider, drain, settings):
    settings.POLL = 30
    drain.start()
    time.sleep(0.3)
    MessageFactory()

    drain.wake()

    wait_for(all_sent, seconds=3)


def test_without_any_hint_the_poll_finds_the_work(provider, drain):
    drain.start()
    time.sleep(0.1)
    MessageFactory()

    wait_for(all_sent, seconds=3)


def test_refused_by_one_provider_goes_to_the_next_at_once(provider, drain, settings):
    settings.POLL = 30
    ProviderFactory(price="0.01", slug="down")  # nobody listens there
    MessageFactory()

    drain.start()

    wait_for(all_sent, seconds=5)
    attempts = list(Attempt.objects.order_by("seq").values_list("provider__slug", "status", "error_code"))
    assert attempts == [("down", "not_sent", "connection_refused"), (provider.slug, "accepted", "")]


def test_stop_settles_what_is_in_flight_and_claims_no_more(provider, wire, drain):
    asked = threading.Event()

    def answer(*request):
        asked.set()
        time.sleep(0.5)
        return ACCEPTED

    wire.answer = answer
    MessageFactory()
    drain.start()
    assert asked.wait(5)

    drain.stop()
    MessageFactory(text="later")
    drain.join(10)

    assert not drain.is_alive()
    assert sorted(Message.objects.values_list("status", flat=True)) == [Status.QUEUED, Status.SENT]
    assert len(wire.requests) == 1


def test_drain_survives_its_database_connection(provider, drain):
    drain.start()
    time.sleep(0.2)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    MessageFactory()

    wait_for(all_sent, seconds=8)


def test_mistake_in_an_adapter_ends_neither_the_lane_nor_other_messages(provider, wire, drain, monkeypatch):
    from providers.adapters.simulator import Simulator

    build = Simulator.build_send

    def broken(self, submission):
        if submission.text == "trap":
            raise RuntimeError
        return build(self, submission)

    monkeypatch.setattr(Simulator, "build_send", broken)
    client = ClientFactory()
    MessageFactory(client=client, text="trap")
    MessageFactory.create_batch(3, client=client)

    drain.start()

    wait_for(lambda: Message.objects.filter(status=Status.SENT).count() == 3)
    wait_for(lambda: Message.objects.filter(status=Status.FAILED, error_code="no_route_left").count() == 1)


def test_hints_never_raise_and_never_wait(settings, monkeypatch):
    started = threading.Event()

    def away():
        started.set()
        time.sleep(2)
        raise ConnectionError

    monkeypatch.setattr(tasks.ACTORS["otp"], "send", away)

    hints = tasks.Hints()
    before = time.monotonic()
    for _ in range(1000):
        hints.add("otp")
    elapsed = time.monotonic() - before

    assert started.wait(2)
    assert elapsed < 1


def test_many_hints_become_few(monkeypatch):
    sent = []
    monkeypatch.setattr(tasks.ACTORS["bulk"], "send", lambda: sent.append(1))

    hints = tasks.Hints()
    for _ in range(500):
        hints.add("bulk")
        time.sleep(0.001)
    time.sleep(0.2)

    assert 1 <= len(sent) <= 25


def test_provider_gets_its_whole_rate_and_no_more_between_two_polls(provider, wire, drain, settings):
    settings.POLL = 30
    provider.rate = 40
    provider.save()
    MessageFactory.create_batch(60, client=ClientFactory())
    began = time.monotonic()

    drain.start()
    wait_for(all_sent, seconds=8)

    assert len(wire.requests) == 60
    assert time.monotonic() - began >= 60 / 40 - throughput.BURST - 0.1


@pytest.mark.parametrize("oddity", [{"price": "1e30"}, {"segments": -1}, {"segments": 2**70}], ids=str)
def test_answer_that_cannot_be_stored_is_ambiguous_and_costs_nobody_else(provider, wire, drain, oddity):
    status, body = ACCEPTED
    wire.answer = lambda *request: (status, {**body, **oddity} if b"odd" in request[3] else body)
    client = ClientFactory()
    odd = MessageFactory(client=client, text="odd")
    MessageFactory.create_batch(5, client=client)

    drain.start()
    wait_for(lambda: Message.objects.filter(status=Status.SENT).count() == 5, seconds=3)
    wait_for(lambda: Message.objects.get(pk=odd.pk).status == Status.UNKNOWN, seconds=3)

    assert Attempt.objects.get(message=odd).error_code == "unstorable_answer"
