"""The fleet's rate of a provider, and what a 429 does to it."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.db.utils import DatabaseError

from providers import throughput
from providers.models import ProviderThroughput
from tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    return ProviderFactory(rate=100)


def test_one_burst_of_refusals_halves_the_rate_once(provider):
    for _ in range(5):
        throughput.lower(provider.pk, 1.0)

    assert ProviderThroughput.objects.get().slowdown == 1


def test_refusal_after_the_pause_halves_it_again(provider):
    throughput.lower(provider.pk, 1.0)
    ProviderThroughput.objects.update(paused_until=datetime.now(UTC) - timedelta(seconds=1))

    throughput.lower(provider.pk, 1.0)

    assert ProviderThroughput.objects.get().slowdown == 2


def test_rate_recovers_by_doubling(provider):
    ended = datetime.now(UTC) - timedelta(seconds=throughput.RECOVERY + 1)
    ProviderThroughput.objects.create(provider=provider, paused_until=ended, slowdown=3)

    tokens = throughput.reserve({provider.pk: 100})

    # 100 a second, halved three times and doubled once: 25, of which a tenth of a second's worth leaves at once.
    taken = sum(tokens.take(provider.pk, "bulk") == 0 for _ in range(20))
    assert taken == 3


def test_longest_pause_counts(provider):
    throughput.lower(provider.pk, 20.0)
    throughput.lower(provider.pk, 1.0)

    left = ProviderThroughput.objects.get().paused_until - datetime.now(UTC)
    assert left > timedelta(seconds=15)


@pytest.mark.django_db(transaction=True)
def test_frozen_process_does_not_hold_the_fleet_up(provider, settings):
    settings.GATE = 0.5
    ProviderThroughput.objects.create(provider=provider)
    holds, thaw, errors = threading.Event(), threading.Event(), []

    def freeze():
        try:
            with transaction.atomic():
                throughput.reserve({provider.pk: 100})
                holds.set()
                thaw.wait(20)
        except DatabaseError as error:
            errors.append(error)
        connection.close()

    frozen = threading.Thread(target=freeze)
    frozen.start()
    holds.wait(5)
    began = time.monotonic()
    with transaction.atomic():
        throughput.reserve({provider.pk: 100})
    waited = time.monotonic() - began
    thaw.set()
    frozen.join()

    assert waited < 3
    assert len(errors) == 1
