"""The AsyncAPI document is valid, holds the schemas as they are served, and shows what the code takes and makes."""

import json
import os
import shutil
import subprocess
import tarfile
from datetime import UTC, datetime

import jsonschema_rs
import pytest
import standardwebhooks

from messaging import schema
from messaging.openapi.asyncapi import document
from messaging.openapi.webhooks import CREATED
from messaging.webhooks import fanout, sending
from tests.factories import ClientFactory
from tests.messaging.documented import message_headers
from tests.messaging.test_kafka_doc import example
from tests.messaging.webhooks.receiver import endpoint, tell

SPECIFICATIONS = "@asyncapi/specs@6.11.1"  # the package of its makers


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The JSON Schema of AsyncAPI 3.0."""
    if shutil.which("npm") is None:
        hint = "npm is not installed: apt-get install npm"
        if os.environ.get("CI") == "true":
            pytest.fail(hint)
        pytest.skip(hint)
    folder = tmp_path_factory.mktemp("asyncapi")
    command = ["npm", "pack", "--silent", "--pack-destination", folder, SPECIFICATIONS]
    if subprocess.run(command, capture_output=True, timeout=60).returncode:
        pytest.skip(f"npm does not get {SPECIFICATIONS}")
    (archive,) = folder.iterdir()
    with tarfile.open(archive) as files:
        found = files.extractfile("package/schemas/3.0.0.json")
        assert found is not None
        return jsonschema_rs.validator_for(json.load(found))


def resolved(found, place):
    for step in place.removeprefix("#/").split("/"):
        found = found[step]
    return found


def references(found):
    if isinstance(found, dict):
        yield from [found["$ref"]] if isinstance(found.get("$ref"), str) else []
        found = list(found.values())
    for one in found if isinstance(found, list) else []:
        yield from references(one)


def messages():
    """Each with its channel, its own headers and payload in place of references."""
    told = document()
    for name, channel in told["channels"].items():
        for message in channel["messages"].values():
            traits = [resolved(told, trait["$ref"]) for trait in message.get("traits", ())]
            whole = {key: value for part in (*traits, message) for key, value in part.items()}
            if "$ref" in whole["payload"]:
                whole["payload"] = resolved(told, whole["payload"]["$ref"])["schema"]
            yield name, whole


def examples():
    return {(name, one["name"]): one for name, message in messages() for one in message["examples"]}


def test_it_is_asyncapi_3_0_by_the_schema_of_its_makers(official):
    official.validate(document())


def test_that_schema_would_find_a_mistake(official):
    told = document()

    for place, wrong in (("channels/webhook/address", 5), ("operations/post_webhooks/action", "post")):
        *path, last = place.split("/")
        broken = json.loads(json.dumps(told))
        resolved(broken, "/".join(path))[last] = wrong
        assert not official.is_valid(broken), place


def test_every_reference_leads_somewhere():
    told = document()
    found = set(references(told))

    assert len(found) > 10
    for place in found:
        assert resolved(told, place)


def test_every_schema_is_in_it_once_as_it_is_served(client):
    told = document()["components"]["schemas"]

    assert told.keys() == {name.removesuffix(".json") for name in schema.files()}
    for name, found in told.items():
        assert found["schema"] == client.get(f"/api/events/schemas/{name}.json").json()
        assert found["schema"]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert found["schemaFormat"] == "application/schema+json;version=draft-2020-12"


def test_every_schema_is_a_message_where_it_comes():
    where = {(channel, message["name"].split(".v1")[0]) for channel, message in messages()}

    events = {"message.event", "verification.event", "webhook.event", "provider.event"}
    commands = {"messaging.message.send", "messaging.message.cancel", "messaging.contact.trust"}
    assert where == {
        *(("messaging.events", name) for name in events),
        *(("messaging.commands", name) for name in commands),
        *(("webhook", name) for name in events - {"provider.event"}),
        ("messaging.commands.dlq", "dead_letter"),
    }


def test_the_examples_keep_to_their_schemas_and_headers():
    for _, message in messages():
        payload = jsonschema_rs.validator_for(message["payload"], validate_formats=True)
        for one in message["examples"]:
            payload.validate(one["payload"])
            assert one.get("headers", {}).keys() == set(message.get("headers", {}).get("required", ()))


def test_the_examples_are_those_of_the_pages(settings):
    settings.PUBLIC_URL = "https://sms.example.com"
    found = examples()

    assert found["messaging.events", "message.delivered"]["payload"] == example("event")
    for name, kind in (("send", "message.send"), ("cancel", "message.cancel"), ("trust", "contact.trust")):
        assert found["messaging.commands", f"messaging.{kind}"]["payload"] == example(name)


def test_the_example_of_a_webhook_is_signed():
    one = examples()["webhook", "message.delivered"]
    body = json.dumps(one["payload"], separators=(",", ":"))
    moment = datetime.fromtimestamp(int(one["headers"]["webhook-timestamp"]), UTC)

    signed = standardwebhooks.Webhook(CREATED["secret"]).sign(one["headers"]["webhook-id"], moment, body)

    assert one["headers"]["webhook-signature"] == signed


@pytest.mark.django_db
def test_a_webhook_has_the_headers_of_the_document():
    client = ClientFactory()
    endpoint(client, "https://example.com/hook")
    tell(client)
    fanout.fan_out()
    (shot,) = sending.claim(1, {}, 0)

    assert shot.call.request.headers.keys() == message_headers("webhook")


def test_topics_are_named_as_they_are_set_and_servers_are_not(settings):
    settings.KAFKA_EVENTS_TOPIC = "sms.events"
    settings.KAFKA_BOOTSTRAP_SERVERS = "kafka-7.internal:9093"

    assert document()["channels"]["messaging.events"]["address"] == "sms.events"
    assert "kafka-7.internal" not in json.dumps(document())


def test_it_is_served_to_everybody(client):
    answer = client.get("/api/events/asyncapi.json")

    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert answer.json()["asyncapi"] == "3.0.0"
    assert "/api/events/asyncapi.json" in client.get("/api/schema/").json()["info"]["description"]
