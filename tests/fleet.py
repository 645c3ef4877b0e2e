"""The service's own processes, started against the test database and ended with the test, whatever happens."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from django.db import connection

from config.local import web
from config.local.broker import create_schema
from config.local.postgres import die_with_parent
from messaging.states import LANES

ROOT = Path(__file__).parent.parent
Found = TypeVar("Found")


def wait_for(condition: Callable[[], Found], seconds: float = 20.0, pause: float = 0.05) -> Found:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(pause)
    raise AssertionError("it did not happen in time")


def database_url() -> str:
    return "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format_map(connection.settings_dict)


class Process:
    """One command in a session of its own, so that a signal reaches its children too; it writes to `log`."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={"PROCESS_NAME": name, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """`kill -9` of the process and its children."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def wait(self, seconds: float) -> int:
        """Its exit code; raises TimeoutExpired."""
        return self._process.wait(seconds)

    def stop(self, seconds: float = 30.0) -> int:
        """Ask the leader alone, as a container engine does; returns its exit code or raises TimeoutExpired."""
        self._process.terminate()
        try:
            return self._process.wait(seconds)
        finally:
            self.kill()


class Fleet:
    """Starts the processes of the service with settings shortened by `settings` (name=value).

    Hints go over the test database unless BROKER_URL is given. `extra_modules` are loaded by a worker
    after its tasks.
    """

    def __init__(self, directory: Path, **settings: object) -> None:
        self._directory = directory
        self._started: list[Process] = []
        url = database_url()
        shortened = {name: str(value) for name, value in settings.items()}
        if "BROKER_URL" not in shortened:
            create_schema(url)
        self.environment = {**os.environ, "DATABASE_URL": url, "BROKER_URL": url, **shortened}

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._started:
            process.signal(signal.SIGKILL)
        for process in self._started:
            process.kill()

    @property
    def output(self) -> str:
        """All that its processes have written."""
        return "".join(process.output for process in self._started)

    def report(self) -> str:
        """What runs, and the last lines of each, for a test that waits in vain."""
        running = [process for process in self._started if not process.ended]
        return "\n".join(f"{process.name}:\n" + "\n".join(process.output.splitlines()[-8:]) for process in running)

    def worker(self, *lanes: str, extra_module: str = "", **environment: str) -> Process:
        command = [sys.executable, "manage.py", "run_worker", *filter(None, [extra_module])]
        command += ["--path", ".", "--processes", "1", "--threads", "2", "--queues", *(lanes or LANES)]
        command += ["--worker-shutdown-timeout", "20000"]
        return self._start("worker", command, **environment)

    def sweeper(self) -> Process:
        return self._start("sweeper", [sys.executable, "manage.py", "run_sweeper"])

    def relay(self) -> Process:
        return self._start("relay", [sys.executable, "manage.py", "run_relay"])

    def bridge(self, **environment: str) -> Process:
        return self._start("bridge", [sys.executable, "manage.py", "run_bridge"], **environment)

    def program(self, name: str, *arguments: str, **environment: str) -> Process:
        """This Python with `arguments`."""
        return self._start(name, [sys.executable, *arguments], **environment)

    def web(self, port: int) -> Process:
        """Returns when it answers. PUBLIC_URL, which receipts are sent to, is the caller's to set."""
        process = self._start("web", [sys.executable, *web.command(port)])
        wait_for(lambda: process.ended or _answers(f"http://127.0.0.1:{port}/ready"), 30)
        assert not process.ended, process.output
        return process

    def _start(self, name: str, command: list[str], **environment: str) -> Process:
        number = len(self._started) + 1
        log = self._directory / f"{number:02}-{name}.log"
        process = Process(name, command, {**self.environment, **environment}, log)
        self._started.append(process)
        return process


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def rabbitmq_url() -> str:
    url = os.environ.get("RABBITMQ_URL", "")
    if not url and os.environ.get("CI") == "true":
        pytest.fail("RABBITMQ_URL is not set: in CI the suite runs on RabbitMQ too")
    if not url:
        pytest.skip("set RABBITMQ_URL=amqp://... to run on RabbitMQ (.ci/run starts one)")
    return url
