"""`/metrics`: who may read it, what it says, that it agrees with the database, and what it costs."""

import platform
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families

from messaging import figures, intake, metrics, receipts
from messaging.heartbeats import BRIDGE, RELAY, Heartbeat
from messaging.models import Event, Message, Receipt, uuid7
from messaging.states import MessageClass, Status
from providers.models import ProviderBalance, ProviderHealth
from providers.outcomes import Accepted, Ambiguous, ReceiptStatus
from providers.sql import rows
from providers.types import ParsedReceipt
from tests.factories import MessageFactory, PriceFactory, ProviderFactory
from tests.messaging.door import assert_problem, store_receipts
from tests.messaging.stages import claim, now, settle

pytestmark = pytest.mark.django_db
NUMBER, TEXT, REFERENCE = "+380671234567", "Your code is 914263", "transfer-4711"


@pytest.fixture
def provider(db):
    return ProviderFactory(slug="cheap", price="0.04")


def scrape(client):
    """(sample name, values of its labels in the order of their names) -> value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.content
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def accept(caller, count=1, **fields):
    intake.accept_many(caller, [{"to": NUMBER, "text": TEXT, "reference": REFERENCE, **fields}] * count)


class TestReading:
    def test_without_a_token_anybody_inside_may_read(self, client):
        answer = client.get("/metrics")

        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/plain; version=")

    def test_openmetrics_is_given_to_who_asks_for_it(self, client):
        answer = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

        assert answer["Content-Type"].startswith("application/openmetrics-text")
        assert answer.content.endswith(b"# EOF\n")

    @pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer s\xe9cret"}])
    def test_with_a_token_nobody_else_may(self, client, settings, header):
        settings.METRICS_TOKEN = "secret"

        assert_problem(client.get("/metrics", headers=header), 401, "invalid_api_key")

    def test_with_a_token_who_has_it_may(self, client, settings):
        settings.METRICS_TOKEN = "secret"

        assert client.get("/metrics", headers={"authorization": "Bearer secret"}).status_code == 200


class TestContents:
    def test_messages_and_attempts(self, client, caller, provider):
        accept(caller, 3)
        accept(caller, 2, **{"class": "bulk"})
        first, second = claim(limit=2)
        settle(first, Accepted("their-1", price="0.05", currency="EUR"))
        settle(second, Ambiguous("read_timeout"))
        store_receipts(
            provider.pk, [ParsedReceipt(ReceiptStatus.DELIVERED, "ok", our_reference=first.our_reference.hex)]
        )
        receipts.apply_due()

        found = scrape(client)

        states = {key[1:]: value for key, value in found.items() if key[0] == "messaging_messages_in_state"}
        assert len(states) == len(MessageClass) * len(Status)
        assert {key: value for key, value in states.items() if value} == {
            ("transactional", "queued"): 1,
            ("transactional", "delivered"): 1,
            ("transactional", "unknown"): 1,
            ("bulk", "queued"): 2,
        }
        assert found["messaging_messages_accepted_total", "transactional"] == 3
        assert found["messaging_messages_total", "transactional", "cheap", "sent"] == 1
        assert found["messaging_messages_total", "transactional", "cheap", "delivered"] == 1
        assert found["messaging_attempts_total", "accepted", "cheap"] == 1
        assert found["messaging_attempts_total", "delivered", "cheap"] == 1
        assert found["messaging_attempts_total", "unknown", "cheap"] == 1
        assert found["messaging_cost", "EUR", "cheap"] == 0.05
        assert found["messaging_submit_seconds_count", "transactional"] == 1
        assert found["messaging_submit_seconds_bucket", "transactional", "+Inf"] == 1
        assert 0 < found["messaging_submit_seconds_sum", "transactional"] < 10
        assert found["messaging_delivery_seconds_count", "transactional", "cheap"] == 1
        assert found["messaging_attempt_seconds_count", "accepted", "cheap"] == 1

    def test_histogram_buckets_add_up(self, client, caller, provider):
        accept(caller, 2)
        for offer, age in zip(claim(limit=2), (0, 7), strict=True):
            Message.objects.filter(pk=offer.message_id).update(created_at=now() - timedelta(seconds=age))
            settle(offer, Accepted(str(offer.attempt_id)))

        found = scrape(client)

        buckets = {key[2]: value for key, value in found.items() if key[0] == "messaging_submit_seconds_bucket"}
        assert (buckets["5.0"], buckets["10.0"], buckets["+Inf"]) == (1, 2, 2)
        assert list(buckets.values()) == sorted(buckets.values())

    def test_backlog_receipts_and_events(self, client, provider):
        for message_class, age in (("bulk", 90), ("bulk", 30), ("otp", -60)):
            MessageFactory(message_class=message_class, not_before=now() - timedelta(seconds=age))
        store_receipts(provider.pk, [ParsedReceipt(ReceiptStatus.DELIVERED, "ok", our_reference="f" * 32)])
        Receipt.objects.update(apply_at=now() - timedelta(seconds=20))
        old = now() - timedelta(seconds=40)
        Event.objects.create(id=uuid7(), type="x", subject="x", sequence=1, data={}, created_at=old)
        Event.objects.create(id=uuid7(), type="x", subject="x", sequence=2, data={}, created_at=old, published_at=old)

        found = scrape(client)

        assert found["messaging_backlog_age_seconds", "bulk"] == pytest.approx(90, abs=10)
        assert found["messaging_backlog_age_seconds", "otp"] == 0
        assert found["messaging_backlog_age_seconds", "transactional"] == 0
        assert found["messaging_receipts_waiting",] == 1
        assert found["messaging_receipts_age_seconds",] == pytest.approx(20, abs=10)
        assert found["messaging_events_waiting",] == 1
        assert found["messaging_events_age_seconds",] == pytest.approx(40, abs=10)

    def test_breakers(self, client, provider):
        ProviderFactory(slug="off", enabled=False)
        ProviderHealth.objects.create(provider=provider, state="open")
        ProviderHealth.objects.create(provider=provider, country="UA", state="half_open")
        ProviderHealth.objects.create(provider=provider, country="PL", state="closed")

        found = scrape(client)

        breakers = {key[1:]: value for key, value in found.items() if key[0] == "messaging_breaker_state"}
        assert breakers == {("", "cheap"): 2, ("UA", "cheap"): 1, ("", "off"): 0}
        assert found["messaging_provider_enabled", "off"] == 0
        assert found["messaging_build_info", platform.python_version(), django_settings.VERSION] == 1

    def test_empty_installation_shows_zeros(self, client):
        found = scrape(client)

        assert found["messaging_messages_in_state", "otp", "held"] == 0
        assert found["messaging_backlog_age_seconds", "otp"] == 0

    def test_what_is_piled_up_is_counted_to_a_limit(self, client, provider, monkeypatch):
        monkeypatch.setattr(metrics, "_QUEUES", metrics._QUEUES.replace("LIMIT 10001", "LIMIT 2"))
        Event.objects.bulk_create(
            Event(id=uuid7(), type="x", subject="x", sequence=n, data={}, created_at=now()) for n in range(5)
        )

        assert scrape(client)["messaging_events_waiting",] == 2

    def test_no_number_text_or_reference_is_shown(self, client, caller, provider):
        accept(caller, 1, metadata={"order": REFERENCE})
        settle(claim(limit=1)[0], Accepted("their-914263", price="0.05", currency="EUR"))

        answer = client.get("/metrics").content.decode()

        for secret in (NUMBER, NUMBER[1:], "914263", REFERENCE, caller.slug):
            assert secret not in answer


class TestCost:
    def test_scrape_makes_as_many_queries_whatever_there_is(self, client, caller, provider):
        scrape(client)
        with CaptureQueriesContext(connection) as empty:
            scrape(client)
        accept(caller, 50)
        for offer in claim():
            settle(offer, Accepted(str(offer.attempt_id)))

        with CaptureQueriesContext(connection) as full:
            scrape(client)

        assert len(full) == len(empty)

    def test_full_tables_are_not_scanned(self, provider):
        message = MessageFactory(status=Status.DELIVERED)
        Message.objects.bulk_create(
            MessageFactory.build(client=message.client, status=Status.QUEUED if n % 10 == 0 else Status.DELIVERED)
            for n in range(1000)
        )
        Receipt.objects.bulk_create(
            Receipt(
                provider=provider,
                dedupe_key=str(n).encode(),
                status="delivered",
                received_at=now(),
                applied_at=now(),
                apply_at=now(),
            )
            for n in range(1000)
        )
        Event.objects.bulk_create(
            Event(id=uuid7(), type="x", subject="x", sequence=n, data={}, created_at=now(), published_at=now())
            for n in range(1000)
        )
        for table in ("message", "receipt", "event"):
            rows(f"ANALYZE messaging_{table}")

        plans = rows(f"EXPLAIN {figures.BACKLOG}", {"lanes": ["transactional"]}) + rows(f"EXPLAIN {metrics._QUEUES}")

        plan = "\n".join(line for (line,) in plans)
        assert not re.search(r"Seq Scan on messaging_(message|receipt|event)", plan), plan
        for index in ("message_due", "receipt_due", "event_unpublished"):
            assert index in plan


def test_kafka_is_told_by_the_word_of_its_processes(client):
    nothing = scrape(client)
    Heartbeat(RELAY).tell("leads")
    Heartbeat(BRIDGE).tell("waits", "a lane is full", [0], 7)
    Heartbeat(BRIDGE).tell("reads", "", [1], 4)

    found = scrape(client)

    assert ("messaging_commands_waiting",) not in nothing
    assert found["messaging_commands_waiting",] == 11
    assert found["messaging_kafka_processes", "relay", "leads"] == 1
    assert found["messaging_kafka_processes", "bridge", "waits"] == 1
    assert found["messaging_dead_letters",] == 0


def test_what_kafka_refused_for_good_is_counted(client):
    for sequence, refusal in enumerate(("", "MSG_SIZE_TOO_LARGE"), 1):
        row = {"subject": "x", "sequence": sequence, "refusal": refusal, "published_at": now(), "created_at": now()}
        Event.objects.create(id=uuid7(), type="x", data={}, **row)

    found = scrape(client)

    assert found["messaging_kafka_refused", "event"] == 1
    assert found["messaging_kafka_refused", "dead_letter"] == 0


def test_document_names_every_metric_and_its_labels(client, caller, provider):
    ProviderBalance.objects.create(provider=provider, amount=10, currency="EUR")
    PriceFactory(price_list=provider.price_lists.get(), country="FR", currency="USD")
    accept(caller)
    (offer,) = claim()
    settle(offer, Accepted("their-1", price="0.05", currency="EUR"))
    store_receipts(provider.pk, [ParsedReceipt(ReceiptStatus.DELIVERED, "ok", our_reference=offer.our_reference.hex)])
    receipts.apply_due()
    Heartbeat(BRIDGE).tell("reads", waiting=1)
    shown = set()
    for family in metrics.Collector().collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = sorted(set(family.samples[0].labels) - {"le"})
        shown.add((name, family.type.replace("info", "gauge"), ", ".join(labels)))

    document = Path(django_settings.BASE_DIR, "docs", "metrics.md").read_text()
    rows_of = re.findall(r"^\| `(messaging_\w+)` \| (\w+) \|([^|]*)\|", document, re.M)
    told = {(name, kind, ", ".join(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in rows_of}

    assert told == shown
