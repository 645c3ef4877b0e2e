"""`make up` as a newcomer runs it: everything starts, the printed line works, Ctrl-C leaves nothing behind."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from confluent_kafka import Consumer, Producer

from config.local import pytest_plugin, up
from config.local.postgres import LocalError, free_port
from tests.config.processes import ends
from tests.kafka import command

CARRIERS = 4  # ports: control and three carriers


@pytest.fixture
def local() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="mexar-up-"))  # not tmp_path, which is closed to the database's user
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def ports_in_a_row(count: int) -> int:
    for first in range(20_000, 30_000, count):
        try:
            up.require_free("", range(first, first + count))
        except LocalError:
            continue
        return first
    raise AssertionError("no free ports")


def start(local: Path, web_port: int, carrier_port: int) -> subprocess.Popen[str]:
    of_the_test_run = {*pytest_plugin.ENVIRONMENT, "DATABASE_URL"}
    ports = {"WEB_PORT": str(web_port), "CARRIER_PORT": str(carrier_port), "KAFKA_PORT": str(free_port())}
    own = {"LOCAL_DIR": str(local), **ports, "KAFKA": "1", "ENV_FILE": ""}
    variables = {name: value for name, value in os.environ.items() if name not in of_the_test_run} | own
    return subprocess.Popen(
        [sys.executable, "-m", "config.local.up"], cwd=up.BASE_DIR, env=variables, stdout=subprocess.PIPE, text=True
    )


def read_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("curl "):
            return line
    raise AssertionError("it ended before it was ready:\n" + "".join(lines))


def get_delivered(facts: dict[str, str], message_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 5
    while True:
        answer = requests.get(
            f"{facts['api']}/messages/{message_id}",
            headers={"Authorization": f"Bearer {facts['api_key']}"},
            timeout=5,
        ).json()
        if answer["status"] == "delivered" or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)


@pytest.mark.skipif(not shutil.which("curl"), reason="apt-get install curl: the printed line is run as it is")
def test_printed_line_sends_a_message_that_arrives_and_ctrl_c_stops_everything(local: Path) -> None:
    carrier_port = ports_in_a_row(CARRIERS)
    web_port = ports_in_a_row(CARRIERS + 1) + CARRIERS
    process = start(local, web_port, carrier_port)
    try:
        line = read_until_ready(process)
        facts = json.loads((local / "demo.json").read_text())

        posted = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20).stdout  # noqa: S602

        assert posted.startswith("HTTP/1.1 202")
        assert facts["curl"] == line.strip()
        message = get_delivered(facts, json.loads(posted.split("\n")[-1])["id"])
        assert message["status"] == "delivered"
        assert [attempt["provider"] for attempt in message["attempts"]] == ["carrier-a"]
        inbox = requests.get(f"{facts['inbox']}api/inbox", timeout=5).json()["messages"]
        assert [received["to"] for received in inbox] == [message["to"]]
        assert_code_verifies(facts)
        assert_admin_opens(facts)
        assert_command_arrives(facts, message["to"])
        database = int((local / "postgres" / "postmaster.pid").read_text().split("\n")[0])
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.findall(r"up \| (\w+) stopped", rest) == [
        *("web", "worker", "sweeper", "imports", "relay", "bridge"),
        *("carriers", "kafka", "database"),
    ]
    assert ends(database)
    up.require_free("WEB_PORT", [web_port, *range(carrier_port, carrier_port + CARRIERS)])


def assert_code_verifies(facts: dict[str, str]) -> None:
    """From the start over the phone to the success; a person takes longer to read than all of it."""
    url, number = f"{facts['api']}/verifications", "+380671112233"
    with requests.Session() as http:
        http.headers["Authorization"] = f"Bearer {facts['api_key']}"
        started = time.monotonic()
        reference = http.post(url, json={"to": number, "purpose": "login"}, timeout=5).json()["reference"]
        code = read_code(facts, number)
        answer = http.post(f"{url}/{reference}/check", json={"code": code, "purpose": "login"}, timeout=5).json()
        seconds = time.monotonic() - started
    print(f"start, SMS and check: {seconds:.2f} s")
    assert (answer["valid"], answer["status"]) == (True, "verified")
    assert seconds < 3


def read_code(facts: dict[str, str], number: str) -> str:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        inbox = requests.get(f"{facts['inbox']}api/inbox", timeout=5).json()["messages"]
        for received in inbox:
            if received["to"] == number and (code := re.search(r"\b[0-9]{6}\b", received["text"])):
                return code[0]
        time.sleep(0.02)
    raise AssertionError("the inbox has no code")


def assert_command_arrives(facts: dict[str, str], to: str) -> None:
    """A command from Kafka is a message, and its events come back by Kafka."""
    producer = Producer({"bootstrap.servers": facts["kafka"]})
    producer.produce("messaging.commands", json.dumps(command("core-backend", {"to": to, "text": "By Kafka."})))
    assert producer.flush(10) == 0
    settings = {"group.id": "test", "auto.offset.reset": "earliest", "session.timeout.ms": 6000}
    consumer = Consumer({"bootstrap.servers": facts["kafka"], **settings})
    consumer.subscribe(["messaging.events"])
    delivered: set[bytes | None] = set()
    deadline = time.monotonic() + 40
    while len(delivered) < 2 and time.monotonic() < deadline:
        record = consumer.poll(1)
        if record and not record.error() and b'"type":"message.delivered"' in record.value():
            delivered.add(record.key())
    consumer.close()
    assert len(delivered) == 2  # the one that was posted, too


def assert_admin_opens(facts: dict[str, str]) -> None:
    session = requests.Session()
    assert session.get(facts["docs"], timeout=20).status_code == 200
    page = session.get(facts["admin"], timeout=20)
    credentials = {"username": facts["admin_user"], "password": facts["admin_password"]}
    form = {**credentials, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
    answer = session.post(page.url, data=form, headers={"Referer": page.url}, timeout=20)
    assert (answer.status_code, answer.url) == (200, facts["admin"])


def test_taken_port_is_told_in_one_line(local: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(local, taken.getsockname()[1], ports_in_a_row(CARRIERS))

        output, _ = process.communicate(timeout=20)

    assert process.returncode == 1
    assert output.count("\n") == 1
    assert "choose another by `make up WEB_PORT=...`" in output
