"""Real processes through a whole journey at LOG_LEVEL=DEBUG, failures included: what they write gives nobody away."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from django.db import connection

from messaging.clients import issue_key, split_key
from messaging.models import Attempt, Message
from tests.conftest import Carriers, free_ports
from tests.factories import ClientFactory, ProviderFactory
from tests.fleet import Fleet, wait_for
from tests.messaging.wire import Wire

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER, WORDS = "+380671234567", "Rosebud 483920"
LEAK = re.compile(r"67\D{0,9}123\D{0,9}45\D{0,9}67|(?i:rosebud)|483920")
QUOTE = """
CREATE FUNCTION quote() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'cannot store % for %', NEW.text, NEW."to"; END $$;
CREATE TRIGGER quote BEFORE INSERT ON messaging_message FOR EACH ROW WHEN (NEW.reference = 'broken')
EXECUTE FUNCTION quote()
"""


@pytest.fixture
def quoting_database() -> Iterator[None]:
    """A constraint that fails with a message that has the row in it, as PostgreSQL's own have."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(QUOTE)
        yield
        cursor.execute("DROP FUNCTION quote CASCADE")


@pytest.fixture
def quoting_provider() -> Iterator[Wire]:
    """It refuses everything and repeats the request in its answer."""
    wire = Wire()

    def refuse(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        said = body.decode()
        return 422, {"error": {"code": f"sorry {said}", "message": f"sorry {said}"}, "request": said, **headers}

    wire.answer = refuse
    yield wire
    wire.stop()


def test_no_line_of_a_whole_journey_has_a_number_a_text_or_a_secret(
    tmp_path: Path, carriers: Carriers, quoting_provider: Wire, quoting_database: None
) -> None:
    ProviderFactory(slug="mistaken", price="0.01")
    ProviderFactory(slug="quoting", base_url=quoting_provider.url, price="0.02")
    ProviderFactory(slug="refusing", price="0.03")
    ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token", price="0.04")
    token = issue_key(ClientFactory(slug="core-backend"))
    port = free_ports(1)
    site = f"http://127.0.0.1:{port}"
    settings = {"PUBLIC_URL": site, "LOG_LEVEL": "DEBUG", "POLL": 0.2, "SWEEP": 0.2, "SNAPSHOT_MAX_AGE": 0.1}

    with Fleet(tmp_path, **settings) as fleet:
        processes = [fleet.web(port), fleet.worker(extra_module="tests.journeys.quoting"), fleet.sweeper()]
        with requests.Session() as http:
            http.headers.update({"Authorization": f"Bearer {token}", "X-Request-ID": "of-the-journey"})
            statuses = misuse(http, site)
            message_id = http.post(f"{site}/api/v1/messages", json={"to": NUMBER, "text": WORDS}).json()["id"]
        wait_for(lambda: Message.objects.filter(status="delivered").exists())
        for process in processes:
            process.stop()
        output = [process.output for process in processes]

    assert statuses == [500, 422, 422, 422, 400, 415, 404, 404, 404, 401, 400, 422, 401]
    lines = [json.loads(line) for text in output for line in text.splitlines()]
    assert not LEAK.search("".join(output))
    for secret in secrets_of(token):
        assert secret not in "".join(output)
    assert_it_is_all_there(lines, message_id)


def misuse(http: requests.Session, site: str) -> list[int]:
    """Numbers and texts in every place where a caller can write."""
    url = f"{site}/api/v1/messages"
    good = {"to": NUMBER, "text": WORDS}
    return [
        answer.status_code
        for answer in (
            http.post(url, json={**good, "reference": "broken"}),
            http.post(url, json={**good, "to": NUMBER + "9" * 9}),
            http.post(url, json={**good, NUMBER: WORDS}),
            http.post(url, json={**good, "template": WORDS}),
            http.post(url, data=f'{{"to": "{NUMBER}", "{WORDS}', headers={"Content-Type": "application/json"}),
            http.post(url, data=good),
            http.get(f"{url}/{NUMBER}", params={"text": WORDS}),
            http.get(f"{site}/{NUMBER}/{WORDS}"),
            http.post(f"{site}/receipts/{NUMBER}/{WORDS}"),
            http.get(url, headers={"Authorization": f"Bearer {NUMBER} {WORDS}", "X-Request-ID": NUMBER}),
            http.get(url, headers={"Host": f"{NUMBER}.{WORDS.split()[0]}"}),
            http.get(url, params={"to": NUMBER + "x", "reference": WORDS}),
            http.post(f"{site}/receipts/carrier-a/{'0' * 32}", json={"to": NUMBER, "text": WORDS}),
        )
    ]


def secrets_of(token: str) -> list[str]:
    key = os.environ["CREDENTIALS_KEYS"].partition(":")[2]
    password = str(connection.settings_dict["PASSWORD"])
    return [split_key(token)[1], key, password, os.environ["SECRET_KEY"], "carrier-a-token", "secret-token"]


def assert_it_is_all_there(lines: list[dict], message_id: str) -> None:
    """Start and stop of every process, and the life of one message under its id."""
    for word in ("started", "stopped"):
        told = {line["process"] for line in lines if line["message"] == word}
        assert told >= {"worker", "sweeper"}
    own = [line for line in lines if line.get("message_id") == message_id]
    assert [line["request_id"] for line in own if line["message"] == "request"] == ["of-the-journey"]
    attempts = [(line["provider"], line["outcome"]) for line in own if line["message"] == "attempt"]
    assert attempts == [
        ("mistaken", "Rejected"),
        ("quoting", "Rejected"),
        ("refusing", "Unavailable"),
        ("carrier-a", "Accepted"),
    ]
    assert len(attempts) == Attempt.objects.count()
    errors = {line["message"]: line["error"] for line in lines if "error" in line}
    assert errors["adapter could not build a request"] == "ValueError"
    assert "RaiseException" in errors["unexpected error in a request"]
