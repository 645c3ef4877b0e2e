"""What a run stands on: a throw-away PostgreSQL, a broker, the simulated carriers, and the fleets under test.

All of it lives in one directory and in child processes, and is gone when the run ends.
"""

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import rabbitmq
from config.local import postgres
from config.local.broker import create_schema
from providers.simulator.config import load as load_carriers
from tests.fleet import ROOT, Process, wait_for

CONFIGURATION = ROOT / "config" / "deploy" / "postgresql.conf"  # as shipped: durable
DATABASE_OPTIONS = {"shared_buffers": "1GB", "shared_preload_libraries": "pg_stat_statements"}
WAL_FILES = 128  # of 16 MB: min_wal_size


class World:
    """Use as `with World() as world`; `environment` is what every process of the run is given."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.fleets: list[Any] = []
        self.groups: dict[str, list[int]] = {}  # name -> pids, for cpu.Meter

    def __enter__(self) -> "World":
        with ExitStack() as stack:
            self.directory = postgres.home(Path(tempfile.gettempdir()) / f"mexar-bench-{secrets.token_hex(4)}")
            self.directory.mkdir(mode=0o755)
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            configuration = shutil.copy(CONFIGURATION, self.directory)  # where the server's account may read
            self.cluster = postgres.start(
                self.directory / "data",
                self.directory / "postgres.log",
                secrets.token_hex(16),
                options={**DATABASE_OPTIONS, "config_file": str(configuration)},
            )
            stack.callback(self.cluster.stop)
            self._recycle_wal()
            self.groups["postgres"] = [self.cluster.process.pid]
            self.environment = self._settings(self._broker(stack))
            self._carriers(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None and issubclass(kind, Exception):
            self._show_logs()
        self._stack.close()

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """This Python with `arguments`, in a session of its own; its output goes to a file."""
        log = self.directory / f"{name}.log"
        return Process(name, [sys.executable, *arguments], {**self.environment, **environment}, log)

    def run(self, *arguments: str, **environment: str) -> str:
        """Raises RuntimeError with the last lines when it fails."""
        command, variables = [sys.executable, *arguments], {**self.environment, **environment}
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-800:]}")
        return done.stdout

    def _recycle_wal(self) -> None:
        """As in a server that has been up for a while: its next log files are there, which stalls no commit."""
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as connection:
            for _ in range(WAL_FILES):
                connection.execute("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()")
            connection.execute("CHECKPOINT")

    def create_database(self, name: str) -> str:
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.cluster.url(name)

    def rest(self) -> None:
        """Stops the workers of every fleet."""
        for fleet in self.fleets:
            fleet.work(False)

    def version(self) -> str:
        with psycopg.connect(self.cluster.url("postgres")) as connection:
            return str(connection.execute("SHOW server_version").fetchone()[0])

    def reset_carriers(self, *, receipts: bool) -> None:
        """Empties ledger and inbox; without `receipts` the carriers never report."""
        self._control("POST", "/api/reset")
        for carrier in load_carriers().carriers:
            self._control(
                "PUT", f"/api/carriers/{carrier.slug}/faults", [] if receipts else [{"fault": "receipt_never"}]
            )

    def _show_logs(self) -> None:
        """They are removed with everything else, so a failure tells their last lines."""
        for log in sorted(self.directory.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-4:]
            print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)

    def _control(self, method: str, path: str, body: object = None) -> None:
        request = urllib.request.Request(f"{self._control_url}{path}", json.dumps(body).encode(), method=method)
        urllib.request.urlopen(request, timeout=10).close()

    def _broker(self, stack: ExitStack) -> str:
        url = os.environ.get("RABBITMQ_URL", "")
        self.broker = "RabbitMQ of RABBITMQ_URL"
        if not url and rabbitmq.SERVER.exists():
            url, process = stack.enter_context(rabbitmq.node(self.directory / "rabbitmq"))
            self.groups["rabbitmq"] = [process.pid]
            self.broker = "RabbitMQ started for this run"
        if not url:
            self.broker = "PostgreSQL (no RabbitMQ here: set RABBITMQ_URL or install rabbitmq-server)"
            url = self.create_database("hints")
            create_schema(url)
        return url

    def _settings(self, broker_url: str) -> dict[str, str]:
        alphabet = "abcdefghijklmnopqrstuvwxyz234567"
        self.api_key = f"mx_live_{''.join(secrets.choice(alphabet) for _ in range(12))}_{secrets.token_urlsafe(32)}"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        return kept | {
            "ENV_FILE": "",
            "SECRET_KEY": secrets.token_urlsafe(50),
            "CREDENTIALS_KEYS": "1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "OTP_KEYS": "1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "BROKER_URL": broker_url,
            "DEBUG": "false",
            "HTTPS": "false",  # nothing but loopback is served; TLS ends at the proxy in production
            "LOG_LEVEL": "INFO",
            "WEBHOOK_ALLOW_HTTP": "true",
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "BENCH_API_KEY": self.api_key,
        }

    def _carriers(self, stack: ExitStack) -> None:
        config = self.directory / "carriers.toml"
        tables = [
            f'[[carriers]]\nslug = "{c.slug}"\nmode = "{c.mode}"\nlag = {c.lag}\ntoken = "{c.token}"\n'
            f'currency = "{c.currency}"\nprices = {{ "*" = "{c.prices["*"]}" }}\nreceipt_after = 0.0\n'
            for c in load_carriers().carriers
        ]
        config.write_text("\n".join(tables))
        ledger = str(self.directory / "ledger.jsonl")
        process = self.start(
            *("carriers", "manage.py", "run_carrier", "--port", "0", "--ledger", ledger, "--config", str(config)),
            DATABASE_URL=self.cluster.url(),
            PUBLIC_URL="http://127.0.0.1",
        )
        stack.callback(process.kill)
        self.groups["carriers"] = [process.pid]
        wanted = len(tables) + 1
        wait_for(lambda: process.ended or len(re.findall("http://", process.output)) == wanted, 60)
        addresses = re.findall(r"^(\S+).* (http://[0-9.:]+)", process.output, re.MULTILINE)
        assert len(addresses) == wanted, process.output[-800:]
        self._control_url = addresses[0][1]
        for carrier, (slug, address) in zip(load_carriers().carriers, addresses[1:], strict=True):
            assert slug == carrier.slug
            name = carrier.slug.upper().replace("-", "_")
            self.environment[f"{name}_URL"] = address
            self.environment[f"{name}_TOKEN"] = carrier.token


def await_answer(process: Process, url: str) -> None:
    def answers() -> bool:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            return process.ended
        return True

    wait_for(answers, 60)
    assert not process.ended, process.output[-800:]


def say(text: str) -> None:
    """Progress; the result alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)
