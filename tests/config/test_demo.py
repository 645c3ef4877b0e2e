"""What `make up` provisions at a start, and what it leaves alone."""

from datetime import timedelta
from decimal import Decimal

import pytest

from config.local.demo import provision_missing
from messaging.clients import new_token
from messaging.models import ApiKey, Client
from providers.models import Provider
from routing import books
from routing.models import Price, PriceList
from tests.messaging.stages import now

pytestmark = pytest.mark.django_db


@pytest.fixture
def environ() -> dict[str, str]:
    places = {f"CARRIER_{letter}_URL": f"http://127.0.0.1:1800{n}" for n, letter in enumerate("ABC", start=1)}
    return {"DEMO_API_KEY": new_token(), **places, **{f"CARRIER_{letter}_TOKEN": "t" for letter in "ABC"}}


def test_fresh_database_gets_the_whole_demo_and_the_next_start_changes_nothing(environ: dict[str, str]) -> None:
    provision_missing(environ)

    again = provision_missing(environ)

    assert again == []
    assert Client.objects.get().api_keys.count() == 1
    assert {book.provider.slug for book in PriceList.objects.all()} == {"carrier-a", "carrier-b", "carrier-c"}


def test_prices_and_settings_that_staff_changed_stay_at_the_next_start(environ: dict[str, str]) -> None:
    provision_missing(environ)
    Provider.objects.filter(slug="carrier-a").update(enabled=False, rate=7, name="Mine")
    Client.objects.update(scopes=["send"], sender="Other")
    carrier = Provider.objects.get(slug="carrier-a")
    status = PriceList.Status.ACTIVE
    book = PriceList.objects.create(provider=carrier, name="imported", status=status, valid_from=now())
    Price.objects.create(price_list=book, country="UA", price=Decimal("0.02"), currency="EUR")

    provision_missing(environ)

    carrier.refresh_from_db()
    assert (carrier.enabled, carrier.rate, carrier.name) == (False, 7, "Mine")
    assert (Client.objects.get().scopes, Client.objects.get().sender) == (["send"], "Other")
    assert books.in_force(carrier.pk, now() + timedelta(seconds=1)) == book.pk


def test_key_that_staff_revoked_stays_revoked(environ: dict[str, str]) -> None:
    provision_missing(environ)
    ApiKey.objects.update(revoked_at=now())
    Client.objects.update(slug="renamed")

    assert provision_missing(environ) == []

    assert ApiKey.objects.get().revoked_at
    assert Client.objects.get().slug == "renamed"


def test_carrier_that_is_gone_comes_back_and_ports_and_keys_follow_the_start(environ: dict[str, str]) -> None:
    provision_missing(environ)
    PriceList.objects.filter(provider__slug="carrier-c").delete()
    Provider.objects.filter(slug="carrier-c").delete()

    provision_missing({**environ, "CARRIER_A_URL": "http://127.0.0.1:19001", "DEMO_API_KEY": new_token()})

    assert Provider.objects.get(slug="carrier-a").base_url == "http://127.0.0.1:19001"
    assert Provider.objects.get(slug="carrier-c").rate == 1000
    assert Client.objects.get().api_keys.count() == 2
