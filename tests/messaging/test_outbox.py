"""Events of providers: in order, and no sequence twice."""

import threading

import pytest
from django.db import connection

from messaging import outbox
from messaging.models import Event
from providers.health import Transition
from providers.models import ProviderHealth
from tests.factories import ProviderFactory

State = ProviderHealth.State
pytestmark = pytest.mark.django_db(transaction=True)


def sequences():
    return sorted(Event.objects.filter(subject="carrier").values_list("sequence", flat=True))


def test_two_breakers_of_one_provider_in_one_group_have_their_own_sequences():
    provider = ProviderFactory(slug="carrier")
    moves = [Transition(provider.pk, country, State.OPEN, "read_timeout") for country in ("UA", "PL")]

    outbox.tell_health(moves)
    outbox.tell_health([Transition(provider.pk, "UA", State.CLOSED, "")])

    assert sequences() == [1, 2, 3]
    assert Event.objects.get(sequence=3).type == "provider.up"


def test_parallel_workers_never_take_the_same_sequence():
    provider = ProviderFactory(slug="carrier")

    def work():
        for _ in range(10):
            outbox.tell_health([Transition(provider.pk, "UA", State.OPEN, "read_timeout")])
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sequences() == list(range(1, 41))
