"""What the bridge does with records, whatever brought them."""

import itertools
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import connection, transaction

from messaging import bridge, commands, idempotency
from messaging.errors import Refusal
from messaging.kafka import Incoming
from messaging.models import DeadLetter, Event, IdempotencyKey, Message, Suppression
from messaging.states import Status
from providers.sql import rows
from tests.factories import ClientFactory, MessageFactory, ProviderFactory
from tests.fleet import wait_for
from tests.kafka import command
from tests.messaging.door import GOOD, URL

pytestmark = pytest.mark.django_db

offsets = itertools.count()
CANCEL = "messaging.message.cancel"


def record(value: object, *, key: bytes | None = None, offset: int | None = None, headers=()) -> Incoming:
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    at = next(offsets) if offset is None else offset
    return Incoming("messaging.commands", 0, at, key, raw, headers, datetime(2026, 1, 1, tzinfo=UTC))


def take(*values: object) -> None:
    bridge.take([record(value) for value in values])


def buried() -> list[str]:
    return list(DeadLetter.objects.order_by("id").values_list("reason", flat=True))


@pytest.fixture(autouse=True)
def provider(db):
    return ProviderFactory(price="0.04")


@pytest.fixture
def source(db):
    return ClientFactory(slug="core-backend", kafka_enabled=True)


def test_a_command_is_a_message_of_its_client(source):
    take(command(source, {**GOOD, "reference": "order-1", "class": "otp"}))

    message = Message.objects.get()
    assert (message.client, message.to, message.text) == (source, GOOD["to"], GOOD["text"])
    assert (message.reference, message.message_class, message.status) == ("order-1", "otp", "queued")
    assert Event.objects.get().type == "message.accepted"
    assert buried() == []


def test_a_group_of_several_clients_is_taken_at_once(source):
    other = ClientFactory(slug="kyc", kafka_enabled=True)

    take(*[command(client, GOOD) for client in (source, other, source, other, source)])

    assert (source.messages.count(), other.messages.count()) == (3, 2)


def test_a_command_that_is_read_again_changes_nothing(source):
    twice = record(command(source, GOOD))

    bridge.take([twice])
    bridge.take([twice])

    assert (Message.objects.count(), Event.objects.count(), buried()) == (1, 1, [])


def test_repeats_within_a_group_make_one_message(source):
    first, second = command(source, GOOD, id="first"), command(source, GOOD, id="second")

    take(first, second, first, first, second, second)

    assert (Message.objects.count(), IdempotencyKey.objects.count(), buried()) == (2, 2, [])


def test_another_command_under_the_same_id_is_buried(source):
    take(command(source, GOOD, id="key-1"))

    take(command(source, {**GOOD, "text": "Another"}, id="key-1"), command(source, GOOD, id="key-2"))

    assert Message.objects.count() == 2
    assert buried() == ["idempotency_mismatch"]


def test_a_refused_command_leaves_its_id_free_within_the_same_group_too(source):
    wrong, right = {**GOOD, "to": "+38067"}, GOOD

    take(command(source, wrong, id="key-1"), command(source, right, id="key-1"), command(source, right, id="key-1"))

    assert (Message.objects.count(), buried()) == (1, ["validation_failed"])


def test_topic_and_api_share_their_keys(source, api, client_row):
    client_row.kafka_enabled = True
    client_row.save()
    posted = api.post(URL, GOOD, format="json", HTTP_IDEMPOTENCY_KEY="key-1").json()

    take(command(client_row, GOOD, id="key-1"), command(client_row, GOOD, id="key-2"))
    replayed = api.post(URL, GOOD, format="json", HTTP_IDEMPOTENCY_KEY="key-2")

    assert Message.objects.count() == 2
    assert replayed["Idempotency-Replayed"] == "true"
    first, second = Message.objects.order_by("id")
    assert (str(first.pk), str(second.pk)) == (posted["id"], replayed.json()["id"])
    assert replayed.json().keys() == posted.keys()


POISON: dict[str, tuple[object, str]] = {
    "no value": (None, "tombstone"),
    "5 MB": (b'{"a": "' + b"x" * 5_000_000 + b'"}', "too_large"),
    "not JSON": (b"\x00\xff", "invalid_json"),
    "a repeated name": (b'{"id": "1", "id": "2"}', "invalid_json"),
    "nested without end": (b"[" * 60_000, "invalid_json"),
    "no object": ([1], "invalid_command"),
    "version 0.3": (command("core-backend", GOOD, specversion="0.3"), "wrong_version"),
    "no envelope": (GOOD, "wrong_version"),
    "unknown type": (command("core-backend", GOOD, type="messaging.message.read"), "unknown_type"),
    "a type that is a list": (command("core-backend", GOOD, type=[]), "unknown_type"),
    "another version's schema": (
        command("core-backend", GOOD, dataschema="https://x/messaging.message.send.v2.json"),
        "invalid_command",
    ),
    "no id": (command("core-backend", GOOD, id=""), "invalid_command"),
    "data as text": (command("core-backend", "hello"), "invalid_command"),
    "unknown field": (command("core-backend", {**GOOD, "hidden": 1}), "invalid_command"),
    "unknown client": (command("nobody", GOOD), "unknown_client"),
    "another's key": (command("core-backend", GOOD, subject="order-2"), "wrong_key"),
    "no such number": (command("core-backend", {**GOOD, "to": "+38067"}), "validation_failed"),
    "a lone surrogate": (command("core-backend", {**GOOD, "text": "\ud800"}), "validation_failed"),
    "no price": (command("core-backend", {**GOOD, "to": "+919876543210"}), "no_route"),
    "suppressed": (command("core-backend", {**GOOD, "to": "+380671234599"}), "recipient_suppressed"),
    "cancel of nothing": (command("core-backend", {"id": str(uuid.uuid4())}, type=CANCEL), "not_found"),
    "cancel by an unknown command": (command("core-backend", {"command_id": "x"}, type=CANCEL), "not_found"),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_buried_with_its_reason_and_the_rest_is_taken(source, name):
    Suppression.objects.create(msisdn="+380671234599", reason="opted_out")
    value, reason = POISON[name]
    poison = record(value, key=b"order-1", headers=[("trace", b"\x00abc"), ("none", None)])

    bridge.take([record(command(source, GOOD)), poison, record(command(source, GOOD))])

    assert Message.objects.count() == 2
    letter = DeadLetter.objects.get()
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (
        reason,
        "messaging.commands",
        0,
        poison.offset,
    )
    assert bytes(letter.key) == b"order-1"
    assert letter.headers == {"trace": "abc", "none": ""}
    assert (letter.raw if value is None else bytes(letter.raw)) == (poison.value and poison.value[: bridge.KEEP])
    assert letter.truncated == (reason == "too_large")
    assert letter.client == (source if value and b'"core-backend"' in poison.value else None)
    assert GOOD["to"] not in letter.detail
    assert "\x00" not in letter.detail


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enabled": False}, "client_disabled"),
        ({"kafka_enabled": False}, "kafka_disabled"),
        ({"scopes": ["read"]}, "missing_scope"),
    ],
)
def test_a_client_that_may_not_send_here_is_refused(source, change, reason):
    type(source).objects.filter(pk=source.pk).update(**change)

    take(command(source, GOOD))

    assert (Message.objects.count(), buried()) == (0, [reason])


def test_a_client_that_was_just_admitted_is_known_at_once(source):
    take(command("kyc", GOOD))
    ClientFactory(slug="kyc", kafka_enabled=True)

    take(command("kyc", GOOD))

    assert (Message.objects.count(), buried()) == (1, ["unknown_client"])


def test_an_otp_needs_its_scope(source):
    type(source).objects.filter(pk=source.pk).update(scopes=["send"])

    take(command(source, {**GOOD, "class": "otp"}), command(source, GOOD))

    assert (Message.objects.count(), buried()) == (1, ["missing_scope"])


def test_what_is_over_the_rate_of_its_client_waits_and_the_rest_is_taken(source):
    other = ClientFactory(slug="kyc", kafka_enabled=True)
    type(source).objects.filter(pk=source.pk).update(rate_limit=2)
    group = [record(command(client, GOOD)) for client in (source, source, source, other)]

    waiting = bridge.take(group)
    wait_for(lambda: not bridge.take(waiting), 5)

    assert waiting == [group[2]]
    assert (source.messages.count(), other.messages.count(), buried()) == (3, 1, [])


def test_a_cancel_waits_with_the_command_that_it_calls_back(source):
    other = ClientFactory(slug="kyc", kafka_enabled=True)
    theirs = MessageFactory(client=other)
    type(source).objects.filter(pk=source.pk).update(rate_limit=1)
    group = [
        record(command(source, GOOD, id="key-1")),
        record(command(source, GOOD, id="key-2")),
        record(command(source, {"command_id": "key-2"}, type=CANCEL)),
        record(command(other, {"id": str(theirs.pk)}, type=CANCEL)),
    ]

    waiting = bridge.take(group)
    wait_for(lambda: not bridge.take(waiting), 5)

    assert waiting == group[1:3]
    assert list(source.messages.order_by("id").values_list("status", flat=True)) == ["queued", "cancelled"]
    assert (other.messages.get().status, buried()) == ("cancelled", [])


def test_limits_that_change_within_a_group_lose_no_command(source):
    raw = json.dumps(command(source, GOOD)).encode(), json.dumps(command(source, GOOD)).encode()
    first, second = commands.read(None, raw[0]), commands.read(None, raw[1])
    group = [replace(first, caller=replace(first.caller, rate_limit=100)), second]

    with commands.reserved(group) as rooms:
        found = commands.carry_out(group, rooms)

    assert (found, source.messages.count()) == ([None, None], 2)


@pytest.mark.django_db(transaction=True)
def test_a_group_that_must_wait_for_another_request_uses_nothing_of_the_quota(source, monkeypatch):
    monkeypatch.setattr(idempotency, "LOCK_WAIT", "50ms")
    type(source).objects.filter(pk=source.pk).update(daily_quota=1)
    message = MessageFactory(client=source)
    group = [record(command(source, GOOD)), record(command(source, {"id": str(message.pk)}, type=CANCEL))]

    def take_elsewhere():
        try:
            return bridge.take(group)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Message.objects.lock({message.pk})
            taking = pool.submit(take_elsewhere)
            with pytest.raises(bridge.Busy):
                taking.result(10)
        again = pool.submit(take_elsewhere).result(10)

    assert (again, buried(), source.messages.count()) == ([], [], 2)


def test_what_is_over_the_daily_quota_is_buried_and_repeats_cost_nothing_of_it(source):
    type(source).objects.filter(pk=source.pk).update(daily_quota=2)
    first = record(command(source, GOOD))

    bridge.take([first, first, record(command(source, GOOD)), record(command(source, GOOD)), first])

    assert (Message.objects.count(), buried()) == (2, ["quota_exceeded"])


def test_poison_that_is_read_again_is_buried_once(source):
    poison = record(b"poison")

    bridge.take([poison])
    bridge.take([poison])

    assert len(buried()) == 1


def test_what_the_code_did_not_foresee_costs_one_command(source):
    rows("""CREATE FUNCTION mistake() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.text = 'mistake' THEN RAISE division_by_zero; END IF; RETURN NEW; END $$""")
    rows("""CREATE TRIGGER mistake BEFORE INSERT ON messaging_message FOR EACH ROW EXECUTE FUNCTION mistake()""")

    take(command(source, GOOD), command(source, {**GOOD, "text": "mistake"}), command(source, GOOD))

    assert (Message.objects.count(), buried()) == (2, ["internal_error"])


def test_what_the_code_did_not_foresee_costs_no_place_of_the_quota_but_its_own(source):
    type(source).objects.filter(pk=source.pk).update(daily_quota=3)
    rows("""CREATE FUNCTION mistake() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.text = 'mistake' THEN RAISE division_by_zero; END IF; RETURN NEW; END $$""")
    rows("""CREATE TRIGGER mistake BEFORE INSERT ON messaging_message FOR EACH ROW EXECUTE FUNCTION mistake()""")

    take(command(source, GOOD), command(source, {**GOOD, "text": "mistake"}), command(source, GOOD))
    take(command(source, GOOD))

    assert (Message.objects.count(), buried()) == (3, ["internal_error"])


def test_a_message_is_called_back_by_its_id_or_by_its_command(source):
    take(command(source, GOOD, id="key-1"), command(source, GOOD, id="key-2"))
    first, _ = Message.objects.order_by("id")

    take(
        command(source, {"id": str(first.pk)}, type=CANCEL),
        command(source, {"command_id": "key-2"}, type=CANCEL),
    )

    assert set(Message.objects.values_list("status", flat=True)) == {Status.CANCELLED}
    assert buried() == []


def test_send_and_cancel_in_one_group_are_done_in_their_order(source):
    take(
        command(source, GOOD, id="key-1"),
        command(source, {"command_id": "key-1"}, type=CANCEL),
        command(source, GOOD, id="key-2"),
        command(source, {"command_id": "key-3"}, type=CANCEL),
        command(source, GOOD, id="key-3"),
    )

    assert list(Message.objects.order_by("id").values_list("status", flat=True)) == ["cancelled", "queued", "queued"]
    assert buried() == ["not_found"]


def test_a_cancel_that_comes_too_late_is_no_mistake(source):
    message = MessageFactory(client=source, status=Status.DELIVERED)

    take(command(source, {"id": str(message.pk)}, type=CANCEL))

    assert (Message.objects.get().status, buried()) == (Status.DELIVERED, [])


def test_anothers_message_is_not_called_back(source):
    message = MessageFactory(client=ClientFactory())

    take(command(source, {"id": str(message.pk)}, type=CANCEL))

    assert (Message.objects.get().status, buried()) == (Status.QUEUED, ["not_found"])


def test_a_dead_letter_is_carried_out_once_its_reason_is_gone(source):
    type(source).objects.update(kafka_enabled=False)
    take(command(source, GOOD, id="key-1"))
    letter = DeadLetter.objects.get()

    with pytest.raises(Refusal, match="may not send commands"):
        commands.replay(letter)
    type(source).objects.update(kafka_enabled=True)
    commands.replay(letter)
    commands.replay(letter)

    assert Message.objects.count() == 1
    letter.refresh_from_db()
    assert letter.replayed_at is not None


def test_a_dead_letter_of_which_a_part_is_lost_is_not_carried_out(source):
    take(command(source, GOOD), json.dumps(command(source, GOOD)).encode() + b" " * 100_000)

    with pytest.raises(commands.Truncated):
        commands.replay(DeadLetter.objects.get())

    assert Message.objects.count() == 1
