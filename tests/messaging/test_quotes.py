from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from rest_framework.test import APIClient

from messaging.clients import issue_key
from providers import health
from routing.models import ExchangeRate
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.messaging.door import GOOD, URL, assert_problem, nothing_stored

pytestmark = pytest.mark.django_db
QUOTES = "/api/v1/quotes"


@pytest.fixture
def ask(api):
    """Asks for GOOD with changes; None leaves a field out."""

    def ask(**changes):
        body = {name: value for name, value in (GOOD | changes).items() if value is not None}
        with nothing_stored():
            return api.post(QUOTES, body, format="json")

    return ask


def fail(provider, *, wide=False, code="connection_refused"):
    fact = health.Fact(provider.id, "UA", failed=True, started_at=datetime.now(UTC), wide=wide, code=code)
    assert health.record([fact] * 20)


def test_the_cheapest_comes_first_with_its_price_by_segment_and_in_total(ask):
    ProviderFactory(slug="dear", price="0.07")
    ProviderFactory(slug="cheap", price="0.045")

    answer = ask(text="я" * 71)

    assert answer.status_code == 200
    assert answer.json() == {
        "country": "UA",
        "network": None,
        "encoding": "ucs2",
        "segments": 2,
        "transliteration": {"level": "cyrillic", "applied": False, "segments_before": 2, "segments_after": 1},
        "rules": [],
        "chosen": "cheap",
        "candidates": [
            {"provider": "cheap", "price": "0.045000", "currency": "EUR", "total": "0.090000", "by": "country UA"},
            {"provider": "dear", "price": "0.070000", "currency": "EUR", "total": "0.140000", "by": "country UA"},
        ],
    }


def test_a_quote_and_the_message_agree(api, ask):
    ProviderFactory(price="0.07")
    ProviderFactory(price="0.045")
    asked = {"text": "Привіт €" * 10, "class": "bulk", "sender": "MEXAR"}

    quote = ask(**asked).json()
    message = api.post(URL, GOOD | asked, format="json").json()

    assert {name: message[name] for name in ("country", "encoding", "segments")} == {
        name: quote[name] for name in ("country", "encoding", "segments")
    }
    first = quote["candidates"][0]
    assert message["estimated_cost"] == {"amount": first["total"], "currency": first["currency"]}


def test_prices_of_several_currencies_are_compared_in_one(ask):
    ProviderFactory(slug="euros", price="0.05")
    hryvnias = ProviderFactory(slug="hryvnias")
    PriceFactory(price_list=PriceListFactory(provider=hryvnias), price=Decimal("2"), currency="UAH")
    ExchangeRate.objects.create(currency="UAH", rate=Decimal("50"), valid_from=datetime.now(UTC) - timedelta(days=1))

    candidates = ask().json()["candidates"]

    assert [(found["provider"], found["total"], found["currency"]) for found in candidates] == [
        ("hryvnias", "2.000000", "UAH"),
        ("euros", "0.050000", "EUR"),
    ]


@pytest.mark.parametrize(
    "reason", ["disabled", "credentials_unreadable", "misconfigured", "no_price", "no_exchange_rate"]
)
def test_a_refused_provider_comes_last_and_says_why(ask, reason):
    refused = ProviderFactory(slug="a", price="" if reason == "no_price" else "0.01")
    ProviderFactory(slug="b", price="0.05")
    if reason == "disabled":
        refused.enabled = False
        refused.save()
    elif reason == "credentials_unreadable":
        type(refused).objects.filter(pk=refused.pk).update(credentials=b"garbage")
    elif reason == "misconfigured":
        type(refused).objects.filter(pk=refused.pk).update(resolve="luck")
    elif reason == "no_exchange_rate":
        refused.price_lists.get().prices.update(currency="UAH")

    first, last = ask().json()["candidates"]

    assert (first["provider"], "reason" in first) == ("b", False)
    assert (last["provider"], last["reason"]) == ("a", reason)
    if reason != "no_exchange_rate":
        assert (last["price"], last["currency"], last["total"]) == (None, "", None)


@pytest.mark.parametrize("wide", [True, False])
def test_a_provider_whose_breaker_is_open_comes_after_the_healthy_ones(ask, wide):
    broken = ProviderFactory(slug="broken", price="0.01")
    ProviderFactory(slug="healthy", price="0.05")
    fail(broken, wide=wide)

    here, elsewhere = ask().json()["candidates"], ask(to="+48512345678").json()["candidates"]
    for candidate in [*here, *elsewhere]:
        del candidate["by"]

    assert [(found["provider"], found.get("reason")) for found in here] == [
        ("healthy", None),
        ("broken", "breaker_open"),
    ]
    assert here[1]["price"] == "0.010000"
    assert elsewhere == (here if wide else [{name: v for name, v in here[1].items() if name != "reason"}, here[0]])


def test_a_destination_that_nobody_carries_is_answered_with_the_reasons(api, ask):
    ProviderFactory(slug="a", price="0.05")

    answer = ask(to="+919876543210")

    assert answer.status_code == 200
    assert answer.json()["country"] == "IN"
    assert answer.json()["candidates"] == [
        {"provider": "a", "price": None, "currency": "", "total": None, "reason": "no_price"}
    ]
    assert_problem(api.post(URL, GOOD | {"to": "+919876543210"}, format="json"), 422, "no_route")


def test_without_any_provider_there_is_no_candidate(ask):
    answer = ask().json()

    assert (answer["candidates"], answer["chosen"]) == ([], None)


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"to": None}, [("to", "required")]),
        ({"text": None}, [("text", "required")]),
        ({"to": None, "text": None}, [("text", "required"), ("to", "required")]),
        ({"to": "0671234567"}, [("to", "not_e164")]),
        ({"text": " "}, [("text", "empty")]),
        ({"text": "я" * 671}, [("text", "too_long")]),
        ({"class": "fast"}, [("class", "bad_choice")]),
        ({"sender": "TWELVE LETTE"}, [("sender", "bad_format")]),
        ({"template": "greeting"}, [("template", "unknown_field")]),
        ({"reference": "a"}, [("reference", "unknown_field")]),
    ],
)
def test_a_question_that_cannot_be_answered(ask, changes, errors):
    assert_problem(ask(**changes), 422, "validation_failed", *errors)


def test_the_scope_is_that_of_sending_for_every_class(client_row):
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(client_row, scopes=['send'])}")

    assert http.post(QUOTES, GOOD | {"class": "otp"}, format="json").status_code == 200


def test_a_key_without_the_scope_send(client_row):
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(client_row, scopes=['read', 'otp'])}")

    assert_problem(http.post(QUOTES, GOOD, format="json"), 403, "missing_scope")


def test_a_body_over_the_limit(api):
    answer = api.generic("POST", QUOTES, b"x" * 65_537, content_type="application/json")

    assert_problem(answer, 413, "body_too_large")
