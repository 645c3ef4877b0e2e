"""The self-service API: what a client may do with its endpoints, and that a stranger may do nothing."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from rest_framework.test import APIClient

from messaging.clients import issue_key
from messaging.models import Event, IdempotencyKey, uuid7
from messaging.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookReplay
from messaging.webhooks import endpoints, replays, sending, signatures
from messaging.webhooks.sending import Outcome
from tests.factories import ClientFactory
from tests.messaging.door import assert_problem, nothing_stored
from tests.messaging.webhooks.receiver import endpoint, secret_of, tell

pytestmark = pytest.mark.django_db
ALL = "/api/v1/webhook-endpoints"
URL = "https://example.com/hook"


def post(api, path="", body=None, **headers):
    return api.post(f"{ALL}{path}", body or {}, format="json", headers=headers)


@pytest.fixture
def row(client_row):
    return endpoint(client_row, URL)


@pytest.fixture
def stranger(db):
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(ClientFactory())}", HTTP_X_REQUEST_ID="of-the-test")
    return http


class TestCreate:
    def test_the_secret_is_shown_once_and_encrypted_at_rest(self, api):
        answer = post(api, body={"url": URL, "events": ["message.*"], "description": "Core"})

        assert answer.status_code == 201
        made = answer.json()
        secret = made.pop("secret")
        assert signatures.is_secret(secret)
        stored = WebhookEndpoint.objects.get()
        assert secret not in stored.secrets
        assert secret_of(stored) == secret
        assert api.get(f"{ALL}/{made['id']}").json() == made
        assert api.get(ALL).json() == {"results": [made]}

    def test_a_repeat_gives_the_same_answer_and_its_secret_is_stored_nowhere_in_clear(self, api):
        first = post(api, body={"url": URL}, **{"Idempotency-Key": "a"})
        again = post(api, body={"url": URL}, **{"Idempotency-Key": "a"})

        assert first.json() == again.json()
        assert again.headers["Idempotency-Replayed"] == "true"
        assert WebhookEndpoint.objects.count() == 1
        assert first.json()["secret"] not in json.dumps(IdempotencyKey.objects.get().body)
        assert_problem(post(api, body={"url": URL + "2"}, **{"Idempotency-Key": "a"}), 422, "idempotency_mismatch")

    def test_a_repeat_is_without_the_secret_once_its_key_is_gone(self, api, settings):
        first = post(api, body={"url": URL}, **{"Idempotency-Key": "a"})
        settings.CREDENTIALS_KEYS = "9:" + "A" * 43 + "="

        again = post(api, body={"url": URL}, **{"Idempotency-Key": "a"})

        assert {**again.json(), "secret": first.json()["secret"]} == first.json()

    def test_no_more_than_a_client_may_have(self, api, monkeypatch, row):
        monkeypatch.setattr(endpoints, "MOST_ENDPOINTS", 1)

        with nothing_stored():
            assert_problem(post(api, body={"url": URL}), 409, "too_many_endpoints")
        assert api.delete(f"{ALL}/{row.pk}").status_code == 204
        assert post(api, body={"url": URL}).status_code == 201

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({}, "url", "required"),
            ({"url": "http://10.0.0.1/"}, "url", "address_refused"),
            ({"url": URL, "events": ["provider.down"]}, "events", "bad_choice"),
            ({"url": URL, "events": []}, "events", "empty"),
            ({"url": URL, "secret": "whsec_mine"}, "secret", "unknown_field"),
        ],
    )
    def test_a_wrong_body_is_refused(self, api, body, field, code):
        with nothing_stored():
            assert_problem(post(api, body=body), 422, "validation_failed", (field, code))

    @pytest.mark.parametrize(
        "raw", [b"", b"{", b"null", b'{"url": "https://a.b", "url": "https://c.d"}', b"[" * 10_000]
    )
    def test_what_is_no_json_object_is_refused(self, api, raw):
        with nothing_stored():
            assert api.post(ALL, raw, content_type="application/json").status_code in (400, 422)

    def test_a_long_body_is_refused_unread(self, api):
        assert_problem(post(api, body={"url": "a" * 70_000}), 413, "body_too_large")

    def test_http_is_refused_unless_it_is_allowed(self, api, settings):
        settings.WEBHOOK_ALLOW_HTTP = False

        answer = post(api, body={"url": "http://example.com/"})

        assert_problem(answer, 422, "validation_failed", ("url", "not_https"))


class TestChange:
    def test_what_is_not_named_stays(self, api, row):
        answer = api.patch(f"{ALL}/{row.pk}", {"events": ["message.sent"]}, format="json")

        assert (answer.status_code, answer.json()["url"], answer.json()["events"]) == (200, URL, ["message.sent"])

    def test_a_wrong_change_changes_nothing(self, api, row):
        with nothing_stored():
            answer = api.patch(f"{ALL}/{row.pk}", {"url": "ftp://x"}, format="json")

        assert_problem(answer, 422, "validation_failed", ("url", "bad_format"))

    def test_a_deleted_one_is_gone_with_its_secrets(self, api, row):
        assert api.delete(f"{ALL}/{row.pk}").status_code == 204

        assert_problem(api.get(f"{ALL}/{row.pk}"), 404, "not_found")
        assert_problem(api.delete(f"{ALL}/{row.pk}"), 404, "not_found")
        assert WebhookEndpoint.objects.get().secrets == ""

    def test_off_and_on(self, api, row):
        off = post(api, f"/{row.pk}/disable").json()
        assert (off["enabled"], off["disabled_reason"]) == (False, "client")
        assert off["disabled_at"]
        assert post(api, f"/{row.pk}/disable").json() == off

        on = post(api, f"/{row.pk}/enable").json()

        assert (on["enabled"], on["disabled_reason"], on["disabled_at"]) == (True, "", None)

    def test_what_waited_while_it_was_off_goes_on(self, api, row, claim):
        tell(row.client)
        claim(free=0)
        post(api, f"/{row.pk}/disable")
        assert claim() == []

        post(api, f"/{row.pk}/enable")

        assert len(claim()) == 1


class TestRotate:
    def test_the_secret_before_signs_for_the_overlap_and_no_longer(self, api, row, claim):
        old = secret_of(row)
        new = post(api, f"/{row.pk}/rotate", {"overlap_seconds": 3600}).json()["secret"]
        tell(row.client)

        (shot,) = claim()

        request = shot.call.request
        for secret in (old, new):
            standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
        row.refresh_from_db()
        held = signatures.unseal(row.pk, row.secrets)
        assert signatures.valid(held, datetime.now(UTC) + timedelta(seconds=3700)) == [new]

    def test_without_an_overlap_the_old_ones_end_at_once(self, api, row):
        post(api, f"/{row.pk}/rotate")
        new = post(api, f"/{row.pk}/rotate", {"overlap_seconds": 0}).json()["secret"]

        row.refresh_from_db()
        assert signatures.unseal(row.pk, row.secrets) == {new: ""}

    def test_a_later_rotation_gives_an_older_secret_no_more_time(self, api, row):
        post(api, f"/{row.pk}/rotate", {"overlap_seconds": 60})
        second = secret_of(row)
        third = post(api, f"/{row.pk}/rotate", {"overlap_seconds": 3600}).json()["secret"]

        row.refresh_from_db()
        held = signatures.unseal(row.pk, row.secrets)
        assert signatures.valid(held, datetime.now(UTC) + timedelta(seconds=90)) == [third, second]

    def test_secrets_do_not_pile_up(self, api, row):
        for _ in range(signatures.MOST_SECRETS + 3):
            post(api, f"/{row.pk}/rotate")

        row.refresh_from_db()
        assert len(signatures.unseal(row.pk, row.secrets)) == signatures.MOST_SECRETS

    def test_a_repeat_rotates_once(self, api, row):
        first, again = (post(api, f"/{row.pk}/rotate", **{"Idempotency-Key": "r"}) for _ in range(2))

        assert first.json() == again.json()
        assert secret_of(row) == first.json()["secret"]

    def test_unreadable_secrets_can_be_replaced(self, api, client_row):
        row = endpoint(client_row, URL, secrets="v1.9.AAAA")

        assert post(api, f"/{row.pk}/rotate").json()["secret"] == secret_of(row)


class TestAttemptsAndReplays:
    def test_attempts_are_listed_newest_first_in_pages(self, api, row, claim):
        for _ in range(3):
            tell(row.client)
        shots = claim()
        sending.settle([Outcome(shots[0], 200, "", 0.0123)])
        sending.settle([Outcome(shot, 500, "http_500", 0.5) for shot in shots[1:]])

        first = api.get(f"{ALL}/{row.pk}/attempts", {"limit": "2"}).json()
        second = api.get(f"{ALL}/{row.pk}/attempts", {"limit": "2", "cursor": first["next_cursor"]}).json()

        assert [one["error_code"] for one in first["results"]] == ["http_500"] * 2
        (one,) = second["results"]
        assert (one["http_status"], one["seconds"], one["delivery_status"], one["next_at"]) == (
            200,
            0.012,
            "delivered",
            None,
        )
        assert second["next_cursor"] is None
        assert first["results"][0]["next_at"]

    @pytest.mark.parametrize(
        ("query", "field", "code"),
        [
            ("limit=0", "limit", "out_of_range"),
            ("limit=201", "limit", "out_of_range"),
            ("cursor=x", "cursor", "bad_format"),
            ("cursor=", "cursor", "bad_format"),
            ("limit=1&limit=2", "limit", "repeated"),
            ("status=failed", "status", "unknown_field"),
        ],
    )
    def test_a_wrong_query_is_refused(self, api, row, query, field, code):
        assert_problem(api.get(f"{ALL}/{row.pk}/attempts?{query}"), 422, "validation_failed", (field, code))

    def test_a_test_goes_to_this_endpoint_alone_and_not_to_kafka(self, api, client_row, claim):
        row = endpoint(client_row, URL, events=["message.failed"])
        endpoint(client_row, URL)

        answer = post(api, f"/{row.pk}/test")

        assert answer.status_code == 202
        (shot,) = claim()
        assert shot.endpoint_id == row.pk
        assert shot.call.request.headers["webhook-id"] == answer.json()["event_id"]
        event = Event.objects.get()
        assert (event.type, event.published_at is not None) == ("webhook.test", True)
        post(api, f"/{row.pk}/test")
        assert list(Event.objects.order_by("sequence").values_list("sequence", flat=True)) == [1, 2]

    def test_one_event_is_replayed(self, api, row, claim):
        tell(row.client)
        sending.settle([Outcome(shot, 200) for shot in claim()])
        event = Event.objects.get()

        answer = post(api, f"/{row.pk}/replay", {"event_id": str(event.id)})

        assert (answer.status_code, answer.json()) == (202, {"event_id": str(event.id)})
        assert len(claim()) == 1

    @pytest.mark.parametrize("whose", ["nobody's", "another client's"])
    def test_an_event_that_is_not_ours_is_unknown(self, api, row, whose):
        tell(ClientFactory())
        event_id = uuid7() if whose == "nobody's" else Event.objects.get().id

        with nothing_stored():
            assert_problem(post(api, f"/{row.pk}/replay", {"event_id": str(event_id)}), 404, "not_found")

    def test_a_time_is_replayed_in_the_background(self, api, row):
        since = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds")

        answer = post(api, f"/{row.pk}/replay", {"since": since, "failed_only": True})

        assert answer.status_code == 202
        replay = WebhookReplay.objects.get()
        assert (replay.failed_only, replay.finished_at) == (True, None)
        for _ in range(replays.MOST_OPEN - 1):
            post(api, f"/{row.pk}/replay", {"since": since})
        assert_problem(post(api, f"/{row.pk}/replay", {"since": since}), 409, "too_many_replays")

    @pytest.mark.parametrize(("path", "body"), [("test", {}), ("replay", {"event_id": str(uuid7())})])
    def test_nothing_is_sent_to_an_endpoint_that_is_off(self, api, client_row, path, body):
        row = endpoint(client_row, URL, enabled=False)

        with nothing_stored():
            assert_problem(post(api, f"/{row.pk}/{path}", body), 409, "endpoint_disabled")


CALLS = [
    ("get", "", None),
    ("patch", "", {"events": ["*"]}),
    ("delete", "", None),
    ("post", "/rotate", {}),
    ("post", "/disable", {}),
    ("post", "/enable", {}),
    ("post", "/test", {}),
    ("post", "/replay", {"since": "2999-01-01T00:00:00Z"}),
    ("get", "/attempts", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_anothers_endpoint_answers_like_one_that_does_not_exist(stranger, row, method, path, body):
    call = getattr(stranger, method)
    options = {} if body is None else {"data": body, "format": "json"}

    with nothing_stored():
        foreign = call(f"{ALL}/{row.pk}{path}", **options)
        unknown = call(f"{ALL}/{uuid7()}{path}", **options)

    assert_problem(foreign, 404, "not_found")
    assert (foreign.content, foreign.headers) == (unknown.content, unknown.headers)


@pytest.mark.parametrize(("method", "path", "body"), [*CALLS, ("post", None, {"url": URL}), ("get", None, None)])
def test_every_call_needs_the_scope(client_row, row, method, path, body):
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(client_row, scopes=['send', 'otp', 'read'])}")
    options = {} if body is None else {"data": body, "format": "json"}

    answer = getattr(http, method)(ALL if path is None else f"{ALL}/{row.pk}{path}", **options)

    assert_problem(answer, 403, "missing_scope")


def test_deliveries_of_one_client_are_no_business_of_another(stranger, row, claim):
    tell(row.client)
    claim()

    assert stranger.get(ALL).json() == {"results": []}
    assert WebhookDelivery.objects.count() == 1
