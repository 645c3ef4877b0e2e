"""`manage.py erase_number`: afterwards the number stands in no table but that of opt-outs."""

import io
import json
from datetime import UTC, datetime

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command

from messaging.models import DeadLetter, Event, IdempotencyKey, Message, Receipt, Suppression
from providers.sql import rows
from routing.networks import Seen, remember
from tests.factories import AttemptFactory, ProviderFactory
from tests.messaging.door import APPS, URL
from tests.verification.phone import NUMBER, PAYMENT, check, code_of, start
from verification.models import Block, Bucket, Challenge, Refused, TrustedNumber

pytestmark = pytest.mark.django_db
OTHER = "+380671234568"
WAYS = [NUMBER, "+38 (067) 123-45-67", "tel 380.671.234.567"]


@pytest.fixture(autouse=True)
def provider(db):
    return ProviderFactory(slug="carrier-a", price="0.04")


def run(*arguments):
    out = io.StringIO()
    call_command("erase_number", *arguments, stdout=out)
    *counts, last = out.getvalue().splitlines()
    return {name: int(count) for count, name in (line.split(maxsplit=1) for line in counts)}, last


def tables_with(number):
    """Of ours, those that hold it anywhere: as text, or as bytes in hexadecimal."""
    models = [model for label in APPS for model in apps.get_app_config(label).get_models()]
    digits = number[1:]
    sought = {"text": f"%{digits}%", "bytes": f"%{digits.encode().hex()}%"}
    statement = "SELECT count(*) FROM {} t WHERE t::text LIKE %(text)s OR t::text LIKE %(bytes)s"
    return {model.__name__ for model in models if rows(statement.format(model._meta.db_table), sought)[0][0]}


def letter(raw, offset):
    now = datetime.now(UTC)
    return DeadLetter.objects.create(
        topic="c", partition=0, offset=offset, produced_at=now, received_at=now, key=raw, raw=raw, reason="x"
    )


def live(api, number):
    """Whatever can hold a number, closed."""
    remember([Seen(number, "255", "01")])
    body = {"to": number, "text": f"Hello {number}", "reference": number, "metadata": {"phone": WAYS[1]}}
    api.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY=f"key-{number[-1]}")
    reference = start(api, to=number, purpose="payment", context=PAYMENT, client_ip="203.0.113.7", device_id="d")
    check(api, reference, "1", purpose="payment", context=PAYMENT)
    check(api, reference, code_of(reference), purpose="payment", context=PAYMENT)
    row = Challenge.objects.get(reference=reference)
    message = Message.objects.filter(to=number, renderer="").get()
    attempt = AttemptFactory(message=message, provider=ProviderFactory())
    now = datetime.now(UTC)
    receipt = {"provider": attempt.provider, "status": "delivered", "received_at": now, "apply_at": now}
    Receipt.objects.create(attempt=attempt, dedupe_key=number.encode()[:3] + b"1", raw={"to": number}, **receipt)
    Receipt.objects.create(dedupe_key=b"early", raw={"To": int(number[1:]), "n": WAYS[2]}, **receipt)
    Refused.objects.create(
        client=row.client, purpose="login", to=number, country="UA", rule="number", detail="", created_at=now
    )
    TrustedNumber.objects.create(msisdn=number, reason="test")
    Block.objects.create(kind="number", value=number, reason="old", expires_at=now, lifted_at=now)
    for offset, way in enumerate(WAYS):
        letter(b"\x00\xff" + way.encode(), offset)
    Message.objects.update(status="delivered")


def test_the_number_is_nowhere_afterwards_but_among_the_opt_outs(api):
    live(api, NUMBER)
    Suppression.objects.create(msisdn=NUMBER, reason="stop")
    assert len(tables_with(NUMBER)) > 8

    changed, last = run(NUMBER, "--yes")

    assert tables_with(NUMBER) == {"Suppression"}
    assert last == "erased; opt-outs and blocks in force stay"
    assert min(changed.values()) > 0
    assert set(Message.objects.values_list("to", "text")) == {("+380*********", "")}
    assert Challenge.objects.values_list("to", "context", "ip", "device").get() == ("+380*********", {}, None, "")
    assert run(NUMBER, "--yes")[0] == dict.fromkeys(changed, 0)


def test_without_yes_it_counts_the_same_and_changes_nothing(api):
    live(api, NUMBER)
    before = tables_with(NUMBER)

    counted, last = run(NUMBER)

    assert tables_with(NUMBER) == before
    assert last == "dry run: --yes does it"
    assert counted == run(NUMBER, "--yes")[0]


def test_another_number_is_left_alone(api):
    api.post(URL, {"to": OTHER, "text": "Hello", "metadata": {"phone": NUMBER + "8"}}, format="json")
    live(api, NUMBER)
    message = Message.objects.filter(to=OTHER).values().get()

    run(NUMBER, "--yes")

    assert Message.objects.filter(to=OTHER).values().get() == message


@pytest.mark.parametrize("way", WAYS)
def test_the_number_is_found_as_people_write_it(api, way):
    api.post(URL, {"to": NUMBER, "text": "Hello", "metadata": {"phone": way}}, format="json", HTTP_IDEMPOTENCY_KEY="k")
    Message.objects.update(status="delivered")
    DeadLetter.objects.all().delete()
    letter(json.dumps({"data": {"to": way}}).encode(), 1)

    run(WAYS[1], "--yes")

    written = [Message.objects.get().metadata, Event.objects.get().data, IdempotencyKey.objects.get().body]
    assert "123" not in json.dumps(written).replace(str(Message.objects.get().pk), "")
    assert bytes(DeadLetter.objects.get().raw) == b""


@pytest.mark.parametrize("status", ["scheduled", "queued", "sending", "unknown", "held", "sent"])
def test_what_is_under_way_stops_it(api, status):
    api.post(URL, {"to": NUMBER, "text": "Hello"}, format="json")
    Message.objects.update(status=status)

    with pytest.raises(CommandError, match="1 messages of this number are not closed yet"):
        run(NUMBER, "--yes")

    assert Message.objects.get().to == NUMBER


def test_a_pending_verification_stops_it(api):
    start(api)
    Message.objects.update(status="delivered")

    with pytest.raises(CommandError, match="1 verifications of this number"):
        run(NUMBER)


def test_what_was_sent_and_never_heard_of_can_be_erased(api):
    api.post(URL, {"to": NUMBER, "text": "Hello"}, format="json")
    Message.objects.update(status="sent", receipt_overdue=True)

    assert run(NUMBER, "--yes")[0]["messages"] == 1


def test_groups_follow_each_other_until_nothing_is_left(api, monkeypatch):
    monkeypatch.setattr("messaging.erasure.GROUP", 2)
    for _ in range(5):
        api.post(URL, {"to": NUMBER, "text": "Hello"}, format="json")
    Message.objects.update(status="failed")

    assert run(NUMBER, "--yes")[0]["messages"] == 5


def test_a_block_in_force_stays():
    Block.objects.create(kind="number", value=NUMBER, reason="fraud")

    run(NUMBER, "--yes")

    assert Block.objects.exists()
    assert not Bucket.objects.exists()


@pytest.mark.parametrize("number", ["380671234567", "x", "+38067", ""])
def test_what_is_no_number(number):
    with pytest.raises(CommandError, match="no number"):
        run(number, "--yes")


def test_the_log_has_the_count_and_not_the_number(api, lines, caplog):
    caplog.set_level("INFO", logger="messaging")
    api.post(URL, {"to": NUMBER, "text": "Hello"}, format="json")
    Message.objects.update(status="failed")

    run(NUMBER, "--yes")

    (line,) = lines.of("number erased")
    assert line["count"] == 1
    assert "1234567" not in lines.text
