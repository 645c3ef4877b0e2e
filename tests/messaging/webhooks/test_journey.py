"""A webhook from the event to the receiver, over real sockets, verified by two independent implementations."""

import json

import pytest
import standardwebhooks
import svix

from messaging import schema
from messaging.models import Event
from messaging.states import Status
from messaging.webhook_models import WebhookAttempt, WebhookDelivery
from messaging.webhooks import endpoints, sending
from tests.factories import ClientFactory
from tests.messaging.webhooks.receiver import endpoint, secret_of, tell, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def verified(secret, request):
    """The event; both libraries raise for a signature or a time that is wrong."""
    _, headers, body = request
    standardwebhooks.Webhook(secret).verify(body, headers)
    svix.Webhook(secret).verify(body, headers)
    return json.loads(body)


def test_failed_tries_are_repeated_by_the_schedule_until_one_is_taken(client_row, receiver, dispatch, settings):
    settings.WEBHOOK_SCHEDULE = [0.6, 1.2, 1.8]
    settings.WEBHOOK_TIMEOUT = 1.0
    answers = iter([500, 500, "hang", 200])
    receiver.answer = lambda handler: receiver.hang(handler) if (a := next(answers)) == "hang" else a
    row = endpoint(client_row, receiver.url)
    message = tell(client_row)

    dispatch()
    wait_for(lambda: WebhookDelivery.objects.filter(status="delivered").exists(), 30)

    event = Event.objects.get(subject=str(message.pk))
    assert [verified(secret_of(row), request)["id"] for request in receiver.requests] == [str(event.id)] * 4
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {str(event.id)}
    sent_at = [int(headers["webhook-timestamp"]) for _, headers, _ in receiver.requests]
    assert all(abs(at - seen) < 3 for at, (seen, _, _) in zip(sent_at, receiver.requests, strict=True))
    assert sent_at[0] < sent_at[2] < sent_at[3]
    attempts = list(WebhookAttempt.objects.order_by("number"))
    assert [(a.number, a.http_status, a.error_code) for a in attempts] == [
        (1, 500, "http_500"),
        (2, 500, "http_500"),
        (3, None, attempts[2].error_code),
        (4, 200, ""),
    ]
    assert attempts[2].error_code in ("read_timeout", "total_timeout")
    ended = [a.started_at.timestamp() + a.seconds for a in attempts]
    waited = [b.started_at.timestamp() - end for b, end in zip(attempts[1:], ended, strict=False)]
    for wait, planned in zip(waited, settings.WEBHOOK_SCHEDULE, strict=True):
        assert 0.8 * planned - 0.05 <= wait  # the upper end is the machine's: it is looked four times a second


def test_both_secrets_verify_while_a_rotation_overlaps_and_the_new_one_alone_after_it(
    client_row, caller, receiver, dispatch
):
    row = endpoint(client_row, receiver.url)
    dispatch()
    first = secret_of(row)
    tell(client_row)
    wait_for(lambda: len(receiver.requests) == 1)

    second = endpoints.rotate(caller, row.pk, {"overlap_seconds": 3600}).body["secret"]
    tell(client_row)
    wait_for(lambda: len(receiver.requests) == 2)
    third = endpoints.rotate(caller, row.pk, {"overlap_seconds": 0}).body["secret"]
    tell(client_row)
    wait_for(lambda: len(receiver.requests) == 3)

    before, during, after = receiver.requests
    verified(first, before)
    verified(first, during)
    verified(second, during)
    verified(third, after)
    _, headers, body = after
    for stale in (first, second):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(stale).verify(body, headers)
        with pytest.raises(svix.WebhookVerificationError):
            svix.Webhook(stale).verify(body, headers)


def test_the_body_is_the_envelope_of_kafka_and_keeps_to_its_schema(client_row, receiver, dispatch):
    endpoint(client_row, receiver.url)
    tell(client_row, Status.DELIVERED)

    dispatch()
    wait_for(lambda: receiver.requests)

    _, headers, body = receiver.requests[0]
    assert headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert schema.problem("message.event.v1.json", json.loads(body)) == ""


def test_several_workers_share_the_work_and_each_event_arrives_once(client_row, receiver, dispatch):
    endpoint(client_row, receiver.url)
    events = {str(Event.objects.get(subject=str(tell(client_row).pk)).id) for _ in range(40)}

    dispatch(3)
    wait_for(lambda: WebhookDelivery.objects.filter(status="delivered").count() == 40)

    assert sorted(headers["webhook-id"] for _, headers, _ in receiver.requests) == sorted(events)


def test_an_endpoint_that_hangs_holds_no_other_back(client_row, receiver, dispatch, settings):
    settings.WEBHOOK_SLOTS, settings.WEBHOOK_CONCURRENCY = 8, 2
    dead = ClientFactory()
    endpoint(dead, receiver.url.replace("/hook", "/dead"))
    endpoint(client_row, receiver.url)
    receiver.answer = lambda handler: receiver.hang(handler) if handler.path == "/dead" else 200
    for _ in range(20):
        tell(dead)
    for _ in range(20):
        tell(client_row)

    dispatch()
    wait_for(lambda: WebhookDelivery.objects.filter(status="delivered").count() == 20, 8)

    in_flight = WebhookDelivery.objects.filter(lease_until__isnull=False).count()
    receiver.ended.set()

    assert in_flight <= 2  # its share of the slots


def test_what_a_killed_worker_had_in_flight_is_sent_again(client_row, receiver, dispatch, claim, settings):
    settings.WEBHOOK_TIMEOUT = settings.GATE = 0.2
    endpoint(client_row, receiver.url)
    tell(client_row)
    settings_margin, sending.LEASE_MARGIN = sending.LEASE_MARGIN, 0.2
    try:
        assert len(claim()) == 1  # and then nothing is heard of it
    finally:
        sending.LEASE_MARGIN = settings_margin
    settings.WEBHOOK_TIMEOUT = settings.GATE = 5

    dispatch()
    wait_for(lambda: WebhookDelivery.objects.filter(status="delivered").exists())

    assert len(receiver.requests) == 1
    assert WebhookDelivery.objects.get().claims == 2


def test_verifications_are_told_too(receiver, dispatch):
    from tests.factories import ChallengeFactory
    from verification.records import close
    from verification.states import ChallengeStatus

    challenge = ChallengeFactory()
    endpoint(challenge.client, receiver.url, events=["verification.*"])
    tell(challenge.client)

    close("id = %(id)s", {"id": challenge.pk}, ChallengeStatus.CANCELLED, "client")
    dispatch()
    wait_for(lambda: receiver.requests)

    event = json.loads(receiver.requests[0][2])
    assert (event["type"], event["subject"]) == ("verification.cancelled", challenge.reference)
    assert schema.problem("verification.event.v1.json", event) == ""
    assert len(receiver.requests) == 1
