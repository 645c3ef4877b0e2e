"""`make up`: the whole service in one terminal, without any server. `make reset` forgets its data.

The database is started first and stopped last. What must survive a restart is in `.local`.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
import tomllib
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import environ
import psycopg

from config.local import postgres, web
from config.local.children import Children, Console
from config.local.postgres import Cluster, LocalError

BASE_DIR = Path(__file__).resolve().parents[2]
LOCAL = Path(os.environ.get("LOCAL_DIR") or BASE_DIR / ".local").resolve()  # another one runs beside the first
CARRIERS_FILE = BASE_DIR / "providers" / "simulator" / "carriers.toml"
ADMIN_USER = "admin"
READY_TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Secrets:
    """Generated once per checkout."""

    secret_key: str
    credentials_key: str
    otp_key: str
    networks_key: str
    database_password: str
    admin_password: str
    api_key: str


def main() -> int:
    console = Console()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    try:
        with locked():
            if sys.argv[1:] == ["reset"]:
                reset()
                return 0
            return up(console)
    except LocalError as error:
        console.say("up", str(error))
        return 1


@contextmanager
def locked() -> Iterator[None]:
    """One supervisor per checkout: two would start two servers on the same files. Raises LocalError."""
    # Open to others: as root, the database runs below it as another user. Secret files have a mode of their own.
    LOCAL.mkdir(mode=0o755, exist_ok=True)
    with (LOCAL / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError("`make up` is running in this checkout already: stop it first.") from None
        yield


def reset() -> None:
    data = data_directory()
    postgres.end_leftover(data)
    if data.exists():
        shutil.rmtree(data)
    shutil.rmtree(LOCAL)


def up(console: Console) -> int:
    """Start everything, show where to go, and stop everything at Ctrl-C (0) or when one process ends (1)."""
    started = time.monotonic()
    # `.env` counts here as for every other command; what it leaves out is set below.
    environ.Env.read_env(os.environ.get("ENV_FILE", BASE_DIR / ".env"))
    web_port, carrier_port = port("WEB_PORT", 8000), port("CARRIER_PORT", 18000)
    carriers = tomllib.loads(CARRIERS_FILE.read_text())["carriers"]
    carrier_ports = range(carrier_port, carrier_port + 1 + len(carriers))
    if web_port in carrier_ports:
        raise LocalError(f"WEB_PORT {web_port} is one of the carriers' ports ({carrier_port} and the next).")
    require_free("WEB_PORT", [web_port])
    require_free("CARRIER_PORT", carrier_ports)
    embedded_kafka = kafka_port()
    known = load_secrets(LOCAL / "secrets.json")
    cluster = None
    children = None
    try:
        if not os.environ.get("DATABASE_URL"):
            cluster = postgres.start(data_directory(), LOCAL / "postgres.log", known.database_password)
            console.say("database", f"PostgreSQL on 127.0.0.1:{cluster.port}, log in .local/postgres.log")
        variables = environment(known, cluster, web_port, carrier_port, carriers, embedded_kafka)
        children = Children(console, BASE_DIR, variables)
        children.run("setup", "-m", "config.local.prepare")
        start_all(children, web_port, carrier_port)
        if variables.get("KAFKA") == "1":
            start_kafka(children, embedded_kafka)
        facts = describe(variables, web_port, carrier_port)
        wait_until_ready(children, [f"http://127.0.0.1:{web_port}/ready", facts["inbox"]], variables["DATABASE_URL"])
        write_private(LOCAL / "demo.json", json.dumps(facts, indent=2) + "\n")
        show(facts, time.monotonic() - started)
        while True:
            time.sleep(0.3)
            children.check()
    except LocalError as error:
        console.say("up", str(error))
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        stop_all(console, children, cluster)


def start_all(children: Children, web_port: int, carrier_port: int) -> None:
    ledger = str(LOCAL / "ledger.jsonl")
    children.start("carriers", "manage.py", "run_carrier", "--port", str(carrier_port), "--ledger", ledger)
    children.start("web", *web.command(web_port))
    patience = ("--worker-shutdown-timeout", "20000")  # ms
    children.start("worker", "manage.py", "run_worker", "--processes", "1", "--threads", "2", *patience)
    children.start("sweeper", "manage.py", "run_sweeper")
    children.start("imports", "manage.py", "run_imports")


def kafka_port() -> int:
    """Where the embedded broker is to listen; 0 for none: KAFKA=1 asks for it, KAFKA_BOOTSTRAP_SERVERS for another."""
    if (os.environ.get("KAFKA") or "0") not in ("0", "1"):
        raise LocalError(f"KAFKA must be 1 or 0, it is {os.environ['KAFKA']!r}.")
    if os.environ.get("KAFKA") != "1" or os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return 0
    number = port("KAFKA_PORT", 19092)
    require_free("KAFKA_PORT", [number])
    return number


def start_kafka(children: Children, embedded: int) -> None:
    if embedded:
        children.start("kafka", "-m", "config.local.kafka", str(embedded))
        children.run("setup", "manage.py", "create_topics", "--partitions", "4", "--replication-factor", "1")
    children.start("relay", "manage.py", "run_relay")
    children.start("bridge", "manage.py", "run_bridge")


def stop_all(console: Console, children: Children | None, cluster: Cluster | None) -> None:
    if children:
        console.say("up", "stopping")
        children.stop("setup", "web", "worker", "sweeper", "imports", "relay", "bridge")
        children.stop("carriers", "kafka")  # after the worker, whose calls in flight they still answer
    if cluster:
        cluster.stop()
        console.say("up", "database stopped")


def environment(
    known: Secrets,
    cluster: Cluster | None,
    web_port: int,
    carrier_port: int,
    carriers: list[dict[str, Any]],
    embedded_kafka: int,
) -> dict[str, str]:
    """The variables of all processes, the ones set outside first; `.local/env` gives them to other terminals too."""
    database_url = cluster.url() if cluster else os.environ["DATABASE_URL"]
    defaults = {
        "DATABASE_URL": database_url,
        "BROKER_URL": database_url,
        "SECRET_KEY": known.secret_key,
        "CREDENTIALS_KEYS": f"1:{known.credentials_key}",
        "OTP_KEYS": f"1:{known.otp_key}",
        "NETWORKS_KEY": known.networks_key,
        "PUBLIC_URL": f"http://127.0.0.1:{web_port}",
        "DEBUG": "true",
        "LOG_FORMAT": "console",
        "HTTPS": "false",
        "WEBHOOK_ALLOW_HTTP": "true",
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
        "DEMO_API_KEY": known.api_key,
        "PRICE_FOUR_EYES": "staff",  # there is one person here
    }
    if embedded_kafka:
        # The relay waits for the first of the times when it starts, the bridge for half of the second.
        times = {"KAFKA_DELIVERY_TIMEOUT": "3", "KAFKA_SESSION_TIMEOUT": "6"}
        defaults |= {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{embedded_kafka}", **times}
    for number, carrier in enumerate(carriers, start=carrier_port + 1):
        name = carrier["slug"].upper().replace("-", "_")
        defaults[f"{name}_URL"] = f"http://127.0.0.1:{number}"
        defaults[f"{name}_TOKEN"] = carrier["token"]
    defaults.update({name: os.environ[name] for name in defaults if os.environ.get(name)})
    write_private(LOCAL / "env", "".join(f"{name}={value}\n" for name, value in defaults.items()))
    return {
        **os.environ,
        **defaults,
        "ENV_FILE": "",  # all is decided here: no process reads a file again
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "ADMIN_USER": ADMIN_USER,
        "ADMIN_PASSWORD": known.admin_password,
    }


def load_secrets(path: Path) -> Secrets:
    """Raises LocalError where the file is there and is not as it was written."""
    if path.exists():
        try:
            # A checkout of a version without them is given them for good.
            known = Secrets(**{"otp_key": new_key(), "networks_key": new_key(), **json.loads(path.read_text())})
            if all(isinstance(value, str) and value for value in asdict(known).values()):
                write_private(path, json.dumps(asdict(known), indent=2) + "\n")
                return known
        except (OSError, ValueError, TypeError):
            pass
        raise LocalError(f"{path} is damaged. Put it right, or begin anew with `make reset`, which deletes the data.")
    key_id = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(12))
    generated = Secrets(
        secret_key=secrets.token_urlsafe(50),
        credentials_key=new_key(),
        otp_key=new_key(),
        networks_key=new_key(),
        database_password=secrets.token_hex(16),
        admin_password=secrets.token_urlsafe(12),
        api_key=f"mx_live_{key_id}_{secrets.token_urlsafe(32)}",
    )
    write_private(path, json.dumps(asdict(generated), indent=2) + "\n")
    return generated


def new_key() -> str:
    return b64encode(secrets.token_bytes(32)).decode()


def write_private(path: Path, text: str) -> None:
    """Replace the file at once, readable by its owner only."""
    partial = path.with_name(f"{path.name}.new")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)


def data_directory() -> Path:
    return postgres.home(LOCAL / "postgres")


def port(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65_500:
        raise LocalError(f"{name} must be a port number below 65500, it is {text!r}.")
    return int(text)


def require_free(name: str, numbers: Iterable[int]) -> None:
    for number in numbers:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections in TIME_WAIT do not count
            try:
                probe.bind(("127.0.0.1", number))
            except OSError as error:
                raise LocalError(
                    f"Port {number} cannot be used ({error.strerror}): choose another by `make up {name}=...`."
                ) from None


def wait_until_ready(children: Children, addresses: list[str], database_url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    while not (all(map(answers, addresses)) and worker_is_connected(database_url)):
        children.check()
        if time.monotonic() > deadline:
            raise LocalError(f"Not everything answers after {READY_TIMEOUT} s: {', '.join(addresses)}, the worker.")
        time.sleep(0.2)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()  # noqa: S310 (our own http address)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True


def worker_is_connected(database_url: str) -> bool:
    """Its lanes look for work as soon as they run, so by then it has a connection."""
    query = "SELECT FROM pg_stat_activity WHERE application_name = 'worker'"
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            return connection.execute(query).fetchone() is not None
    except psycopg.OperationalError:
        return False


def describe(variables: dict[str, str], web_port: int, carrier_port: int) -> dict[str, str]:
    site = f"http://127.0.0.1:{web_port}"
    body = json.dumps({"to": "+380501234567", "text": "Your transfer has arrived.", "class": "transactional"})
    headers = f"-H 'Authorization: Bearer {variables['DEMO_API_KEY']}' -H 'Content-Type: application/json'"
    kafka = {"kafka": variables["KAFKA_BOOTSTRAP_SERVERS"]} if variables.get("KAFKA") == "1" else {}
    return {
        **kafka,
        "api": f"{site}/api/v1",
        "api_key": variables["DEMO_API_KEY"],
        "docs": f"{site}/api/docs/",
        "admin": f"{site}/admin/",
        "admin_user": variables["ADMIN_USER"],
        "admin_password": variables["ADMIN_PASSWORD"],
        "inbox": f"http://127.0.0.1:{carrier_port}/",
        "curl": f"curl -i {site}/api/v1/messages {headers} -d '{body}'",
    }


def show(facts: dict[str, str], seconds: float) -> None:
    kafka = f"  Kafka   {facts['kafka']}   messaging.events and messaging.commands\n" if "kafka" in facts else ""
    print(
        f"""
Ready after {seconds:.0f} s. Ctrl-C stops everything; the data stays until `make reset`.

  API     {facts["api"]}   key {facts["api_key"]}
  Docs    {facts["docs"]}   every call, to be tried with that key
  Admin   {facts["admin"]}   {facts["admin_user"]} / {facts["admin_password"]}
  Inbox   {facts["inbox"]}   what the simulated phones receive
{kafka}  Facts   {os.path.relpath(LOCAL / "demo.json")}   the same for scripts

Send a message:

{facts["curl"]}
""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
