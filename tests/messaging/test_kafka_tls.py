"""Mutual TLS and SASL over TLS against a real Apache Kafka: who gets in, who does not, and that it is told."""

import threading
import uuid

import pytest

from messaging import heartbeats
from messaging.kafka import KafkaStopped, Outgoing, Publisher, Subscriber, create_topics
from messaging.models import Message
from tests.certificates import Authority
from tests.factories import ClientFactory, ProviderFactory
from tests.fleet import Fleet, wait_for
from tests.kafka import command
from tests.kafka.server import PASSWORD, USER
from tests.messaging.door import GOOD

pytestmark = pytest.mark.broker


def mutual(server, certificate, authority=None):
    return {
        "KAFKA_BOOTSTRAP_SERVERS": server.tls_url,
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_CA_FILE": str((authority or server.authority).file),
        "KAFKA_CERTIFICATE_FILE": str(certificate.chain),
        "KAFKA_KEY_FILE": str(certificate.key),
    }


def sasl(server, password=PASSWORD):
    return {
        "KAFKA_BOOTSTRAP_SERVERS": server.sasl_url,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_CA_FILE": str(server.authority.file),
        "KAFKA_USERNAME": USER,
        "KAFKA_PASSWORD": password,
    }


@pytest.fixture
def use(settings):
    def found(values):
        for name, value in values.items():
            setattr(settings, name, value)

    return found


def name():
    return f"client-{uuid.uuid4().hex[:8]}"


def there_and_back(kafka):
    """What a publisher writes a subscriber reads."""
    publisher, subscriber = Publisher(), Subscriber(kafka.commands)
    try:
        taken = publisher.publish([Outgoing(kafka.commands, b"key", b"value", {})], threading.Event())
        records = wait_for(lambda: subscriber.fetch(1, 0.5), 20) if taken else []
        return [record.value for record in records]
    finally:
        publisher.close()
        subscriber.close()


def test_a_certificate_of_the_authority_gets_in(apache_kafka, kafka_server, use):
    use(mutual(kafka_server, kafka_server.authority.issue(name())))

    assert there_and_back(apache_kafka) == [b"value"]


def test_a_user_with_a_password_gets_in(apache_kafka, kafka_server, use):
    use(sasl(kafka_server))

    assert there_and_back(apache_kafka) == [b"value"]


def refused(values, use, monkeypatch):
    use(values)
    monkeypatch.setattr("messaging.kafka.ADMIN_WAIT", 2)
    with pytest.raises(KafkaStopped):
        create_topics({f"topic.{uuid.uuid4().hex}": 1}, 1)


def test_others_do_not(kafka_server, use, monkeypatch, tmp_path):
    stranger = Authority(tmp_path / "stranger")

    refused(mutual(kafka_server, stranger.issue("client")), use, monkeypatch)
    refused(mutual(kafka_server, kafka_server.authority.issue(name(), days=-1)), use, monkeypatch)
    refused(sasl(kafka_server, password="wrong"), use, monkeypatch)


def test_a_server_of_another_authority_or_name_is_not_trusted(kafka_server, use, monkeypatch, tmp_path):
    certificate = kafka_server.authority.issue(name())
    stranger = Authority(tmp_path / "stranger")
    port = kafka_server.tls_url.rpartition(":")[2]

    refused(mutual(kafka_server, certificate, stranger), use, monkeypatch)
    refused(mutual(kafka_server, certificate) | {"KAFKA_BOOTSTRAP_SERVERS": f"localhost:{port}"}, use, monkeypatch)


@pytest.mark.django_db(transaction=True)
def test_a_bridge_whose_certificate_has_expired_says_so_and_goes_on_with_a_new_one(
    apache_kafka, kafka_server, tmp_path
):
    ProviderFactory(price="0.04")
    ClientFactory(slug="core-backend", kafka_enabled=True)
    with apache_kafka.producer() as put:
        put(None, command("core-backend", GOOD))
    expired, fresh = kafka_server.authority.issue(name(), days=-1), kafka_server.authority.issue(name())
    with Fleet(tmp_path, **apache_kafka.settings | mutual(kafka_server, expired)) as fleet:
        process = fleet.bridge()
        wait_for(lambda: [word.state for word in heartbeats.words()] == ["waits"], 40)
        (word,) = heartbeats.words()
        stopped = process.stop(10)
        before = Message.objects.count()

        fleet.environment.update(mutual(kafka_server, fresh))
        fleet.bridge()
        wait_for(lambda: Message.objects.count() == 1, 40)

    assert (before, stopped) == (0, 0)
    assert word.detail.startswith("Kafka: ")
    assert "certificate" in process.output.lower()
