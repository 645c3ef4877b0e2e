"""Fan-out, claims and settling: who gets what, when again, and when no more."""

import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from messaging.models import Event
from messaging.states import Status
from messaging.webhook_models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from messaging.webhooks import fanout, sending
from providers.outcomes import Ambiguous, GateRefused, Unavailable
from providers.types import HttpResponse
from tests.factories import ClientFactory
from tests.messaging.webhooks.receiver import endpoint, settle, tell, wait_for

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:9/hook"


def due_now():
    WebhookDelivery.objects.update(next_at=datetime.now(UTC) - timedelta(seconds=1))


class TestFanOut:
    def test_each_endpoint_gets_what_it_wants_of_its_own_client(self, client_row):
        everything = endpoint(client_row, URL)
        messages = endpoint(client_row, URL, events=["message.*"])
        delivered = endpoint(client_row, URL, events=["message.delivered", "verification.verified"])
        stranger = endpoint(ClientFactory(), URL)
        tell(client_row, Status.SENT)
        tell(client_row, Status.DELIVERED)

        while fanout.fan_out():
            pass

        found = Counter(WebhookDelivery.objects.values_list("endpoint_id", flat=True))
        assert found == {everything.pk: 2, messages.pk: 2, delivered.pk: 1}
        assert stranger.pk not in found
        assert not Event.objects.filter(fan_out=True).exists()

    def test_without_endpoints_nothing_is_marked(self, client_row):
        endpoint(ClientFactory(), URL)
        endpoint(client_row, URL, deleted_at=datetime.now(UTC))

        tell(client_row)

        assert not Event.objects.get().fan_out

    def test_a_disabled_endpoint_gets_nothing_new(self, client_row):
        endpoint(client_row, URL, enabled=False)
        tell(client_row)

        assert fanout.fan_out() == 1
        assert not WebhookDelivery.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_two_at_once_make_one_delivery_each(self, client_row):
        endpoint(client_row, URL)
        for _ in range(30):
            tell(client_row)
        start = threading.Barrier(4)

        def work():
            start.wait()
            while fanout.fan_out():
                pass
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        # What one of them held was left out by the others, and is done all the same.
        assert WebhookDelivery.objects.count() == 30
        assert not Event.objects.filter(fan_out=True).exists()


class TestClaim:
    def test_what_is_claimed_is_nobody_elses_until_its_lease_ends(self, client_row, claim):
        endpoint(client_row, URL)
        tell(client_row)
        (shot,) = claim()
        assert claim() == []

        WebhookDelivery.objects.update(lease_until=datetime.now(UTC) - timedelta(seconds=1))

        (again,) = claim()
        assert (again.delivery_id, again.claims) == (shot.delivery_id, shot.claims + 1)

    def test_endpoints_take_turns(self, client_row, claim, settings):
        settings.WEBHOOK_CONCURRENCY = 4
        busy, quiet = endpoint(client_row, URL, events=["message.*"]), endpoint(ClientFactory(), URL)
        for _ in range(10):
            tell(client_row)
        for _ in range(2):
            tell(quiet.client)

        first = Counter(shot.endpoint_id for shot in claim(free=4))

        assert first == {busy.pk: 2, quiet.pk: 2}

    def test_no_more_at_an_endpoint_than_its_concurrency(self, client_row, claim, settings):
        settings.WEBHOOK_CONCURRENCY = 4
        row = endpoint(client_row, URL)
        for _ in range(10):
            tell(client_row)

        assert len(claim()) == 4
        assert len(claim(busy={row.pk: 4})) == 0
        assert len(claim(busy={row.pk: 3})) == 1

    def test_one_that_failed_last_gets_few(self, client_row, claim):
        row = endpoint(client_row, URL, failing_since=datetime.now(UTC))
        for _ in range(5):
            tell(client_row)

        assert len(claim()) == sending.CAREFUL
        assert claim(busy={row.pk: sending.CAREFUL}, careful_busy=sending.CAREFUL) == []

    def test_those_that_failed_last_get_half_of_the_slots(self, client_row, claim, settings):
        settings.WEBHOOK_SLOTS = 6
        for _ in range(4):
            row = endpoint(ClientFactory(), URL, failing_since=datetime.now(UTC))
            for _ in range(5):
                tell(row.client)

        shots = claim()

        assert len(shots) == 3
        assert max(Counter(shot.endpoint_id for shot in shots).values()) <= sending.CAREFUL
        assert claim(careful_busy=3) == []

    @pytest.mark.parametrize("change", [{"enabled": False}, {"deleted_at": datetime(2026, 1, 1, tzinfo=UTC)}])
    def test_nothing_for_an_endpoint_that_is_off(self, client_row, claim, change):
        row = endpoint(client_row, URL)
        tell(client_row)
        fanout.fan_out()

        WebhookEndpoint.objects.filter(pk=row.pk).update(**change)

        assert claim() == []

    def test_a_disabled_client_hears_nothing(self, client_row, claim):
        endpoint(client_row, URL)
        tell(client_row)
        client_row.enabled = False
        client_row.save()

        assert claim() == []

    def test_unreadable_secrets_are_a_failure_and_told_in_the_log(self, client_row, claim, lines):
        endpoint(client_row, URL, secrets="v1.9.AAAA")
        tell(client_row)

        (shot,) = claim()

        assert (shot.call, shot.problem) == (None, "secrets_unreadable")
        assert lines.of("the secrets of a webhook endpoint cannot be read")


class TestSettle:
    @pytest.fixture
    def shot(self, client_row, claim):
        self.endpoint = endpoint(client_row, URL)
        tell(client_row)
        (found,) = claim()
        return found

    @property
    def delivery(self):
        return WebhookDelivery.objects.get()

    def test_the_schedule_is_gone_through_and_then_it_is_given_up(self, shot, claim, settings):
        waits = []
        for number in range(8):
            before = datetime.now(UTC)
            settle(shot, status=500)
            waits.append((self.delivery.next_at - before).total_seconds())
            if number < 7:
                due_now()
                (shot,) = claim()

        assert self.delivery.status == "failed"
        for wait, planned in zip(waits, settings.WEBHOOK_SCHEDULE, strict=False):
            assert 0.79 * planned <= wait <= 1.21 * planned + 5
        assert 27 < sum(settings.WEBHOOK_SCHEDULE) / 3600 < 29
        assert list(WebhookAttempt.objects.order_by("id").values_list("number", flat=True)) == list(range(1, 9))

    def test_pauses_differ(self):
        assert len({sending.pause(3) for _ in range(10)}) > 5

    def test_who_lost_the_lease_writes_nothing(self, shot, claim):
        WebhookDelivery.objects.update(lease_until=datetime.now(UTC) - timedelta(seconds=1))
        (second,) = claim()

        settle(shot, status=500)
        assert not WebhookAttempt.objects.exists()
        settle(second)

        assert (self.delivery.status, self.delivery.tries) == ("delivered", 1)

    def test_410_disables_at_once_and_the_clients_other_endpoints_hear_of_it(self, shot, claim, lines):
        other = endpoint(self.endpoint.client, URL, events=["webhook.*"])

        settle(shot, status=410)

        self.endpoint.refresh_from_db()
        assert (self.endpoint.enabled, self.endpoint.disabled_reason) == (False, "gone")
        assert self.endpoint.disabled_at
        assert [line["code"] for line in lines.of("a webhook endpoint is disabled")] == ["gone"]
        (told,) = claim()
        assert told.endpoint_id == other.pk
        body = json.loads(told.call.request.body)
        assert (body["type"], body["data"]) == (
            "webhook.disabled",
            {"endpoint": str(self.endpoint.pk), "reason": "gone"},
        )
        due_now()
        assert claim() == []  # what waits for it waits

    def test_five_days_of_nothing_but_failures_disable(self, shot, claim):
        ago = datetime.now(UTC) - timedelta(days=5, minutes=-1)
        WebhookEndpoint.objects.update(failing_since=ago)
        settle(shot, status=500)
        self.endpoint.refresh_from_db()
        assert self.endpoint.enabled

        WebhookEndpoint.objects.update(failing_since=ago - timedelta(minutes=2))
        due_now()
        settle(*claim(), status=500)

        self.endpoint.refresh_from_db()
        assert (self.endpoint.enabled, self.endpoint.disabled_reason) == (False, "failing")

    def test_a_success_ends_the_failures(self, shot, claim):
        settle(shot, error="read_timeout")
        self.endpoint.refresh_from_db()
        assert (self.endpoint.failing_since is not None, self.endpoint.last_error) == (True, "read_timeout")

        due_now()
        settle(*claim())

        self.endpoint.refresh_from_db()
        assert self.endpoint.failing_since is None
        assert self.endpoint.last_success_at

    def test_what_was_never_tried_is_no_failure_and_no_try(self, shot):
        settle(shot, error="gate_refused", released=True)

        assert (self.delivery.status, self.delivery.tries, self.delivery.lease_until) == ("pending", 0, None)
        assert not WebhookAttempt.objects.exists()
        self.endpoint.refresh_from_db()
        assert self.endpoint.failing_since is None

    @pytest.mark.parametrize(
        ("result", "error", "status", "retry_after", "released"),
        [
            (HttpResponse(204), "", 204, 0, False),
            (HttpResponse(302, {"location": "http://127.0.0.1/"}), "http_302", 302, 0, False),
            (HttpResponse(503, {"retry-after": "120"}), "http_503", 503, 120, False),
            (HttpResponse(429, {"retry-after": "999999999"}), "http_429", 429, 36000, False),
            (HttpResponse(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), "http_429", 429, 0, False),
            (HttpResponse(500, {"retry-after": "120"}), "http_500", 500, 0, False),
            (Ambiguous("read_timeout"), "read_timeout", None, 0, False),
            (Unavailable("connection_refused"), "connection_refused", None, 0, False),
            (Unavailable("out_of_resources"), "out_of_resources", None, 0, True),
            (GateRefused(), "", None, 0, True),
        ],
    )
    def test_what_an_answer_means(self, shot, result, error, status, retry_after, released):
        found = sending.read(shot, result, 0.1)

        assert (found.error, found.http_status, found.retry_after, found.released) == (
            error,
            status,
            retry_after,
            released,
        )

    def test_retry_after_is_waited_for(self, shot):
        settle(shot, status=503, retry_after=120.0)

        assert 115 < (self.delivery.next_at - datetime.now(UTC)).total_seconds() < 125


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("lie", "delivered"),
    [
        (lambda handler: handler.send_redirect(handler.server.server_address[0]), False),
        (lambda handler: handler.wfile.write(b"not HTTP at all\r\n\r\n"), False),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), False),
        (lambda handler: None, False),
        (lambda handler: forever(handler, b"HTTP/1.1 200 OK\r\n\r\n"), True),
        (lambda handler: forever(handler, b"HTTP/1.1 500 No\r\n\r\n"), False),
        (lambda handler: forever(handler, b"HTTP/1.1 200 OK\r\n"), False),
    ],
    ids=["redirects", "no HTTP", "lies about its length", "closes", "streams", "streams an error", "endless head"],
)
def test_a_receiver_that_misbehaves_is_stored_and_the_flow_goes_on(client_row, receiver, dispatch, lie, delivered):
    endpoint(client_row, receiver.url)
    receiver.answer = lambda handler: lie(handler) and None
    tell(client_row)

    dispatch()
    wait_for(lambda: WebhookAttempt.objects.exists())

    attempt = WebhookAttempt.objects.get()
    assert (attempt.error_code == "") == delivered
    assert len(receiver.requests) == 1
    receiver.answer = lambda handler: 200
    tell(client_row)
    wait_for(lambda: len(receiver.requests) == 2)


def forever(handler, head):
    handler.wfile.write(head)
    while True:
        handler.wfile.write(b"x: " + b"x" * 60_000 + b"\r\n")
