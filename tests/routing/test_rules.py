"""What staff decide beside the price."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from providers.models import ProviderBalance
from routing.models import ExchangeRate, Rule, SenderRegistration
from routing.networks import Network
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.messaging.stages import now
from tests.routing.test_lcr import order, reasons, slugs

pytestmark = pytest.mark.django_db


@pytest.fixture
def cheap():
    return ProviderFactory(slug="cheap", price="0.04")


@pytest.fixture
def dear():
    return ProviderFactory(slug="dear", price="0.09")


def rule(action, provider=None, **fields):
    name = f"{action} {Rule.objects.count()}"
    return Rule.objects.create(name=name, action=action, provider=provider, **fields)


def test_pin_leaves_the_pinned_alone(cheap, dear):
    rule("pin", dear)

    found = order()

    assert (slugs(found), reasons(found)) == (["dear"], {"cheap": "not_pinned"})


def test_several_pins_allow_each_of_theirs(cheap, dear):
    ProviderFactory(slug="third", price="0.01")
    rule("pin", dear)
    rule("pin", cheap)

    assert slugs(order()) == ["cheap", "dear"]


def test_bar_is_stronger_than_a_pin(cheap, dear):
    rule("pin", cheap)
    rule("bar", cheap)

    assert reasons(order()) == {"cheap": "barred", "dear": "not_pinned"}


def test_preferred_come_first_whatever_they_cost(cheap, dear):
    rule("prefer", dear)

    assert slugs(order()) == ["dear", "cheap"]


@pytest.mark.parametrize(
    ("conditions", "question"),
    [
        ({"client": "core"}, {"client": "kyc"}),
        ({"message_class": "otp"}, {"message_class": "bulk"}),
        ({"country": "UA"}, {"country": "PL", "msisdn": "+48512345678"}),
        ({"sender": "MEXAR"}, {"sender": "OTHER"}),
        ({"mcc": "255", "mnc": "01"}, {"network": Network("255", "03")}),
        ({"mcc": "255"}, {"network": Network()}),
        ({"mcc": "255", "mnc": "01"}, {"network": Network("310", "01")}),
    ],
)
def test_rule_counts_where_its_conditions_hold_and_nowhere_else(cheap, dear, conditions, question):
    rule("bar", cheap, **conditions)
    meets = {"message_class": "otp", "sender": "MEXAR", "network": Network("255", "01")}

    assert slugs(order(**meets)) == ["dear"]
    assert slugs(order(**meets | question)) == ["cheap", "dear"]


@pytest.mark.parametrize(
    ("begins", "ends", "hours"),
    [(time(8), time(20), {8, 19}), (time(22), time(6), {22, 23, 0, 5})],
)
def test_time_of_day_ends_before_its_end_and_may_pass_midnight(cheap, dear, begins, ends, hours):
    rule("bar", cheap, begins=begins, ends=ends)
    day = now().replace(minute=0, second=0, microsecond=0)

    barred = {hour for hour in (0, 5, 6, 8, 19, 20, 22, 23) if slugs(order(at=day.replace(hour=hour))) == ["dear"]}

    assert barred == hours


def test_the_first_place_is_shared_out_by_weight(cheap, dear):
    rule("weight", cheap, weight=70)
    rule("weight", dear, weight=30)

    first = [slugs(order(draw=step / 1000))[0] for step in range(1000)]

    assert (first.count("cheap"), first.count("dear")) == (700, 300)


def test_who_is_out_of_the_race_has_no_share(cheap, dear):
    rule("weight", cheap, weight=70)
    rule("weight", dear, weight=30)
    rule("prefer", dear)

    assert {slugs(order(draw=step / 10))[0] for step in range(10)} == {"dear"}
    assert {slugs(order(draw=step / 10, exclude={dear.pk}))[0] for step in range(10)} == {"cheap"}


def test_ceiling_is_of_a_segment_in_the_reporting_currency(cheap, dear):
    dollars = ProviderFactory(slug="dollars")
    PriceFactory(price_list=PriceListFactory(provider=dollars), price=Decimal("0.05"), currency="USD")
    ExchangeRate.objects.create(currency="USD", rate=Decimal("1.25"), valid_from=now() - timedelta(days=9))
    rule("ceiling", ceiling=Decimal("0.04"))

    assert slugs(order(segments=3)) == ["cheap", "dollars"]
    assert reasons(order()) == {"dear": "above_ceiling"}


def test_of_several_ceilings_the_lowest_holds(cheap, dear):
    rule("ceiling", ceiling=Decimal("0.09"))
    rule("ceiling", cheap, ceiling=Decimal("0.039999"))
    rule("ceiling", cheap, ceiling=Decimal("0.05"))

    assert reasons(order()) == {"cheap": "above_ceiling"}


def test_max_price_is_of_the_message(cheap, dear):
    assert slugs(order(segments=2, max_price=Decimal("0.08"))) == ["cheap"]
    assert reasons(order(segments=2, max_price=Decimal("0.0799"))) == {
        "cheap": "above_max_price",
        "dear": "above_max_price",
    }


def test_switched_off_rule_does_nothing(cheap, dear):
    rule("bar", cheap, enabled=False)

    assert slugs(order()) == ["cheap", "dear"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "pin"},
        {"action": "weight", "weight": 0},
        {"action": "weight"},
        {"action": "ceiling"},
        {"action": "bar", "mnc": "01"},
        {"action": "bar", "begins": time(8)},
        {"action": "bar", "begins": time(8), "ends": time(8)},
    ],
)
def test_database_refuses_a_rule_that_says_nothing(cheap, wrong):
    provider = None if wrong == {"action": "pin"} else cheap

    with pytest.raises(IntegrityError), transaction.atomic():
        rule(wrong["action"], provider, **{name: value for name, value in wrong.items() if name != "action"})


def register(provider, sender, state="approved", **fields):
    SenderRegistration.objects.create(provider=provider, country="UA", sender=sender, state=state, **fields)


def test_sender_that_is_not_registered_closes_the_route_where_others_are(cheap, dear):
    register(cheap, "KNOWN")

    assert reasons(order(sender="NEW")) == {"cheap": "sender_not_registered"}
    assert reasons(order(sender="KNOWN")) == {}
    assert reasons(order(sender="NEW", country="PL", msisdn="+48512345678")) == {}


@pytest.mark.parametrize("state", ["pending", "rejected"])
def test_sender_is_used_only_once_it_is_approved(cheap, state):
    register(cheap, "KNOWN", state=state)

    assert reasons(order(sender="KNOWN")) == {"cheap": f"sender_{state}"}


def test_registration_ends_at_its_time(cheap):
    end = now() + timedelta(hours=1)
    register(cheap, "KNOWN", expires_at=end)

    assert reasons(order(sender="KNOWN")) == {}
    assert reasons(order(sender="KNOWN", at=end)) == {"cheap": "sender_expired"}


def test_without_a_sender_of_the_message_it_is_the_providers_own(cheap):
    register(cheap, cheap.sender)

    assert reasons(order(sender="")) == {}


def test_balance_below_its_floor_closes_the_provider(cheap, dear, settings):
    settings.SNAPSHOT_MAX_AGE = 0.0
    cheap.balance_floor = 10
    cheap.save()
    balance = ProviderBalance.objects.create(provider=cheap, amount=Decimal("10"), currency="EUR")
    assert slugs(order()) == ["cheap", "dear"]

    balance.amount = Decimal("9.99")
    balance.save()

    assert reasons(order()) == {"cheap": "balance_too_low"}


def test_kept_order_is_not_that_of_another_hour(cheap, dear):
    rule("bar", cheap, begins=time(8), ends=time(20))
    morning = datetime(2026, 11, 30, 7, 59, 59, tzinfo=UTC).replace(year=now().year + 1)

    assert slugs(order(at=morning)) == ["cheap", "dear"]
    assert slugs(order(at=morning + timedelta(seconds=1))) == ["dear"]
