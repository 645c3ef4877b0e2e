import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from rest_framework.test import APIClient

from messaging import cancellation, sweeper
from messaging.clients import issue_key
from messaging.errors import AlreadyLeft
from messaging.models import Attempt, Event, Message
from messaging.states import AttemptStatus, Status
from tests.factories import AttemptFactory, MessageFactory, ProviderFactory
from tests.messaging.door import GOOD, URL, assert_problem, nothing_stored
from tests.messaging.stages import claim, now, only_message

pytestmark = pytest.mark.django_db
LEFT = [Status.SENDING, Status.SENT, Status.UNKNOWN, Status.HELD, Status.DELIVERED, Status.UNDELIVERED]
CLOSED = [Status.FAILED, Status.EXPIRED]


@pytest.fixture
def cancel(api):
    return lambda message: api.post(f"{URL}/{getattr(message, 'id', message)}/cancel")


@pytest.fixture
def provider(db):
    return ProviderFactory(price="0.04")


@pytest.mark.parametrize("status", [Status.QUEUED, Status.SCHEDULED])
def test_a_message_that_has_not_left_is_cancelled(api, cancel, client_row, status):
    message = MessageFactory(client=client_row, status=status)

    answer = cancel(message)

    assert answer.status_code == 200
    body = answer.json()
    assert (body["id"], body["status"]) == (str(message.id), "cancelled")
    assert body["closed_at"] is not None
    assert body == api.get(f"{URL}/{message.id}").json()
    event = Event.objects.get()
    assert (event.type, event.subject, event.sequence) == ("message.cancelled", str(message.id), 1)


def test_a_cancelled_message_is_never_claimed(api, cancel, provider):
    told = api.post(URL, GOOD, format="json").json()
    later = api.post(URL, {**GOOD, "send_at": (now() + timedelta(seconds=60)).isoformat()}, format="json").json()

    for message in (told, later):
        cancel(message["id"])
    Message.objects.update(not_before=now() - timedelta(seconds=1))
    sweeper.sweep()

    assert claim() == []
    assert set(Message.objects.values_list("status", flat=True)) == {Status.CANCELLED}


def test_cancelling_again_changes_nothing(cancel, client_row):
    message = MessageFactory(client=client_row)
    first = cancel(message)

    with nothing_stored():
        second = cancel(message)

    assert (second.status_code, second.json()) == (200, first.json())


def test_a_message_that_no_provider_took_can_be_cancelled(cancel, client_row, provider):
    message = MessageFactory(client=client_row)
    AttemptFactory(message=message, provider=provider, status=AttemptStatus.NOT_SENT)

    body = cancel(message).json()

    assert (body["status"], [attempt["status"] for attempt in body["attempts"]]) == ("cancelled", ["not_sent"])


@pytest.mark.parametrize(
    ("status", "code"),
    [(status, "already_left") for status in LEFT] + [(status, "already_closed") for status in CLOSED],
)
def test_what_has_left_or_is_closed_stays_as_it_is(cancel, client_row, status, code):
    message = MessageFactory(client=client_row, status=status)

    with nothing_stored():
        answer = cancel(message)

    assert_problem(answer, 409, code)
    assert answer.json()["detail"] == f"It is {status}."


def test_every_status_has_its_answer():
    assert {*LEFT, *CLOSED, Status.QUEUED, Status.SCHEDULED, Status.CANCELLED} == set(Status)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.FAILED])
def test_what_may_have_gone_out_is_not_called_cancelled(cancel, client_row, status):
    message = MessageFactory(client=client_row, status=status, possible_duplicate=True)

    with nothing_stored():
        answer = cancel(message)

    assert_problem(answer, 409, "already_left")


def test_another_clients_message_is_unknown(cancel):
    foreign = MessageFactory()

    with nothing_stored():
        theirs, nobodys = cancel(foreign), cancel(uuid.uuid4())

    assert_problem(theirs, 404, "not_found")
    assert (theirs.content, dict(theirs.items())) == (nobodys.content, dict(nobodys.items()))


@pytest.mark.parametrize("name", ["1", "batch", "%00"])
def test_what_is_no_id_is_unknown(cancel, name):
    assert_problem(cancel(name), 404, "not_found")


def test_a_key_without_the_scope_send(client_row):
    message = MessageFactory(client=client_row)
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(client_row, scopes=['read', 'otp'])}")

    with nothing_stored():
        answer = http.post(f"{URL}/{message.id}/cancel")

    assert_problem(answer, 403, "missing_scope")


@pytest.mark.parametrize("body", [b"", b"{}", b"{", b"x" * 100_000])
def test_a_body_is_not_read(api, client_row, body):
    message = MessageFactory(client=client_row)

    answer = api.generic("POST", f"{URL}/{message.id}/cancel", body, content_type="text/plain")

    assert answer.status_code == 200


def test_a_message_is_not_cancelled_by_reading(api, client_row):
    message = MessageFactory(client=client_row)

    answer = api.get(f"{URL}/{message.id}/cancel")

    assert_problem(answer, 405, "method_not_allowed")
    assert only_message().status == Status.QUEUED


# --- races ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_claim_and_a_cancel_never_both_win(caller, client_row, provider):
    messages = [message.id for message in MessageFactory.create_batch(150, client=client_row)]
    cancelled: list = []
    refused: list = []
    claimed: list = []
    start = threading.Barrier(5)

    def worker():
        start.wait(20)
        try:
            while offers := claim(limit=3):
                claimed.extend(offer.message_id for offer in offers)
        finally:
            connection.close()

    def canceller(seed):
        mine = random.Random(seed).sample(messages, len(messages))
        start.wait(20)
        try:
            for message_id in mine:
                try:
                    cancellation.cancel(caller, message_id)
                    cancelled.append(message_id)
                except AlreadyLeft:
                    refused.append(message_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        running = [pool.submit(worker) for _ in range(2)] + [pool.submit(canceller, seed) for seed in range(3)]
        for found in running:
            found.result(60)

    assert set(cancelled) | set(claimed) == set(messages)
    assert set(cancelled).isdisjoint(claimed)
    assert set(refused) == set(claimed)
    assert len(claimed) == len(set(claimed))
    assert cancelled  # else nobody raced
    assert claimed
    assert set(Message.objects.filter(status=Status.CANCELLED).values_list("pk", flat=True)) == set(cancelled)
    assert set(Attempt.objects.values_list("message_id", flat=True)) == set(claimed)
    assert Event.objects.filter(type="message.cancelled").count() == len(set(cancelled))


@pytest.mark.django_db(transaction=True)
def test_a_cancel_waits_for_the_claim_that_holds_the_message(caller, client_row, provider):
    message = MessageFactory(client=client_row)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            (offer,) = claim()
            cancelling = pool.submit(_cancel, caller, message.id)
            with pytest.raises(TimeoutError):
                cancelling.result(0.3)
        with pytest.raises(AlreadyLeft):
            cancelling.result(20)

    assert offer.message_id == message.id
    assert only_message().status == Status.SENDING


@pytest.mark.django_db(transaction=True)
def test_a_claim_passes_by_a_message_that_is_being_cancelled(caller, client_row, provider):
    message = MessageFactory(client=client_row)

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        cancellation.cancel(caller, message.id)
        offers = pool.submit(_claim).result(20)

    assert offers == []
    assert only_message().status == Status.CANCELLED


def _cancel(caller, message_id):
    try:
        cancellation.cancel(caller, message_id)
    finally:
        connection.close()


def _claim():
    try:
        return claim()
    finally:
        connection.close()
