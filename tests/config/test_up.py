"""The parts of `make up` that need no running service; the whole of it is in tests/journeys."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from config.local import up
from config.local.children import Children, Console
from config.local.postgres import LocalError
from tests.config.processes import ends


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(up, "LOCAL", tmp_path)
    return tmp_path


@pytest.fixture
def children(tmp_path: Path) -> Children:
    return Children(Console(), tmp_path, dict(os.environ))


def test_kafka_is_there_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    asked = {}
    for value in ("", "0", "1"):
        monkeypatch.setenv("KAFKA", value)
        asked[value] = up.kafka_port() > 0
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example.com:9092")

    beside_another = up.kafka_port()

    assert asked == {"": False, "0": False, "1": True}
    assert beside_another == 0
    monkeypatch.setenv("KAFKA", "yes")
    with pytest.raises(LocalError, match="KAFKA must be 1 or 0"):
        up.kafka_port()


def test_the_address_of_the_embedded_broker_is_told_to_every_process(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/messaging")
    known = up.load_secrets(local / "secrets.json")

    variables = up.environment(known, None, 8000, 18000, [], 19092)

    assert variables["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:19092"
    assert "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:19092" in (local / "env").read_text()


def test_secrets_are_generated_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"

    first = up.load_secrets(path)

    assert up.load_secrets(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"mx_live_[a-z2-7]{12}_[A-Za-z0-9_-]{43}", first.api_key)
    assert up.load_secrets(tmp_path / "other.json").api_key != first.api_key


@pytest.mark.parametrize("damage", ["", "{", "[]", "7", '{"secret_key": "x"}', "\udcff", "null", "directory", "empty"])
def test_damaged_secrets_are_one_clear_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "secrets.json"
    if damage == "directory":
        path.mkdir()
    elif damage == "empty":
        up.load_secrets(path)
        path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), "")))
    else:
        path.write_text(damage, errors="surrogateescape")

    with pytest.raises(LocalError, match=r"secrets.json is damaged.*make reset"):
        up.load_secrets(path)


@pytest.mark.parametrize("value", ["web", "0", "-1", "65501", "80.0"])
def test_wrong_port_is_one_clear_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_PORT", value)

    with pytest.raises(LocalError, match=f"WEB_PORT must be a port number below 65500, it is '{value}'"):
        up.port("WEB_PORT", 8000)


def test_taken_port_names_the_variable_that_chooses_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]

        with pytest.raises(LocalError, match=rf"Port {number} cannot be used .*make up CARRIER_PORT="):
            up.require_free("CARRIER_PORT", [number])


def test_web_port_among_the_carriers_is_one_clear_line(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_PORT", "18002")
    monkeypatch.setenv("CARRIER_PORT", "18000")

    with pytest.raises(LocalError, match="WEB_PORT 18002 is one of the carriers' ports"):
        up.up(Console())


@pytest.mark.parametrize(("name", "value"), [("POLL", "soon"), ("CREDENTIALS_KEYS", "1:short")])
def test_wrong_setting_is_told_without_a_traceback(name: str, value: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "config.local.prepare"],
        cwd=up.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 1
    assert name in ran.stderr
    assert "Traceback" not in ran.stderr


def test_second_start_in_one_checkout_is_refused(local: Path) -> None:
    with up.locked(), pytest.raises(LocalError, match="running in this checkout already"), up.locked():
        pass


def test_reset_forgets_everything(local: Path) -> None:
    (local / "postgres").mkdir()
    (local / "ledger.jsonl").touch()

    up.reset()

    assert not local.exists()


def test_variables_set_outside_win(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@db.example/messaging")
    monkeypatch.setenv("BROKER_URL", "amqp://rabbit.example")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    known = up.load_secrets(local / "secrets.json")

    variables = up.environment(known, None, 8000, 18000, [{"slug": "carrier-a", "token": "t"}], 0)

    assert variables["DATABASE_URL"] == "postgresql://user@db.example/messaging"
    assert variables["BROKER_URL"] == "amqp://rabbit.example"
    assert variables["LOG_LEVEL"] == "WARNING"
    assert variables["CARRIER_A_URL"] == "http://127.0.0.1:18001"


def test_hints_go_over_the_database_where_no_broker_is_named(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@db.example/messaging")
    monkeypatch.delenv("BROKER_URL")

    variables = up.environment(up.load_secrets(local / "secrets.json"), None, 8000, 18000, [], 0)

    assert variables["BROKER_URL"] == variables["DATABASE_URL"]
    assert f"BROKER_URL={variables['BROKER_URL']}\n" in (local / "env").read_text()
    assert (local / "env").stat().st_mode & 0o777 == 0o600


def test_child_that_ends_by_itself_is_named(children: Children, capsys: pytest.CaptureFixture[str]) -> None:
    children.start("web", "-c", "print('bad address'); raise SystemExit(3)")
    time.sleep(0.5)

    with pytest.raises(LocalError, match="web ended by itself with code 3"):
        children.check()

    assert "     web | bad address" in capsys.readouterr().out


def test_failed_step_is_named(children: Children) -> None:
    with pytest.raises(LocalError, match="setup failed with code 1"):
        children.run("setup", "-c", "raise SystemExit(1)")


def test_only_the_leader_is_asked_to_stop(children: Children, tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1.5)'])\n"
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(inner.wait()))\n"
        "open('ready', 'w').close(); signal.pause()"
    )
    children.start("worker", "-c", script)
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    children.start("web", "-c", "import signal; signal.pause()")

    children.stop("worker", "web")

    # 0: the inner process ended in its own time, no signal reached it
    assert children.codes == {"worker": 0, "web": -signal.SIGTERM}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_killed_supervisor_takes_its_children_along(tmp_path: Path) -> None:
    script = (
        "import os, time; from pathlib import Path; from config.local.children import *\n"
        "children = Children(Console(), Path('.'), dict(os.environ))\n"
        "children.start('web', '-c', \"import os, signal; print('pid', os.getpid()); signal.pause()\"); time.sleep(60)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline().split()[-1])

    supervisor.kill()
    supervisor.communicate()

    assert ends(pid)


def test_demo_agrees_with_the_simulated_carriers() -> None:
    carriers = tomllib.loads(up.CARRIERS_FILE.read_text())["carriers"]
    demo = tomllib.loads((up.BASE_DIR / "config/local/demo.toml").read_text())["providers"]

    assert [provider["slug"] for provider in demo] == [carrier["slug"] for carrier in carriers]
    assert [provider["resolve"] for provider in demo] == [carrier["mode"] for carrier in carriers]
    for provider, carrier in zip(demo, carriers, strict=True):
        for price in provider["prices"]:
            expected = carrier["prices"].get(price["country"], carrier["prices"]["*"])
            assert price["price"] == expected, (provider["slug"], price["country"])


def test_first_carrier_of_the_demo_is_the_cheapest_everywhere() -> None:
    demo = tomllib.loads((up.BASE_DIR / "config/local/demo.toml").read_text())["providers"]
    books = [{price["country"]: Decimal(price["price"]) for price in provider["prices"]} for provider in demo]

    for country, price in books[0].items():
        assert all(price < book[country] for book in books[1:])
