"""What the machine can do at best: rows that PostgreSQL takes, and flushes of the disk."""

import os
import re
import subprocess
import time
from pathlib import Path

import psycopg

from benchmarks.cpu import Meter
from benchmarks.measure import Sample
from benchmarks.world import World
from config.local.postgres import program_directory

DATABASE = "limits"
# Some 500 bytes a row, a random primary key and a unique pair, like a message with its idempotency key.
TABLE = """
CREATE TABLE IF NOT EXISTS bench_message (
  id uuid PRIMARY KEY, client text NOT NULL, key text NOT NULL, "to" text NOT NULL, body text NOT NULL,
  status text NOT NULL, created_at timestamptz NOT NULL, UNIQUE (client, key))
"""
ROWS = """
INSERT INTO bench_message SELECT gen_random_uuid(), 'core-backend', gen_random_uuid()::text, '+380671234567',
  repeat('x', 330), 'queued', now() FROM generate_series(1, {rows});
"""

# What a check does at least.
CHECKS = "checks"
COUNTER = "CREATE TABLE IF NOT EXISTS bench_counter AS SELECT n AS id, 0 AS n FROM generate_series(1, 100000) n"
UPDATE = r"\set id random(1, 100000)" + "\nUPDATE bench_counter SET n = n + 1 WHERE id = :id;\n"


def update(world: World, *, clients: int, seconds: int) -> Sample:
    """One row in each transaction, by its primary key."""
    with psycopg.connect(world.cluster.url(CHECKS), autocommit=True) as connection:
        connection.execute(COUNTER)
        connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS bench_counter_id ON bench_counter (id)")
    return _pgbench(world, CHECKS, "update-1", UPDATE, clients=clients, seconds=seconds, rows=1)


def insert(world: World, *, rows: int, clients: int, seconds: int) -> Sample:
    """`rows` in each transaction, by pgbench with prepared statements."""
    with psycopg.connect(world.cluster.url(DATABASE), autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute("TRUNCATE bench_message")
    statement = ROWS.format(rows=rows).replace("\n", " ")
    return _pgbench(world, DATABASE, f"insert-{rows}", statement, clients=clients, seconds=seconds, rows=rows)


def _pgbench(world: World, database: str, name: str, text: str, *, clients: int, seconds: int, rows: int) -> Sample:
    script = world.directory / f"{name}.sql"
    script.write_text(text)
    script.chmod(0o644)
    options = ["-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(seconds), "-f", str(script)]
    with Meter({"postgres": world.groups["postgres"]}) as meter:
        done = subprocess.run(
            [program_directory() / "pgbench", *options, world.cluster.url(database)], capture_output=True, text=True
        )
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise RuntimeError(f"pgbench failed: {done.stderr[-500:]}")
    rate = float(found[1]) * rows
    count = int(rate * seconds)
    cpu = {name: used / count * 1e6 for name, used in meter.cpu.items()}
    return Sample(rate, count, cpu, {}, meter.steal, meter.other)


def flushes(directory: Path, seconds: float) -> Sample:
    """8 kB written over and fdatasync, one after the other: what a lone commit waits for."""
    path = directory / "flush"
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    count, started = 0, time.monotonic()
    try:
        with Meter({}) as meter:
            while time.monotonic() - started < seconds:
                os.pwrite(file, bytes(8192), 0)
                os.fdatasync(file)
                count += 1
    finally:
        os.close(file)
        path.unlink()
    return Sample(count / meter.seconds, count, {}, {}, meter.steal, meter.other)
