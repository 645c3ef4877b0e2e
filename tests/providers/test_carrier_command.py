"""`manage.py run_carrier` as a process."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from providers.simulator.config import ConfigError, load

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, str(ROOT / "manage.py"), "run_carrier"]


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stderr if done.returncode else done.stdout


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_start_names_every_port_and_a_signal_stops_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    ledger = tmp_path / "ledger.jsonl"

    with command("--port", "0", "--ledger", str(ledger)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        address = lines[0].split()[-1]
        with urllib.request.urlopen(f"{address}api/carriers", timeout=5) as response:
            carriers = json.load(response)["carriers"]
        with socket.create_connection(("127.0.0.1", carriers[0]["port"])):  # an open connection holds nothing up
            process.send_signal(stop)
            rest, errors = process.communicate(timeout=5)

    assert lines[0].startswith("inbox and control http://127.0.0.1:")
    assert [line.split()[0] for line in lines[1:]] == ["carrier-a", "carrier-b", "carrier-c"]
    assert [str(carrier["port"]) in line for carrier, line in zip(carriers, lines[1:], strict=True)] == [True] * 3
    assert (process.returncode, rest, errors) == (0, "", "")
    assert ledger.exists()


def test_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code, errors = finish("--port", str(port))

    assert code == 1
    assert errors.splitlines() == [f"CommandError: Port {port} on 127.0.0.1 cannot be used: Address already in use."]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one [[carriers]] table is needed"),
        ("seed = [", "not TOML"),
        ('[[carriers]]\nslug = "a"', "token is missing"),
        ('[[carriers]]\nslug = "A b"', "slug must be lower-case"),
        ('[[carriers]]\nslug = "a"\ncolour = "red"', "unknown colour"),
        ('[[carriers]]\nslug = "a"\nmode = "maybe"', "mode must be one of key, lookup, none"),
        ('[[carriers]]\nslug = "a"\ntoken = "t"\ncurrency = "EUR"\nprices = { UA = 0.1 }', "decimal in quotes"),
        ('[[carriers]]\nslug = "a"\ntoken = "t"\ncurrency = "EUR"\nprices = { UA = "1" }\nlag = -1', "lag must be"),
        ('[[carriers]]\nslug = "a"\nreceipts = ["read"]', "receipts must be a list"),
    ],
)
def test_bad_config_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "carriers.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load(file)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_one_clear_line(tmp_path: Path) -> None:
    config = finish("--config", str(tmp_path / "none.toml"))
    ledger = finish("--port", "0", "--ledger", str(tmp_path / "none" / "ledger"))

    assert config == (1, f"CommandError: {tmp_path}/none.toml: No such file or directory\n")
    assert ledger == (
        1,
        f"CommandError: The ledger {tmp_path}/none/ledger cannot be used: No such file or directory.\n",
    )


def test_help_teaches() -> None:
    code, text = finish("--help")

    assert code == 0
    assert 'curl -X PUT http://127.0.0.1:18000/api/carriers/carrier-a/faults -d \'[{"fault": "refuse"}]\'\n' in text
