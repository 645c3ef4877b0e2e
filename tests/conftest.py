"""What every test may use: clean in-memory tables, callers, and real simulated carriers."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from django.apps import apps
from rest_framework.test import APIClient

from config import logs
from config.local.postgres import die_with_parent
from messaging import authentication, clients, quotas, texts
from messaging.clients import issue_key
from providers import health
from routing import networks, snapshot
from tests.factories import ClientFactory
from tests.kafka import Kafka
from tests.kafka.server import Server, server_or_skip
from verification import countries, profiles

pytest.register_assert_rewrite("tests.contract")

ROOT = Path(__file__).parent.parent


@pytest.fixture
def plain_static_files(settings):
    """For pages: hashed names need `collectstatic` first."""
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}


@pytest.fixture(scope="session", autouse=True)
def _no_permissions_of_libraries():
    """After a test that commits every permission is made anew, 3 ms for each app, and nobody uses these."""
    for label in ("axes", "django_otp", "otp_static", "otp_totp"):
        apps.get_app_config(label).models_module = None


@pytest.fixture
def boss(client, django_user_model):
    """A browser of somebody with all permissions."""
    client.force_login(django_user_model.objects.create_superuser("boss"))
    return client


@pytest.fixture(autouse=True)
def _fresh_tables():
    """A test must not see the providers, keys and breakers of the one before."""
    for table in (
        snapshot.tables,
        networks.plan,
        clients.keys,
        clients.sources,
        texts.edited,
        profiles.profiles,
        countries.rules,
    ):
        table.forget()
    health.forget()
    quotas.forget()
    authentication._used.clear()


class Lines(logging.Handler):
    """Log lines as production writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.setFormatter(logs.Json("tests"))

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + "\n"

    @property
    def all(self) -> list[dict]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, message: str) -> list[dict]:
        return [line for line in self.all if line["message"] == message]


@pytest.fixture
def lines():
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def client_row(db):
    return ClientFactory()


def caller_for(client):
    limits = (client.rate_limit, client.daily_quota)
    return clients.Caller(
        client.pk, client.slug, client.sender, frozenset(client.scopes), *limits, client.transliteration
    )


@pytest.fixture
def caller(client_row):
    return caller_for(client_row)


@pytest.fixture
def api(client_row):
    """An API client with a key of all scopes."""
    http = APIClient()
    # An id of its own: answers are compared with all their headers.
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(client_row)}", HTTP_X_REQUEST_ID="of-the-test")
    return http


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody uses."""
    for first in range(21000 + os.getpid() % 500 * 20, 60000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                found = socket.socket()
                sockets.append(found)
                found.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for found in sockets:
                found.close()
    raise RuntimeError("no free ports")


class Carriers:
    """The simulated carriers as a real process, and their control API."""

    def __init__(self, directory: Path, config: str | None = None) -> None:
        self.port = free_ports(8)
        self.ledger_file = directory / "ledger.jsonl"
        command = [sys.executable, "manage.py", "run_carrier", "--port", str(self.port)]
        command += ["--ledger", str(self.ledger_file)]
        if config:
            path = directory / "carriers.toml"
            path.write_text(config)
            command += ["--config", str(path)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGTERM)
        )
        try:
            self._wait()
        except BaseException:
            self.process.kill()
            raise

    def _wait(self) -> None:
        for _ in range(200):
            if self.process.poll() is not None:
                raise RuntimeError(f"run_carrier ended with {self.process.returncode}")
            try:
                self.get("/api/carriers")
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("run_carrier does not answer")

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.port + number}"

    def call(self, method: str, path: str, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def get(self, path: str):
        return self.call("GET", path)

    def faults(self, slug: str, *rules: dict) -> None:
        self.call("PUT", f"/api/carriers/{slug}/faults", list(rules))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)

    def entries(self, event: str | None = None) -> list[dict]:
        """The ledger as it stands in the file, with all that was answered before this call."""
        if self.process.poll() is None:
            self.get("/api/carriers")  # the carriers write once per turn of their loop
        found = [json.loads(line) for line in self.ledger_file.read_text().splitlines()]
        return [entry for entry in found if event is None or entry["event"] == event]


@pytest.fixture
def carriers(tmp_path):
    found = Carriers(tmp_path)
    yield found
    found.stop()


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory):
    """An Apache Kafka of the whole run, started by the first test that needs it."""
    found = Server(tmp_path_factory.mktemp("kafka"), server_or_skip())
    found.start()
    yield found
    found.kill()


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.broker)])
def kafka(request, settings):
    """Every test that uses it is a contract which the embedded broker and an Apache Kafka must both keep."""
    found = Kafka(request.getfixturevalue("kafka_server") if request.param == "apache" else None)
    for name, value in found.settings.items():
        setattr(settings, name, value)
    found.start()
    yield found
    found.end()


@pytest.fixture
def apache_kafka(kafka_server, settings):
    """For what the embedded broker cannot do, or is too weak a witness of."""
    found = Kafka(kafka_server)
    for name, value in found.settings.items():
        setattr(settings, name, value)
    found.start()
    return found
