"""The cheapest carrier fails: the next one takes over, the breaker spares the broken one, and one probe heals it."""

from collections.abc import Callable, Iterator

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from messaging.drain import Drain
from messaging.models import Attempt, Client, Event, Message
from messaging.states import MessageClass, Status
from providers.models import Provider, ProviderHealth
from tests.conftest import Carriers
from tests.factories import MessageFactory, ProviderFactory
from tests.fleet import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

REFUSE = {"fault": "refuse"}


@pytest.fixture
def start_drains(settings: Settings) -> Iterator[Callable[[int], None]]:
    """Each drain is a thread with a database connection of its own, as in a process of its own."""
    settings.POLL = 0.1
    settings.BREAKER_SECONDS = 1.0
    settings.PUBLIC_URL = "http://127.0.0.1:9"  # receipts find nobody
    threads: list[Drain] = []

    def start(count: int) -> None:
        for _ in range(count):
            threads.append(Drain(MessageClass.TRANSACTIONAL))
            threads[-1].start()

    yield start
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join(20)


@pytest.fixture
def cheap(transactional_db: None, carriers: Carriers) -> Provider:
    return ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.04")


@pytest.fixture
def dear(transactional_db: None, carriers: Carriers) -> Provider:
    return ProviderFactory(slug="carrier-b", base_url=carriers.url(2), token="carrier-b-token", price="0.05")


def send(api: APIClient, number: int) -> dict:
    """Posts one message and returns it with its attempts once it is sent."""
    answer = api.post("/api/v1/messages", {"to": f"+38067123{number:04}", "text": "Hello"}, format="json")
    assert answer.status_code == 202, answer.content
    url = f"/api/v1/messages/{answer.json()['id']}"
    wait_for(lambda: api.get(url).json()["status"] == Status.SENT)
    return api.get(url).json()


def went(body: dict) -> list[tuple[str, str, str]]:
    return [(a["provider"], a["status"], a.get("error_code", "")) for a in body["attempts"]]


def state_of(provider: Provider) -> str:
    return ProviderHealth.objects.get(provider=provider, country="").state


def test_next_message_goes_by_the_second_carrier(
    api: APIClient, carriers: Carriers, cheap: Provider, dear: Provider, start_drains: Callable[[int], None]
) -> None:
    carriers.faults("carrier-a", REFUSE)
    start_drains(1)

    body = send(api, 1)

    assert went(body) == [("carrier-a", "not_sent", "connection_refused"), ("carrier-b", "accepted", "")]
    assert [entry["carrier"] for entry in carriers.entries("accepted")] == ["carrier-b"]


def test_after_five_failures_the_broken_carrier_is_left_alone(
    api: APIClient,
    carriers: Carriers,
    cheap: Provider,
    dear: Provider,
    start_drains: Callable[[int], None],
    settings: Settings,
) -> None:
    settings.BREAKER_SECONDS = 60.0
    carriers.faults("carrier-a", REFUSE)
    start_drains(1)
    failing = [went(send(api, number)) for number in range(5)]

    sparing = [went(send(api, number)) for number in range(5, 10)]

    assert all(len(attempts) == 2 for attempts in failing)
    assert sparing == [[("carrier-b", "accepted", "")]] * 5
    assert state_of(cheap) == ProviderHealth.State.OPEN
    assert Attempt.objects.filter(provider=cheap).count() == 5
    assert Event.objects.filter(type="provider.down", subject="carrier-a").count() == 1


def test_one_probe_of_the_whole_fleet_heals_it(
    api: APIClient,
    client_row: Client,
    carriers: Carriers,
    cheap: Provider,
    dear: Provider,
    start_drains: Callable[[int], None],
) -> None:
    carriers.faults("carrier-a", REFUSE)
    start_drains(4)
    for number in range(5):
        send(api, number)
    assert state_of(cheap) == ProviderHealth.State.OPEN
    carriers.faults("carrier-a", {"fault": "latency", "seconds": 1.0})

    wait_for(lambda: stream_until_probed(client_row, cheap))
    while state_of(cheap) != ProviderHealth.State.CLOSED:
        MessageFactory.create_batch(5, client=client_row)
    wait_for(lambda: not Message.objects.exclude(status=Status.SENT).exists())

    probe, *others = Attempt.objects.filter(provider=cheap, status="accepted").order_by("id")
    assert {"probe"} == {entry["chosen"] for entry in probe.message.decision if "chosen" in entry}
    assert all(attempt.started_at > probe.finished_at for attempt in others)
    by_second = Attempt.objects.filter(provider=dear, started_at__gt=probe.started_at, started_at__lt=probe.finished_at)
    assert by_second.count() > 20
    assert went(send(api, 99)) == [("carrier-a", "accepted", "")]
    assert Event.objects.filter(type="provider.up", subject="carrier-a").count() == 1


def stream_until_probed(client: Client, provider: Provider) -> bool:
    """Keeps all drains busy; true once somebody tries the provider again."""
    MessageFactory.create_batch(20, client=client)
    return Attempt.objects.filter(provider=provider, status__in=["intent", "accepted"]).exists()


def test_failed_probe_opens_the_breaker_again_for_longer(
    api: APIClient, carriers: Carriers, cheap: Provider, dear: Provider, start_drains: Callable[[int], None]
) -> None:
    carriers.faults("carrier-a", REFUSE)
    start_drains(4)
    for number in range(5):
        send(api, number)
    first_pause = pause_of(cheap)

    for number in range(5, 1000):
        if len(send(api, number)["attempts"]) == 2:
            break

    assert Attempt.objects.filter(provider=cheap).count() == 6
    assert state_of(cheap) == ProviderHealth.State.OPEN
    assert pause_of(cheap) > first_pause


def pause_of(provider: Provider) -> float:
    row = ProviderHealth.objects.get(provider=provider, country="")
    assert row.probe_at is not None
    assert row.opened_at is not None
    return (row.probe_at - row.opened_at).total_seconds()
