"""What providers have brought, added up by the hour and by where it went."""

import random
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from routing import quality
from routing.models import Quality
from routing.quality import Sample
from tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db
AT = datetime(2026, 5, 4, 13, 59, 59, tzinfo=UTC)


def sample(provider, *, at=AT, country="UA", delivered=False, converted=False, **network):
    return Sample(at, "otp", provider.pk, country, delivered, converted, **network)


def counts(**where):
    return Quality.objects.values_list("attempts", "delivered", "converted", "unattributed").get(**where)


def test_samples_are_added_to_what_is_there():
    provider = ProviderFactory()
    found = [(True, True), (True, None), (False, False), (True, False)]

    for delivered, converted in found:
        quality.record([sample(provider, delivered=delivered, converted=converted)])
    quality.record(sample(provider, delivered=delivered, converted=converted) for delivered, converted in found)

    assert counts(hour=AT.replace(minute=0, second=0)) == (8, 6, 2, 2)


def test_hours_countries_and_networks_are_apart():
    provider = ProviderFactory()

    quality.record(
        [
            sample(provider),
            sample(provider, at=AT + timedelta(seconds=1)),
            sample(provider, country="PL"),
            sample(provider, mcc="255", mnc="01"),
            sample(provider, mcc="255", mnc="03"),
        ]
    )

    assert Quality.objects.count() == 5
    assert counts(mnc="03") == (1, 0, 0, 0)


def test_nothing_to_record_writes_nothing():
    quality.record([])

    assert not Quality.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_parallel_records_in_any_order_neither_deadlock_nor_lose():
    keys = [(ProviderFactory(), country) for country in ("UA", "PL", "GB", "DE") for _ in range(5)]
    threads, rounds, errors = 6, 25, []
    ready = threading.Barrier(threads)

    def work():
        try:
            ready.wait()
            for _ in range(rounds):
                mixed = random.sample(keys, len(keys))
                with transaction.atomic():
                    quality.record(sample(provider, country=country, converted=True) for provider, country in mixed)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    found = [threading.Thread(target=work) for _ in range(threads)]
    for thread in found:
        thread.start()
    for thread in found:
        thread.join()

    assert errors == []
    assert set(Quality.objects.values_list("converted", flat=True)) == {threads * rounds}
