"""`messaging.contact.trust` from the topic: who may, what it changes, and that it is carried out once."""

import itertools
import json
from datetime import UTC, datetime

import pytest

from messaging import bridge
from messaging.kafka import Incoming
from messaging.models import DeadLetter
from tests.factories import ClientFactory
from tests.kafka import command
from verification.models import TrustedNumber

pytestmark = pytest.mark.django_db

NUMBER = "+380501234567"
TRUST = "messaging.contact.trust"
offsets = itertools.count()


@pytest.fixture
def source(db):
    return ClientFactory(slug="core-backend", kafka_enabled=True, scopes=["otp"])


def take(*commands):
    now = datetime.now(UTC)
    bridge.take([Incoming("c", 0, next(offsets), None, json.dumps(one).encode(), (), now) for one in commands])


def trust(source, **data):
    return command(source, {"to": NUMBER, **data}, type=TRUST)


def buried():
    return [(letter.reason, letter.detail) for letter in DeadLetter.objects.order_by("id")]


def test_a_number_is_trusted_for_its_client_alone(source):
    take(trust(source, to="+380 50 123-45-67", reason="verified in person"))

    row = TrustedNumber.objects.get()
    assert (row.msisdn, row.client, row.reason, row.expires_at) == (NUMBER, source, "verified in person", None)
    assert buried() == []


def test_the_last_word_counts(source):
    take(trust(source), trust(source, expires_at="2030-01-01T00:00:00Z"))
    row = TrustedNumber.objects.get()
    until = row.expires_at
    take(trust(source, trusted=False))

    assert until == datetime(2030, 1, 1, tzinfo=UTC)
    assert not TrustedNumber.objects.exists()
    assert buried() == []


def test_a_repeat_does_not_bring_it_back(source):
    first = trust(source)

    take(first, trust(source, trusted=False), first)

    assert not TrustedNumber.objects.exists()
    assert buried() == []


def test_what_others_trust_is_not_withdrawn(source):
    other = ClientFactory()
    TrustedNumber.objects.create(msisdn=NUMBER, client=other, reason="a")
    TrustedNumber.objects.create(msisdn=NUMBER, client=None, reason="b")

    take(trust(source, trusted=False))

    assert TrustedNumber.objects.count() == 2


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        ({"to": "0501234567"}, "validation_failed", "to: not_e164"),
        ({"expires_at": "2030-13-01T00:00:00Z"}, "invalid_command", "data.expires_at"),
        ({"trusted": "no"}, "invalid_command", "data.trusted"),
        ({"reason": "a\x00"}, "invalid_command", "data.reason"),
        ({"hidden": 1}, "invalid_command", "data: additionalProperties"),
    ],
)
def test_what_is_wrong_is_buried_with_its_field_and_without_its_value(source, data, reason, detail):
    take(trust(source, **data), trust(source, to="+48512345678"))

    ((found, told),) = buried()
    assert found == reason
    assert told.startswith(detail)
    assert "0501234567" not in told
    assert TrustedNumber.objects.count() == 1


def test_it_needs_the_scope_otp(source):
    sender = ClientFactory(slug="sender", kafka_enabled=True, scopes=["send"])

    take(trust(sender), trust(source))

    assert [reason for reason, _ in buried()] == ["missing_scope"]
    assert TrustedNumber.objects.get().client == source
