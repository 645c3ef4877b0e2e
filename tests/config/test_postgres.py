"""The launcher of the embedded PostgreSQL, with real servers."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config.local import postgres
from tests.config.processes import ends

PASSWORD = "of-this-test-only"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    directory = postgres.home(tmp_path / "postgres")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "postgres.log"


def start(data: Path, log: Path, password: str = PASSWORD, **options: str) -> postgres.Cluster:
    return postgres.start(data, log, password, options={**postgres.THROW_AWAY_OPTIONS, **options})


def test_data_survives_a_restart(data: Path, log: Path) -> None:
    first = start(data, log)
    with psycopg.connect(first.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    first.stop()

    second = start(data, log)

    with psycopg.connect(second.url()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    second.stop()
    assert second.process.returncode == 0
    assert not (data / "postmaster.pid").exists()


def test_only_the_password_opens_it(data: Path, log: Path) -> None:
    cluster = start(data, log)

    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(cluster.url().replace(PASSWORD, "another"))

    cluster.stop()


def test_another_password_than_the_cluster_was_created_with_is_one_clear_line(data: Path, log: Path) -> None:
    start(data, log).stop()

    with pytest.raises(postgres.LocalError, match="make reset"):
        start(data, log, "another")

    assert not (data / "postmaster.pid").exists()


def test_values_never_reach_the_log(data: Path, log: Path) -> None:
    cluster = start(data, log)
    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE secret (msisdn text PRIMARY KEY)")
        for _ in range(2):
            try:
                psycopg.ClientCursor(connection).execute("INSERT INTO secret VALUES (%s)", ["+380501234567"])
            except psycopg.errors.UniqueViolation:
                refused = True

    cluster.stop()

    assert refused
    assert "duplicate key" in log.read_text()
    assert "380501234567" not in log.read_text()


def test_server_that_outlived_its_supervisor_is_stopped_first(data: Path, log: Path) -> None:
    leftover = start(data, log)

    cluster = start(data, log)

    assert leftover.process.wait(5) == 0
    psycopg.connect(cluster.url()).close()
    cluster.stop()


def test_pid_that_now_belongs_to_another_process_is_left_alone(data: Path, log: Path) -> None:
    start(data, log).stop()
    stranger = subprocess.Popen(["sleep", "60"], **postgres.account())
    (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n")

    cluster = start(data, log)

    assert stranger.poll() is None
    cluster.stop()
    stranger.kill()
    stranger.wait()


def test_refused_option_is_one_clear_line(data: Path, log: Path) -> None:
    with pytest.raises(postgres.LocalError, match="shared_buffers"):
        start(data, log, shared_buffers="nonsense")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_killed_parent_takes_the_server_along(data: Path, log: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from config.local import postgres\n"
        "cluster = postgres.start(Path(sys.argv[1]), Path(sys.argv[2]), 'p')\n"
        "print(cluster.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, data, log], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server = int(parent.stdout.readline())

    parent.send_signal(signal.SIGKILL)
    parent.communicate()

    assert ends(server)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_cluster_moves_out_of_a_directory_that_is_closed_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    moved = postgres.home(closed / "postgres")

    assert moved.parent == postgres.SHARED_DIR
    assert moved == postgres.home(closed / "postgres")
    assert moved != postgres.home(tmp_path / "postgres")
    assert closed.stat().st_mode & 0o777 == 0o700
