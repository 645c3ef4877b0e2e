"""The JSON Schemas say what the code does: every event keeps to one, and so does every command that is taken."""

import json

import pytest
from hypothesis import given

from messaging import drafts, outbox, schema
from messaging.cloudevents import Told, encode
from messaging.errors import Refusal
from messaging.models import Event, Message
from messaging.moves import Move
from messaging.states import PUBLIC, Status, allowed
from providers.health import Transition
from tests.factories import MessageFactory, ProviderFactory
from tests.kafka import command
from tests.messaging import corpus
from tests.messaging.door import GOOD, URL

SEND = "messaging.message.send.v1.json"


def told():
    """Every event as it goes out."""
    for event in Event.objects.select_related("client").order_by("id"):
        slug = event.client.slug if event.client else None
        row = Told(event.id, event.type, event.subject, event.sequence, slug, event.created_at, json.dumps(event.data))
        yield json.loads(encode(row))


def name_of(event):
    return event["dataschema"].rsplit("/", 1)[1]


@pytest.mark.django_db
def test_every_event_keeps_to_the_schema_that_it_names(api, client_row):
    provider = ProviderFactory(price="0.04")
    api.post(URL, {**GOOD, "reference": "a", "metadata": {"b": "c"}}, format="json")
    for target in sorted(PUBLIC):
        origin = next(status for status in Status if allowed(status, target))
        message = MessageFactory(client=client_row, status=origin)
        Message.objects.transition([Move(message.id, target, error_code="x", provider_id=provider.pk)])
    down = Transition(provider.pk, "UA", "open", "timeouts")
    outbox.tell_health([down, Transition(provider.pk, "", "closed", "probe")])

    events = list(told())

    assert [(event["type"], problem) for event in events if (problem := schema.problem(name_of(event), event))] == []
    assert {event["type"] for event in events} == {
        entry["type"] for entry in schema.catalogue() if entry["type"].startswith(("message.", "provider."))
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"specversion": "0.3"}, "specversion: "),
        ({"sequence": "1"}, "sequence: "),
        ({"sequence": 0}, "sequence: "),
        ({"type": "message.read"}, "type: "),
        ({"time": "now"}, "time: "),
        ({"text": "secret"}, "command: additionalProperties"),
        ({"data": {}}, "data: "),
    ],
)
@pytest.mark.django_db
def test_what_is_no_event_is_found(api, change, problem):
    ProviderFactory(price="0.04")
    api.post(URL, GOOD, format="json")
    (event,) = told()

    assert schema.problem(name_of(event), {**event, **change}).startswith(problem)


def test_a_full_number_is_no_masked_one():
    masked = schema.validator("message.event.v1.json")
    data = {"to_masked": GOOD["to"]}

    assert any(list(error.instance_path) == ["data", "to_masked"] for error in masked.iter_errors({"data": data}))


def accepted(body):
    try:
        drafts.read(body)
    except Refusal:
        return False
    return True


def test_the_schema_refuses_nothing_that_the_reader_takes():
    right = [body for body in corpus.MESSAGES if accepted(body)]

    assert len(right) > 50
    assert [(body, found) for body in right if (found := schema.problem(SEND, command("a", body)))] == []


@given(corpus.bodies())
def test_the_schema_refuses_nothing_that_the_reader_takes_of_anything(body):
    found = schema.problem(SEND, command("a", body))

    assert not found or not accepted(body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"to": GOOD["to"]},
        {**GOOD, "template": "a"},
        {**GOOD, "params": {"a": "b"}},
        {**GOOD, "hidden": 1},
        {**GOOD, "class": "urgent"},
        {**GOOD, "validity_seconds": 9},
        {**GOOD, "metadata": {"a": 1}},
        {**GOOD, "text": "x" * 1531},
        {**GOOD, "to": 380671234567},
    ],
)
def test_the_schema_refuses_what_it_can_describe(body):
    assert schema.problem(SEND, command("a", body))


def test_what_is_wrong_is_told_without_the_value_and_without_names_of_the_callers_own():
    wrong = {**GOOD, "to": 380671234567, "380671234568": "secret", "metadata": {"380671234569": 5}}

    for body in (wrong, {**wrong, "to": GOOD["to"]}, {**GOOD, "metadata": wrong["metadata"]}):
        problem = schema.problem(SEND, command("a", body))
        assert problem
        assert "38067" not in problem
        assert "secret" not in problem


def test_schemas_are_served_under_the_addresses_that_the_list_gives(client):
    found = client.get("/api/events/schemas/").json()["schemas"]

    assert {entry["type"] for entry in found} >= {"message.sent", "provider.down", "messaging.message.send"}
    for entry in found:
        answer = client.get(entry["schema"])
        assert answer["Content-Type"] == "application/schema+json"
        types = answer.json()["properties"]["type"]
        assert entry["type"] in (types.get("enum") or [types["const"]])


def test_a_schema_that_is_not_there(client):
    answer = client.get("/api/events/schemas/../settings.py")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get("/api/events/schemas/message.event.v2.json").status_code == 404
