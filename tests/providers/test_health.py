"""The breaker: when it opens, who may try again, what closes it."""

import threading
from datetime import timedelta

import pytest
from django.db import connection

from providers import health
from providers.health import Fact
from providers.models import ProviderHealth
from providers.sql import rows
from tests.factories import ProviderFactory
from tests.messaging.stages import now

pytestmark = pytest.mark.django_db

State = ProviderHealth.State


@pytest.fixture
def provider(db, settings):
    settings.BREAKER_FAILURES, settings.BREAKER_SECONDS = 5, 30
    return ProviderFactory()


def failure(provider, country="UA", at=None, **fields):
    return Fact(provider.pk, country, True, at or now(), code="read_timeout", **fields)


def success(provider, country="UA", at=None):
    return Fact(provider.pk, country, False, at or now())


def state(provider, country="UA"):
    return ProviderHealth.objects.get(provider=provider, country=country).state


def pause_is_over(provider):
    ProviderHealth.objects.filter(provider=provider).update(probe_at=now() - timedelta(seconds=1))


def test_success_where_all_is_well_writes_nothing(provider):
    health.record([success(provider)] * 50)

    assert not ProviderHealth.objects.exists()


def test_five_failures_in_a_row_open_the_breaker_of_that_country(provider):
    for _ in range(4):
        assert health.record([failure(provider)]) == []

    (transition,) = health.record([failure(provider)])

    assert (transition.state, transition.country, transition.reason) == (State.OPEN, "UA", "read_timeout")
    assert health.board().blocked(provider.pk, "UA") == "read_timeout"
    assert health.board().blocked(provider.pk, "PL") == ""


def test_connection_faults_close_the_provider_for_all_countries(provider):
    health.record([failure(provider, wide=True)] * 5)

    assert health.board().blocked(provider.pk, "PL") == "read_timeout"


def test_account_fault_opens_at_once(provider):
    health.record([failure(provider, wide=True, account=True)])

    assert state(provider, "") == State.OPEN


def test_success_in_between_starts_the_count_anew(provider):
    health.record([failure(provider)] * 4)
    health.record([success(provider)])
    health.record([failure(provider)] * 4)

    assert state(provider) == State.CLOSED


def test_half_of_twenty_within_the_window_opens(provider):
    health.record([failure(provider)])
    for _ in range(9):
        health.record([success(provider), failure(provider)])
    assert state(provider) == State.CLOSED

    health.record([success(provider), failure(provider)])

    assert state(provider) == State.OPEN


def test_failures_of_an_old_window_do_not_count(provider):
    health.record([success(provider), failure(provider)] * 9)
    ProviderHealth.objects.update(window_start=now() - timedelta(seconds=31))

    health.record([success(provider), failure(provider)])

    assert state(provider) == State.CLOSED


def test_pause_doubles_with_every_failed_probe(provider):
    pauses = []
    for _ in range(3):
        health.record([failure(provider)] * 5)
        row = ProviderHealth.objects.get(country="UA")
        pauses.append((row.probe_at - row.opened_at).total_seconds())
        pause_is_over(provider)
        assert health.win_probe(provider.pk, "UA")

    assert 24 <= pauses[0] <= 36
    assert 48 <= pauses[1] <= 72
    assert 96 <= pauses[2] <= 144


def test_nobody_probes_before_the_pause_is_over(provider):
    health.record([failure(provider)] * 5)

    assert not health.win_probe(provider.pk, "UA")
    assert not health.board(fresh=True).may_probe(provider.pk, "UA")


def test_good_probe_closes(provider):
    health.record([failure(provider)] * 5)
    pause_is_over(provider)
    assert health.board(fresh=True).may_probe(provider.pk, "UA")
    assert health.win_probe(provider.pk, "UA")

    (transition,) = health.record([success(provider)])

    assert transition.state == State.CLOSED
    assert health.board().blocked(provider.pk, "UA") == ""


def test_straggler_from_before_the_opening_says_nothing(provider):
    before = now() - timedelta(seconds=5)
    health.record([failure(provider)] * 5)

    assert health.record([success(provider, at=before)]) == []
    assert state(provider) == State.OPEN


def test_probe_that_never_reports_is_replaced(provider):
    health.record([failure(provider)] * 5)
    pause_is_over(provider)
    assert health.win_probe(provider.pk, "UA")
    assert not health.win_probe(provider.pk, "UA")

    pause_is_over(provider)

    assert health.win_probe(provider.pk, "UA")


def test_probe_that_proves_nothing_is_given_back(provider):
    health.record([failure(provider)] * 5)
    pause_is_over(provider)
    assert health.win_probe(provider.pk, "UA")

    health.give_back(provider.pk, "UA", wait=60)
    waiting = health.win_probe(provider.pk, "UA")
    health.give_back(provider.pk, "UA")

    assert not waiting
    assert health.board(fresh=True).may_probe(provider.pk, "UA")
    assert health.win_probe(provider.pk, "UA")


def test_probe_that_is_asked_to_wait_for_days_is_replaced_all_the_same(provider):
    health.record([failure(provider)] * 5)
    pause_is_over(provider)
    assert health.win_probe(provider.pk, "UA")

    health.give_back(provider.pk, "UA", wait=1e30)

    assert ProviderHealth.objects.get().probe_at < now() + timedelta(seconds=health.PROBE_TIMEOUT + 5)


def test_only_a_probe_is_given_back(provider):
    health.record([failure(provider)] * 5)

    health.give_back(provider.pk, "UA")

    assert not health.win_probe(provider.pk, "UA")


def test_stricter_of_two_breakers_decides_on_the_probe(provider):
    health.record([failure(provider)] * 5 + [failure(provider, wide=True)] * 5)
    ProviderHealth.objects.filter(country="UA").update(probe_at=now() - timedelta(seconds=1))

    assert not health.win_probe(provider.pk, "UA")


def test_panic_is_won_once_a_second(provider):
    health.record([failure(provider)] * 5)

    assert health.win_panic(provider.pk, "UA")
    assert not health.win_panic(provider.pk, "UA")


def test_staff_can_close_it(provider):
    health.record([failure(provider)] * 5)

    health.close(provider.pk)

    assert state(provider) == State.CLOSED
    assert health.board(fresh=True).blocked(provider.pk, "UA") == ""


@pytest.mark.django_db(transaction=True)
def test_one_probe_in_the_whole_fleet():
    provider = ProviderFactory()
    health.record([failure(provider)] * 5)
    pause_is_over(provider)
    won = []
    start = threading.Barrier(10)

    def worker():
        start.wait()
        won.append(health.win_probe(provider.pk, "UA"))
        connection.close()

    threads = [threading.Thread(target=worker) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(won) == 1


@pytest.mark.django_db(transaction=True)
def test_parallel_failures_are_all_counted():
    provider = ProviderFactory()

    def worker():
        for _ in range(5):
            health.record([failure(provider, country="PL")])
        connection.close()

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert rows("SELECT window_failed FROM providers_providerhealth") == [(20,)]
