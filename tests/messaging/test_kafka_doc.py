"""The page about Kafka shows what is true."""

import json
import re

import pytest

from config.local.up import BASE_DIR
from messaging import bridge, schema
from messaging.models import DeadLetter, Message
from tests.factories import ClientFactory, ProviderFactory
from tests.messaging.test_commands import record

PAGE = (BASE_DIR / "docs" / "kafka.md").read_text()


def example(name):
    return json.loads(re.search(rf"```json {name}\n(.*?)```", PAGE, re.DOTALL)[1])


def test_the_event_keeps_to_its_schema():
    assert schema.problem("message.event.v1.json", example("event")) == ""


@pytest.mark.django_db
def test_the_commands_are_carried_out():
    ProviderFactory(price="0.04")
    ClientFactory(slug="core-backend", kafka_enabled=True)

    sent = [record(example(name), key=b"order-4711") for name in ("send", "cancel")]
    bridge.take([*sent, record(example("trust"), key=b"customer-815")])

    assert (Message.objects.get().status, DeadLetter.objects.count()) == ("cancelled", 0)


def test_the_page_the_tests_and_the_compose_file_have_one_version():
    image = re.search(r"apache/kafka:(\S+)", (BASE_DIR / "docker-compose.yml").read_text())[1]

    assert f"<version>{image}</version>" in (BASE_DIR / "tests" / "kafka" / "pom.xml").read_text()
    assert f"Apache Kafka {image.rpartition('.')[0]}" in PAGE


def test_every_type_of_event_and_command_is_named():
    for entry in schema.catalogue():
        name = entry["type"] if entry["type"].startswith("messaging.") else entry["type"].rpartition(".")[2]
        assert f"`{name}`" in PAGE or f"`{entry['type']}`" in PAGE, entry["type"]
