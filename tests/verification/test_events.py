"""What is told of a verification: one event when it is closed, by its schema, with neither code nor number."""

import json

import pytest

from messaging import schema
from messaging.models import Event
from tests.factories import ProviderFactory
from tests.messaging.test_schema import name_of, told
from tests.verification.phone import NUMBER, PAYMENT, URL, check, code_of, start, wrong_for
from verification import maintenance
from verification.models import Challenge
from verification.records import close
from verification.states import ChallengeStatus

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def provider(db):
    return ProviderFactory(slug="carrier-a", price="0.04")


def of_verifications():
    return [event for event in told() if event["type"].startswith("verification.")]


def expire(reference):
    row = Challenge.objects.get(reference=reference)
    Challenge.objects.filter(pk=row.pk).update(expires_at=row.created_at)
    maintenance.expire()


def lock(api, reference):
    for _ in range(5):
        check(api, reference, wrong_for(reference))


def test_every_event_keeps_to_the_schema_that_it_names(api, settings):
    settings.VERIFY_LIMITS = dict.fromkeys(settings.VERIFY_LIMITS, 1000)
    verified = start(api, purpose="payment", context=PAYMENT)
    check(api, verified, code_of(verified), purpose="payment", context=PAYMENT)
    lock(api, start(api))
    expire(start(api))
    api.post(f"{URL}/{start(api)}/cancel")
    start(api)
    start(api)  # closes the one before
    close("purpose = %(purpose)s", {"purpose": "login"}, ChallengeStatus.LOCKED, "too_many_failures")

    events = of_verifications()

    assert [(event["type"], found) for event in events if (found := schema.problem(name_of(event), event))] == []
    assert [(event["type"].split(".")[1], event["data"].get("reason")) for event in events] == [
        ("verified", None),
        ("locked", None),
        ("expired", None),
        ("cancelled", "client"),
        ("cancelled", "newer_start"),
        ("locked", "too_many_failures"),
    ]
    assert {entry["type"] for entry in schema.catalogue() if entry["schema"].startswith("verification.")} == {
        f"verification.{status}" for status in ChallengeStatus if status != "pending"
    }


def test_an_event_is_told_once_however_often_it_is_asked_for(api):
    reference = start(api)
    code = code_of(reference)

    for _ in range(3):
        check(api, reference, code)
        api.post(f"{URL}/{reference}/cancel")
        maintenance.expire()

    (event,) = of_verifications()
    assert (event["subject"], event["sequence"], event["data"]["checks"]) == (reference, 1, 0)


def test_an_event_has_neither_the_code_nor_the_number(api):
    reference = start(api, purpose="payment", context=PAYMENT)
    code = code_of(reference)
    check(api, reference, code, purpose="payment", context=PAYMENT)

    written = json.dumps(list(Event.objects.values_list("type", "subject", "data")))

    assert of_verifications()[0]["data"]["to_masked"] == "+380******567"
    assert not [secret for secret in (code, NUMBER, NUMBER[1:], PAYMENT["payee"]) if secret in written]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"type": "verification.started"}, "type: "),
        ({"sequence": 2}, "sequence: "),
        ({"subject": NUMBER}, "subject: "),
        ({"code": "123456"}, "command: additionalProperties"),
        ({"data": {}}, "data: "),
    ],
)
def test_what_is_no_event_is_found(api, change, place):
    api.post(f"{URL}/{start(api)}/cancel")
    (event,) = of_verifications()

    assert schema.problem(name_of(event), {**event, **change}).startswith(place)


def test_a_full_number_and_a_code_have_no_place_in_an_event(api):
    api.post(f"{URL}/{start(api)}/cancel")
    (event,) = of_verifications()

    for change in ({"to_masked": NUMBER}, {"code": "123456"}, {"context": PAYMENT}):
        assert schema.problem(name_of(event), {**event, "data": {**event["data"], **change}}).startswith("data")
