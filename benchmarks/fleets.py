"""The processes under test, started as production starts them: the product's, and the naive pipeline's."""

import os
from contextlib import suppress
from typing import Any

import phonenumbers
import pika
import psycopg
from pika.exceptions import ChannelClosedByBroker
from psycopg.errors import DeadlockDetected, LockNotAvailable

from benchmarks.world import World, await_answer
from config.local import postgres, web
from messaging.states import LANES
from providers.simulator.config import load as load_carriers
from tests.fleet import Process, wait_for

CORES = os.cpu_count() or 1


class Fleet:
    """Web processes and, when asked for, workers; of the product or of the naive pipeline.

    All fleets of a run share its broker.
    """

    groups: tuple[str, str]  # what its web processes and its workers are called in the figures
    table: str  # of its messages
    earlier: dict[str, list[str]]  # status -> what a message short of it looks like; partial indexes answer

    def __init__(self, world: World, database_url: str) -> None:
        self.world = world
        self.url = database_url
        self.port = postgres.free_port()
        self.environment = {"DATABASE_URL": database_url, "PUBLIC_URL": f"http://127.0.0.1:{self.port}"}
        self.web: list[Process] = []
        self.workers: list[Process] = []
        self.connection = psycopg.connect(database_url, autocommit=True)
        self.prepare()
        world.fleets.append(self)

    def __enter__(self) -> "Fleet":
        self.web = [self.start(self.groups[0], *self.web_command())]
        await_answer(self.web[0], f"http://127.0.0.1:{self.port}/ready")
        return self

    def __exit__(self, *exc: object) -> None:
        self.connection.close()
        for process in (*self.workers, *self.web):
            process.kill()

    def start(self, name: str, *arguments: str) -> Process:
        return self.world.start(name, *arguments, **self.environment)

    def prepare(self) -> None:
        """Tables and rows that the processes need."""
        raise NotImplementedError

    def web_command(self) -> list[str]:
        raise NotImplementedError

    def start_workers(self) -> list[Process]:
        raise NotImplementedError

    def work(self, wanted: bool) -> None:
        """Starts the workers, or stops them in good order, unless it is so already. One fleet works at a time."""
        if wanted and not self.workers:
            self.world.rest()
            self.workers = self.start_workers()
            wait_for(self.workers_are_up, 60)
        elif not wanted:
            for process in self.workers:
                process.stop()
            self.workers = []

    def pids(self) -> dict[str, list[int]]:
        web, workers = self.groups
        return self.world.groups | {web: [p.pid for p in self.web], workers: [p.pid for p in self.workers]}

    def one(self, query: str) -> Any:
        row = self.connection.execute(query).fetchone()
        return row[0] if row else None

    def workers_are_up(self) -> bool:
        raise NotImplementedError

    def clear(self) -> None:
        """Forgets all messages."""
        raise NotImplementedError

    def is_busy(self, *, until: str) -> bool:
        """Is a message short of that status?"""
        found = " OR ".join(f"EXISTS (SELECT FROM {self.table} WHERE {what})" for what in self.earlier[until])
        return bool(self.one(f"SELECT {found}"))

    def by_status(self) -> dict[str, int]:
        return dict(self.connection.execute(f"SELECT status, count(*) FROM {self.table} GROUP BY 1").fetchall())


class Ours(Fleet):
    """The product as in production: a worker per lane, one more for the lane under load, a sweeper."""

    groups = ("web", "workers")
    table = "messaging_message"
    earlier = {
        "sent": ["status = 'queued'", "status = 'sending'"],
        "delivered": ["status = 'queued'", "status = 'sending'", "status = 'sent' AND NOT receipt_overdue"],
    }
    TABLES = (
        "messaging_message, messaging_attempt, messaging_receipt, messaging_event, messaging_idempotencykey, "
        "messaging_tally, messaging_tallydelta, verification_challenge, verification_bucket, verification_refused, "
        "verification_startcount"
    )

    def prepare(self) -> None:
        self.world.run("manage.py", "migrate", "--verbosity", "0", **self.environment)
        file = self.world.directory / "provision.toml"
        file.write_text(provisioning())
        self.world.run("manage.py", "provision", str(file), **self.environment)

    def web_command(self) -> list[str]:
        return web.command(self.port, workers=CORES)

    def start_workers(self) -> list[Process]:
        options = ("--processes", "1", "--threads", "2", "--worker-shutdown-timeout", "20000")
        lanes = {f"worker-{lane}": lane for lane in LANES} | {"worker-bulk-2": "bulk"}
        workers = [
            self.start(name, "manage.py", "run_worker", "--queues", lane, *options) for name, lane in lanes.items()
        ]
        return [*workers, self.start("sweeper", "manage.py", "run_sweeper")]

    def workers_are_up(self) -> bool:
        """Each looks for work as soon as it runs, so by then it has a connection."""
        names = [process.name for process in self.workers]
        query = "SELECT count(DISTINCT application_name) FROM pg_stat_activity WHERE application_name = ANY(%s)"
        row = self.connection.execute(query, [names]).fetchone()
        return row is not None and row[0] == len(names)

    def django(self) -> dict[str, str]:
        """For a program that uses the models."""
        return {**self.environment, "DJANGO_SETTINGS_MODULE": "config.settings"}

    def clear(self) -> None:
        self.forget(self.TABLES)

    def forget(self, tables: str) -> None:
        """Empties them and what hangs on them, beside workers that may still settle.

        Each of the two may hold what the other waits for. We give way and try again, well before a worker looks for a
        deadlock (after 1 s), which would end its transaction. Ours is looked for at once: that ends an autovacuum.
        """

        def emptied() -> bool:
            with suppress(LockNotAvailable, DeadlockDetected), self.connection.transaction():
                self.connection.execute("SET LOCAL lock_timeout = '300ms'")
                self.connection.execute("SET LOCAL deadlock_timeout = '100ms'")
                self.connection.execute(f"TRUNCATE {tables} CASCADE")
                return True
            return False

        wait_for(emptied, 60)


class Naive(Fleet):
    """benchmarks/naive: 2 worker processes of 8 threads, dramatiq's usual size on two cores."""

    groups = ("naive web", "naive workers")
    table = "naive_message"
    earlier = {"sent": ["status = 'queued'"]}

    def prepare(self) -> None:
        self.environment["DJANGO_SETTINGS_MODULE"] = "benchmarks.naive.settings"
        self.world.run("-m", "django", "migrate", "--run-syncdb", "--verbosity", "0", **self.environment)

    def web_command(self) -> list[str]:
        return [
            *("-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port), "--http", "1"),
            *("--no-ws", "--workers", str(CORES), "--blocking-threads", "1", "--blocking-threads-idle-timeout", "600"),
            *("--workers-kill-timeout", "10", "benchmarks.naive.wsgi:application"),
        ]

    def start_workers(self) -> list[Process]:
        return [self.start("naive-worker", "-m", "django", "rundramatiq", "--processes", str(CORES), "--threads", "8")]

    def workers_are_up(self) -> bool:
        """They have a connection from the first task on: the warm-up waits for that."""
        return True

    def clear(self) -> None:
        self.connection.execute("TRUNCATE naive_message")
        url = self.world.environment["BROKER_URL"]
        if url.startswith("amqp"):
            # Before the first message there is no queue.
            with pika.BlockingConnection(pika.URLParameters(url)) as connection, suppress(ChannelClosedByBroker):
                connection.channel().queue_purge("naive")
        else:
            with psycopg.connect(url) as connection:
                connection.execute("DELETE FROM dramatiq.queue WHERE queue_name = 'naive'")


def provisioning() -> str:
    """One client, and the simulated carriers as three providers that have a price for every country."""
    countries = sorted(phonenumbers.SUPPORTED_REGIONS)
    text = (
        '[[clients]]\nslug = "core-backend"\nname = "Core backend"\nsender = "MEXAR"\n'
        'scopes = ["send", "otp", "read"]\napi_key = "env:BENCH_API_KEY"\nkafka_enabled = true\n'
    )
    for carrier in load_carriers().carriers:
        name = carrier.slug.upper().replace("-", "_")
        prices = ",\n".join(
            f'  {{ country = "{country}", price = "{carrier.prices["*"]}", currency = "{carrier.currency}" }}'
            for country in countries
        )
        text += (
            f'\n[[providers]]\nslug = "{carrier.slug}"\nname = "{carrier.name}"\nadapter = "simulator"\n'
            f'base_url = "env:{name}_URL"\ncredentials = {{ token = "env:{name}_TOKEN" }}\nrate = 20000\n'
            f'enabled = true\nresolve = "{carrier.mode}"\nprices = [\n{prices}\n]\n'
        )
    return text
