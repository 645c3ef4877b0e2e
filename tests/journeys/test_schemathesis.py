"""Schemathesis finds nothing undocumented and no 5xx. `make fuzz` looks longer, and elsewhere each time."""

import os

import pytest
from phonenumbers import SUPPORTED_REGIONS

from messaging.clients import issue_key
from tests.conftest import free_ports
from tests.factories import ChallengeFactory, ClientFactory, MessageFactory, ProviderFactory
from tests.fleet import Fleet
from tests.journeys.fuzzing import fuzz
from verification.fraud_models import CountryRule, Mode
from verification.openapi.examples import REFERENCE

CALLS = int(os.environ.get("SCHEMATHESIS_CALLS", "300"))
SEED = int(os.environ.get("SCHEMATHESIS_SEED", "20261122"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(max(120, CALLS / 10))
def test_every_answer_is_documented(tmp_path, settings):
    ProviderFactory(slug="carrier-a", price="0.04")
    client = ClientFactory()
    MessageFactory(id="01a20410-8529-7221-9a27-27e3aec8a03c", client=client)
    ChallengeFactory(reference=REFERENCE, client=client)
    CountryRule.objects.bulk_create(CountryRule(country=country, mode=Mode.ALLOW) for country in SUPPORTED_REGIONS)
    port = free_ports(1)

    # Otherwise a handful of starts would be answered, and all others with 429 or 403.
    names = [f"VERIFY_{name.upper()}" for name in (*settings.VERIFY_LIMITS, *settings.VERIFY_RULES)]
    limits = dict.fromkeys(names, 100_000)
    with Fleet(tmp_path, **limits) as fleet:
        fleet.web(port)
        report = fuzz(f"http://127.0.0.1:{port}", issue_key(client), calls=CALLS, seed=SEED)

    print(f"seed {SEED}\n{report}")
    assert report.faults == [], str(report)
    assert report.calls.total() >= CALLS
    assert not any(status == 0 or status >= 500 for _, status in report.calls)
