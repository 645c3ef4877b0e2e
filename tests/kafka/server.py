"""A real Apache Kafka for tests: one node in KRaft mode on 127.0.0.1, from the artifacts that Maven resolves.

Maven keeps the artifacts in its own repository, and the list of their files is kept beside it, so that a second run
asks nobody. Three doors: plain, mutual TLS, and SASL over TLS.
"""

import functools
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from config.local.postgres import die_with_parent, free_port
from tests.certificates import Authority
from tests.fleet import wait_for

POM = Path(__file__).parent / "pom.xml"
RESOLVE = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "messaging-tests"
JAVA = ["java", "-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
LOGGED = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
USER, PASSWORD = "messaging", "of-the-tests"


def server_or_skip() -> str:
    """The class path. Where it cannot be had a laptop skips, with a hint, and CI fails."""
    try:
        return class_path()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing} In CI the suite runs on an Apache Kafka too.")
        pytest.skip(f"{missing} The tests did not run on an Apache Kafka.")


class Missing(Exception):
    """No Apache Kafka can be started here; the message says what it needs."""


@functools.cache
def class_path() -> str:
    """Raises Missing."""
    if not (shutil.which("java") and shutil.which("mvn")):
        raise Missing("Install Java 17 and Maven (apt-get install default-jre-headless maven).")
    listed = CACHE / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}.classpath"
    if listed.exists() and all(Path(path).exists() for path in listed.read_text().split(":")):
        return listed.read_text()
    CACHE.mkdir(parents=True, exist_ok=True)
    written = listed.with_suffix(f".{os.getpid()}")
    command = ["mvn", "-q", "-B", "-f", str(POM), RESOLVE, "-DincludeScope=runtime", f"-Dmdep.outputFile={written}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        raise Missing("Maven did not get the artifacts of Apache Kafka in ten minutes.") from None
    if done.returncode:
        raise Missing(f"Maven cannot get the artifacts of Apache Kafka: {done.stdout.strip()[:300]}")
    written.rename(listed)
    return listed.read_text()


class Server:
    """It keeps its data over `kill` and `start`; `close` ends it."""

    def __init__(self, directory: Path, class_path: str) -> None:
        directory.mkdir(exist_ok=True)
        self._java = [*JAVA, *LOGGED, "-cp", class_path]
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = [free_port() for _ in range(4)]
        self.url, self.tls_url, self.sasl_url = (f"127.0.0.1:{port}" for port in self._ports[:3])
        self.authority = Authority(directory / "authority")
        self._log = directory / "kafka.log"
        self._properties = directory / "server.properties"
        certificate = self.authority.issue("kafka")
        keys = directory / "server.pem"
        keys.write_bytes(certificate.key.read_bytes() + certificate.chain.read_bytes())
        settings = _settings(self._ports, directory / "data", keys, self.authority.file)
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        user = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        options = ("-t", _cluster_id(), "-c", self._properties, "--add-scram", user)
        self._run("kafka.tools.StorageTool", "format", *options)

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._properties)],
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        wait_for(lambda: self._process.poll() is not None or self._listens(), 60)
        assert self._process.poll() is None, self._log.read_text()[-2000:]

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._ports[0])) == 0

    def _run(self, *command: object) -> None:
        done = subprocess.run([*self._java, *map(str, command)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def _cluster_id() -> str:
    return uuid.uuid4().hex[:22]


def _settings(ports: list[int], data: Path, keys: Path, authority: Path) -> dict[str, object]:
    doors = dict(zip(("PLAINTEXT", "SSL", "SASL_SSL"), ports, strict=False))
    listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in doors.items())
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{ports[3]}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{ports[3]}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "message.max.bytes": 10_000_000,  # what the bridge is to refuse must get this far
        "replica.fetch.max.bytes": 10_000_000,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # A node that was killed is known again soon.
        "broker.session.timeout.ms": 2000,
        "broker.heartbeat.interval.ms": 500,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keys,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority,
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }
