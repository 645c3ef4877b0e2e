import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from messaging import intake, quotas, tasks
from messaging.clients import Caller
from messaging.drafts import Draft
from messaging.errors import InvalidRequest, MissingScope, NoRoute, QuotaExceeded, Refusal, Suppressed
from messaging.models import Event, Message, Suppression
from messaging.states import MessageClass, Status
from providers import health
from tests.factories import ClientFactory, PriceFactory, PriceListFactory, ProviderFactory
from tests.messaging.door import nothing_stored
from tests.messaging.stages import claim_one

pytestmark = pytest.mark.django_db
GOOD = {"to": "+380671234567", "text": "Your transfer has arrived."}


@pytest.fixture
def provider(db):
    return ProviderFactory(slug="carrier-a", price="0.045")


def test_a_message_and_its_event_are_stored_together(caller, provider):
    answer = intake.accept(caller, {**GOOD, "reference": "order-1", "metadata": {"order": "1"}})

    message, event = Message.objects.get(), Event.objects.get()
    assert (answer.status, answer.body["id"], answer.replayed) == (202, str(message.id), False)
    assert (message.to, message.text, message.country) == ("+380671234567", GOOD["text"], "UA")
    assert (message.encoding, message.segments, message.sequence) == ("gsm7", 1, 1)
    assert (message.estimated_cost, message.currency) == (Decimal("0.045"), "EUR")
    assert (event.type, event.subject, event.sequence) == ("message.accepted", str(message.id), 1)
    assert event.client_id == caller.id
    assert event.data["to_masked"] == "+380******567"
    assert event.data["metadata"] == {"order": "1"}


def test_an_event_has_neither_the_number_nor_the_text(caller, provider):
    intake.accept(caller, GOOD)

    event = Event.objects.get()
    assert "1234567" not in str(event.data)
    assert "transfer" not in str(event.data)


def test_the_cheapest_provider_prices_it_by_the_segment(caller, provider):
    ProviderFactory(price="0.03")

    answer = intake.accept(caller, {**GOOD, "text": "я" * 71})

    assert (answer.body["encoding"], answer.body["segments"]) == ("ucs2", 2)
    assert answer.body["estimated_cost"] == {"amount": "0.060000", "currency": "EUR"}


def test_the_clients_sender_stands_in(provider):
    client = ClientFactory(sender="MEXAR")
    caller = Caller(client.pk, client.slug, client.sender, frozenset({"send"}))

    intake.accept(caller, GOOD)
    intake.accept(caller, {**GOOD, "sender": "OTHER"})

    assert [message.sender for message in Message.objects.order_by("id")] == ["MEXAR", "OTHER"]


def test_a_deadline_runs_from_now_or_from_its_time(caller, provider):
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)

    now = intake.accept(caller, {**GOOD, "validity_seconds": 60})
    then = intake.accept(caller, {**GOOD, "validity_seconds": 60, "send_at": later.isoformat()})

    first, second = Message.objects.get(pk=now.body["id"]), Message.objects.get(pk=then.body["id"])
    assert (first.status, second.status) == (Status.QUEUED, Status.SCHEDULED)
    assert first.expires_at == first.not_before + timedelta(seconds=60)
    assert (second.not_before, second.expires_at) == (later, later + timedelta(seconds=60))


@pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_a_time_in_the_past_means_now(caller, provider, moment):
    intake.accept(caller, {**GOOD, "send_at": moment})

    message = Message.objects.get()
    assert message.status == Status.QUEUED
    assert message.not_before == message.created_at


def test_the_text_of_a_template_is_stored(caller, client_row, provider):
    client_row.templates.create(name="greeting", text="Hello {name}")

    intake.accept(caller, {"to": GOOD["to"], "template": "greeting", "params": {"name": "Олена"}})

    message = Message.objects.get()
    assert (message.text, message.template, message.encoding) == ("Hello Олена", "greeting", "ucs2")


@pytest.mark.parametrize("everybody", [True, False])
def test_a_suppressed_number_is_refused(caller, client_row, provider, everybody):
    Suppression.objects.create(msisdn=GOOD["to"], client=None if everybody else client_row, reason="opted_out")

    with nothing_stored(), pytest.raises(Suppressed):
        intake.accept(caller, GOOD)


def test_a_number_that_another_client_suppressed_is_not(caller, provider):
    Suppression.objects.create(msisdn=GOOD["to"], client=ClientFactory(), reason="opted_out")

    assert intake.accept(caller, GOOD).status == 202


def test_an_otp_needs_its_scope(client_row, provider):
    caller = Caller(client_row.pk, client_row.slug, "", frozenset({"send"}))

    with nothing_stored(), pytest.raises(MissingScope):
        intake.accept(caller, {**GOOD, "class": "otp"})


@pytest.mark.parametrize("change", ["country", "disabled", "retired", "later", "rate"])
def test_without_a_price_there_is_no_route(caller, change):
    book = PriceListFactory()
    price = PriceFactory(price_list=book)
    match change:
        case "country":
            price.country = "PL"
        case "disabled":
            book.provider.enabled = False
        case "retired":
            book.status = book.Status.RETIRED
        case "later":
            book.valid_from = datetime.now(UTC) + timedelta(hours=1)
        case "rate":
            price.currency = "UAH"  # no exchange rate into the reporting currency
    for row in (book.provider, book, price):
        row.save()

    with nothing_stored(), pytest.raises(NoRoute) as caught:
        intake.accept(caller, GOOD)

    assert GOOD["to"] not in str(caught.value)


def test_an_open_breaker_does_not_refuse_a_message(caller, provider):
    failures = [health.Fact(provider.id, "UA", failed=True, started_at=datetime.now(UTC)) for _ in range(20)]
    opened = health.record(failures)

    assert opened
    assert intake.accept(caller, GOOD).status == 202


# --- many -------------------------------------------------------------------------------------------


def test_of_many_the_right_ones_are_stored_in_one_statement(caller, provider, django_assert_max_num_queries):
    Suppression.objects.create(msisdn="+380671234568", reason="opted_out")
    intake.accept(caller, GOOD)
    items = [GOOD, {**GOOD, "to": "x"}, {**GOOD, "to": "+380671234568"}, 7, {**GOOD, "class": "bulk"}]

    with django_assert_max_num_queries(1):
        results = intake.accept_many(caller, items)

    first, bad, suppressed, nothing, last = results
    assert isinstance(bad, InvalidRequest)
    assert isinstance(suppressed, Suppressed)
    assert isinstance(nothing, InvalidRequest)
    assert Message.objects.get(pk=first).message_class == "transactional"
    assert Message.objects.get(pk=last).message_class == "bulk"
    assert Message.objects.count() == 3
    assert set(Event.objects.values_list("subject", flat=True)) >= {str(first), str(last)}


def test_many_wrong_ones_store_nothing(caller, provider):
    with nothing_stored():
        results = intake.accept_many(caller, [{}, None, {**GOOD, "text": ""}])

    assert all(isinstance(result, Refusal) for result in results)


def test_ids_follow_the_order_of_acceptance(caller, provider):
    ids = intake.accept_many(caller, [GOOD] * 50)

    assert all(isinstance(found, uuid.UUID) for found in ids)
    assert ids == sorted(ids, key=str)


# --- drafts of another app --------------------------------------------------------------------------


def draft(**fields):
    known = {"msisdn": GOOD["to"], "country": "UA", "message_class": MessageClass.OTP, "validity": 300}
    text = {"text": "Code: {code}", "sample": "Code: 000000", "renderer": "code"}
    return Draft(**{**known, **text, **fields})


def test_a_draft_is_stored_with_what_only_apps_may_ask_for(caller, provider):
    with quotas.reserve(caller, 1) as room:
        stored = intake.accept_draft(caller, draft(tried=(provider.id,), failover_after=20), room)

    message = Message.objects.get()
    assert (message.id, message.expires_at) == (stored.prepared.id, stored.expires_at)
    assert (message.text, message.renderer, message.failover_after) == ("Code: {code}", "code", 20)
    assert message.tried == [provider.id]
    assert (stored.prepared.cost, stored.prepared.currency) == (Decimal("0.045"), "EUR")
    assert message.expires_at == message.created_at + timedelta(seconds=300)
    assert room.spent == 1
    assert Event.objects.get().type == "message.accepted"


def test_a_draft_is_measured_by_its_sample(caller, provider):
    with quotas.reserve(caller, 1) as room:
        intake.accept_draft(caller, draft(text="{code}", sample="я" * 71), room)

    message = Message.objects.get()
    assert (message.encoding, message.segments, message.estimated_cost) == ("ucs2", 2, Decimal("0.09"))
    assert message.text == "{code}"


def test_a_first_round_leaves_out_whoever_the_draft_names(caller, provider):
    dear = ProviderFactory(price="0.09")
    with quotas.reserve(caller, 1) as room:
        intake.accept_draft(caller, draft(tried=(provider.id,), renderer=""), room)

    assert claim_one("otp").route.id == dear.id


def test_no_caller_names_what_only_apps_may_ask_for(caller, provider):
    for name, value in {"renderer": "code", "sample": "x", "tried": [1], "failover_after": 5}.items():
        with nothing_stored(), pytest.raises(InvalidRequest):
            intake.accept(caller, {**GOOD, name: value})


@pytest.mark.parametrize("refusal", [Suppressed, NoRoute, MissingScope, InvalidRequest, QuotaExceeded])
def test_a_refused_draft_stores_nothing_and_costs_no_place(caller, client_row, provider, refusal):
    fields = {NoRoute: {"country": "FR"}, InvalidRequest: {"text": ""}}.get(refusal, {})
    if refusal is Suppressed:
        Suppression.objects.create(msisdn=GOOD["to"], reason="opted_out")
    if refusal is MissingScope:
        caller = replace(caller, scopes=frozenset({"send"}))
    if refusal is QuotaExceeded:
        caller = replace(caller, daily_quota=0)

    with quotas.reserve(caller, 1) as room, nothing_stored(), pytest.raises(refusal):
        intake.accept_draft(caller, draft(**fields), room)

    assert room.spent == 0


@pytest.mark.django_db(transaction=True)
def test_the_lane_of_a_draft_is_woken_when_its_app_commits(caller, provider):
    broker = tasks.ACTORS["otp"].broker
    broker.flush_all()

    with quotas.reserve(caller, 1) as room, transaction.atomic():
        intake.accept_draft(caller, draft(), room)
        assert not tasks._hints._pending

    broker.queues["otp"].get(timeout=5)


# --- hints ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key", [None, "key-1"])
def test_the_lane_is_woken_after_the_commit(caller, provider, key):
    broker = tasks.ACTORS["bulk"].broker
    broker.flush_all()

    intake.accept(caller, {**GOOD, "class": "bulk"}, idempotency_key=key)

    broker.queues["bulk"].get(timeout=5)
    assert Message.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_refused_request_wakes_nobody(caller, provider):
    broker = tasks.ACTORS["otp"].broker
    broker.flush_all()
    Suppression.objects.create(msisdn=GOOD["to"], reason="opted_out")

    with pytest.raises(Suppressed):
        intake.accept(caller, {**GOOD, "class": "otp"}, idempotency_key="key-1")

    assert not tasks._hints._pending
    assert broker.queues["otp"].empty()
