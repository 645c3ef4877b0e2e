"""Replays, what is forgotten, and the figures of what waits."""

from datetime import UTC, datetime, timedelta

import pytest

from messaging.models import Event
from messaging.states import Status
from messaging.webhook_models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from messaging.webhooks import endpoints, fanout, figures, purge, replays
from providers.sql import rows
from tests.factories import ClientFactory
from tests.messaging.webhooks.receiver import endpoint, settle, tell

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:9/hook"


class TestReplay:
    def test_one_delivery_begins_anew_under_the_same_id(self, client_row, claim):
        row = endpoint(client_row, URL)
        tell(client_row)
        (first,) = claim()
        settle(first)

        assert replays.one(row, Event.objects.get().id)

        (again,) = claim()
        ids = [shot.call.request.headers["webhook-id"] for shot in (first, again)]
        assert ids == [str(Event.objects.get().id)] * 2
        assert WebhookDelivery.objects.get().replayed_at

    def test_an_event_of_another_client_is_none(self, client_row):
        tell(ClientFactory())

        assert not replays.one(endpoint(client_row, URL), Event.objects.get().id)

    def test_all_of_a_time_is_sent_again_what_was_never_tried_too(self, client_row, claim, monkeypatch):
        monkeypatch.setattr(replays, "_STEP", replays._STEP.replace(str(replays.GROUP), "3"))
        row = endpoint(client_row, URL, events=["message.sent"])
        for _ in range(5):
            tell(client_row)
            tell(client_row, Status.DELIVERED)  # it does not want these
            tell(ClientFactory())
        old = Event.objects.filter(type="message.sent", client=client_row).order_by("id").first()
        rows("UPDATE messaging_event SET created_at = created_at - interval '1 hour' WHERE id = %(id)s", {"id": old.id})
        shots = claim()
        settle(*shots[:2])
        settle(*shots[2:], status=410)
        endpoints.enable(row.pk)
        replays.since(row, datetime.now(UTC) - timedelta(minutes=5))

        while replays.step():
            pass

        assert len(claim()) == 4
        assert row.replays.get().found == 4

    def test_failed_only_leaves_out_what_was_delivered_or_waits(self, client_row, claim, settings):
        row = endpoint(client_row, URL)
        settings.WEBHOOK_SCHEDULE = []
        for _ in range(3):
            tell(client_row)
        delivered, failed, waiting = claim()
        settle(delivered)
        settle(failed, status=500)
        settings.WEBHOOK_SCHEDULE = [5.0]
        settle(waiting, status=500)
        WebhookEndpoint.objects.update(failing_since=None)
        replays.since(row, datetime.now(UTC) - timedelta(minutes=5), failed_only=True)

        while replays.step():
            pass

        assert [shot.delivery_id for shot in claim()] == [failed.delivery_id]

    def test_no_more_than_a_few_at_a_time(self, client_row):
        row = endpoint(client_row, URL)
        since = datetime.now(UTC) - timedelta(days=1)

        assert all(replays.since(row, since) for _ in range(replays.MOST_OPEN))
        assert replays.since(row, since) is None


def test_purge_forgets_what_is_finished_and_what_is_left_over(client_row, claim):
    old = datetime.now(UTC) - timedelta(days=8)
    kept, gone = endpoint(client_row, URL), endpoint(client_row, URL, deleted_at=old)
    off = endpoint(client_row, URL, enabled=False, disabled_at=old)
    for _ in range(3):
        tell(client_row)
    first, second, _ = claim()
    settle(first, second)
    WebhookDelivery.objects.filter(pk=first.delivery_id).update(finished_at=old)
    for row in (gone, off):
        rows(
            f"""
            INSERT INTO messaging_webhookdelivery ({fanout.COLUMNS})
            SELECT {fanout.VALUES} FROM messaging_event e, messaging_webhookendpoint w WHERE w.id = %(id)s""",  # noqa: S608
            {"id": row.pk},
        )

    purge.purge()

    assert set(WebhookDelivery.objects.values_list("endpoint_id", "status")) == {
        (kept.pk, "delivered"),
        (kept.pk, "pending"),
    }
    assert WebhookAttempt.objects.count() == 1
    assert set(WebhookEndpoint.objects.values_list("pk", flat=True)) == {kept.pk, off.pk}


def test_figures_tell_what_is_late_and_not_what_waits_for_its_time(client_row, claim):
    row = endpoint(client_row, URL)
    tell(client_row)
    assert (figures.waiting().events, figures.waiting().due) == (1, 0)
    fanout.fan_out()
    WebhookDelivery.objects.update(next_at=datetime.now(UTC) - timedelta(seconds=90))
    found = figures.waiting()
    assert (found.events, found.due) == (0, 1)
    assert 89 < found.seconds < 120

    settle(*claim(), status=500)

    assert (figures.waiting().due, figures.failing()) == (0, 1)
    endpoints.disable(row.pk, "staff")
    assert figures.disabled() == {"client": 0, "staff": 1, "gone": 0, "failing": 0}
