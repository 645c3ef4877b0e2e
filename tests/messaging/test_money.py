"""What an attempt costs: on submit, on delivery, by our book and by the provider's word; and the most it may cost."""

from decimal import Decimal

import pytest

from messaging import intake, receipts
from messaging.errors import NoRoute
from messaging.models import Attempt, Message
from messaging.states import Status
from providers.outcomes import Accepted, ReceiptStatus, Rejected, Scope
from providers.types import ParsedReceipt
from routing.models import ExchangeRate, NetworkPrefix, NetworkSighting, Rule
from routing.networks import Network, Seen, plan, remember, resolve
from tests.conftest import caller_for
from tests.factories import ClientFactory, MessageFactory, PriceFactory, PriceListFactory, ProviderFactory
from tests.messaging.door import GOOD, URL, assert_problem, store_receipts
from tests.messaging.stages import claim, claim_one, now, only_attempt, only_message, settle

pytestmark = pytest.mark.django_db
DELIVERED, UNDELIVERED = ReceiptStatus.DELIVERED, ReceiptStatus.UNDELIVERED


@pytest.fixture
def provider():
    provider = ProviderFactory(slug="both")
    prices = {"price": Decimal("0.02"), "price_delivered": Decimal("0.03")}
    PriceFactory(price_list=PriceListFactory(provider=provider), **prices)
    return provider


@pytest.fixture
def offer(provider):
    MessageFactory(segments=2)
    return claim_one()


def hear(status, **fields):
    attempt = only_attempt()
    told = ParsedReceipt(status, str(status), our_reference=attempt.our_reference.hex, **fields)
    store_receipts(attempt.provider_id, [told])
    receipts.apply_due()


def test_taken_it_costs_what_is_due_on_submit(offer):
    settle(offer, Accepted("their-1"))

    assert (only_attempt().price, only_attempt().cost) == (Decimal("0.05"), Decimal("0.04"))


def test_delivered_it_costs_the_rest_as_well_and_only_once(offer):
    settle(offer, Accepted("their-1"))

    hear(DELIVERED)
    hear(DELIVERED, occurred_at=now())

    assert only_attempt().cost == Decimal("0.10")


def test_undelivered_it_costs_the_submit_alone(offer):
    settle(offer, Accepted("their-1"))

    hear(UNDELIVERED)

    assert only_attempt().cost == Decimal("0.04")


def test_segments_that_the_provider_counts_are_those_that_cost(offer):
    settle(offer, Accepted("their-1", segments=3))
    assert only_attempt().cost == Decimal("0.06")

    hear(DELIVERED)

    assert only_attempt().cost == Decimal("0.15")


def test_word_of_the_provider_wins_over_the_book(offer):
    settle(offer, Accepted("their-1", price=Decimal("0.07"), currency="USD"))
    hear(DELIVERED)
    assert (only_attempt().cost, only_attempt().currency) == (Decimal("0.07"), "USD")

    hear(DELIVERED, occurred_at=now(), price=Decimal("0.09"), currency="USD")

    assert only_attempt().cost == Decimal("0.09")


def test_refused_it_costs_nothing(offer):
    settle(offer, Rejected(Scope.ROUTE, "no_route"))

    assert only_attempt().cost is None


# --- the most that a message may cost -----------------------------------------------------------------


def test_message_dearer_than_its_max_price_is_refused_at_the_door(api, provider):
    answer = api.post(URL, GOOD | {"max_price": "0.049999"}, format="json")

    assert_problem(answer, 422, "no_route")
    assert "max_price" in answer.json()["detail"]
    assert not Message.objects.exists()


def test_max_price_comes_back_and_holds_when_the_message_leaves(api, provider):
    body = api.post(URL, GOOD | {"max_price": "0.05"}, format="json").json()
    assert body["max_price"] == "0.05"
    assert api.get(f"{URL}/{body['id']}").json()["max_price"] == "0.05"
    Attempt.objects.all().delete()
    provider.price_lists.get().prices.update(price=Decimal("0.06"))

    from routing.snapshot import tables

    tables.forget()
    assert claim() == []

    assert only_message().decision[0]["reason"] == "above_max_price"


def test_max_price_is_in_the_reporting_currency(caller):
    provider = ProviderFactory()
    PriceFactory(price_list=PriceListFactory(provider=provider), price=Decimal("4"), currency="UAH")
    ExchangeRate.objects.create(currency="UAH", rate=50, valid_from=now())

    assert intake.accept(caller, GOOD | {"max_price": "0.08"}).status == 202
    with pytest.raises(NoRoute):
        intake.accept(caller, GOOD | {"max_price": "0.079999"})


# --- depth --------------------------------------------------------------------------------------------


def test_depth_of_a_class_is_its_own(settings, provider):
    settings.MAX_ATTEMPTS_OF = {"otp": 2}
    for lane in ("otp", "transactional"):
        MessageFactory(message_class=lane, spent=2)

    claim("otp")
    claim("transactional")

    found = dict(Message.objects.values_list("message_class", "status"))
    assert found == {"otp": Status.FAILED, "transactional": Status.SENDING}


# --- what rules say, as it is stored --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "fields", "chosen"),
    [("prefer", {}, "preferred by a rule"), ("weight", {"weight": 5}, "weighed by a rule"), ("pin", {}, "cheapest")],
)
def test_decision_says_that_a_rule_has_chosen(action, fields, chosen):
    ProviderFactory(slug="cheap", price="0.04")
    Rule.objects.create(name="r", action=action, provider=ProviderFactory(slug="dear", price="0.09"), **fields)
    MessageFactory()

    offer = claim_one()

    assert offer.route.slug == "dear"
    assert only_message().decision[0] | {"chosen": chosen} == only_message().decision[0]


# --- networks -----------------------------------------------------------------------------------------


@pytest.fixture
def by_network(provider):
    book = provider.price_lists.get()
    book.prices.all().delete()
    for mnc, price in (("01", "0.03"), ("03", "0.07")):
        PriceFactory(price_list=book, mcc="255", mnc=mnc, price=Decimal(price))
    plan.forget()


def test_network_that_a_provider_has_seen_prices_the_message(caller, by_network):
    NetworkPrefix.objects.create(prefix="38067", mcc="255", mnc="03", source="test")
    remember([Seen(GOOD["to"], "255", "01")])

    intake.accept(caller, GOOD)
    assert (only_message().estimated_cost, only_message().mnc) == (Decimal("0.03"), "01")
    claim_one()

    assert only_attempt().price == Decimal("0.03")
    assert only_message().decision[0]["by"] == "network 255-01"


def test_unknown_network_costs_the_dearest_and_the_decision_says_so(caller, by_network):
    intake.accept(caller, GOOD)
    claim_one()

    assert only_attempt().price == Decimal("0.07")
    assert only_message().decision[0]["by"] == "dearest"
    assert (only_message().mcc, only_message().mnc) == ("", "")


def test_receipt_that_names_the_network_is_remembered(caller, by_network):
    intake.accept(caller, GOOD)
    settle(claim_one(), Accepted("their-1"))

    hear(DELIVERED, mcc="255", mnc="01")

    assert (only_message().mcc, only_message().mnc) == ("255", "01")
    assert resolve([GOOD["to"]]) == {GOOD["to"]: Network("255", "01")}


def test_erased_number_has_no_known_network(caller):
    from django.core.management import call_command

    remember([Seen(GOOD["to"], "255", "01"), Seen("+380671111111", "255", "01")])

    call_command("erase_number", GOOD["to"], "--yes")

    assert NetworkSighting.objects.count() == 1
    assert resolve([GOOD["to"]])[GOOD["to"]] == Network()


# --- letters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "text", "sent"),
    [
        ("typographic", "“" + "x" * 90 + "”…", '"' + "x" * 90 + '"...'),
        ("", "“" + "x" * 90 + "”", "“" + "x" * 90 + "”"),
        ("typographic", "Ваш код – " + "я" * 90, "Ваш код – " + "я" * 90),
        ("cyrillic", "Щастя " * 13, "Shchastia " * 13),
        ("cyrillic", "Привіт", "Привіт"),  # one segment either way
    ],
)
def test_text_is_written_otherwise_where_that_saves_a_segment_and_the_client_allows_it(level, text, sent):
    ProviderFactory(price="0.04")

    intake.accept(caller_for(ClientFactory(transliteration=level)), GOOD | {"text": text})

    assert only_message().text == sent
    assert only_message().encoding == ("ucs2" if sent == text else "gsm7")
