"""The Makefile tells in one line what is missing, before anything is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from config.local.up import BASE_DIR

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="apt-get install make")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    of_the_outer_make = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")  # `make test` has started this
    variables = {name: value for name, value in os.environ.items() if name not in of_the_outer_make}
    return subprocess.run(["make", *arguments], cwd=BASE_DIR, env=variables, capture_output=True, text=True, timeout=60)


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "python3"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("python", "line"),
    [
        ("exit 1", "Python 3.11, 3.12 or 3.13 is needed, {python} is another one: make PYTHON=python3.11 ...\n"),
        ('[ "$1" = -c ]', "{python} has no pip: install it first.\n"),
    ],
)
def test_unusable_python_is_told_in_one_line(tmp_path: Path, python: str, line: str) -> None:
    path = script(tmp_path, python)

    result = make("setup", f"VENV={tmp_path / 'venv'}", f"PYTHON={path}")

    assert result.returncode != 0
    assert result.stdout == line.format(python=path)
    assert not (tmp_path / "venv").exists()


def test_missing_python_is_told_in_one_line(tmp_path: Path) -> None:
    result = make("setup", f"VENV={tmp_path / 'venv'}", "PYTHON=python-that-is-not-there")

    assert result.returncode != 0
    assert result.stdout == "python-that-is-not-there is not installed: Python 3.11, 3.12 or 3.13 is needed.\n"


def test_bare_make_lists_what_there_is() -> None:
    result = make()

    assert [line.split()[1] for line in result.stdout.splitlines()] == [
        "help",
        "setup",
        "up",
        "test",
        "fuzz",
        "bench",
        "lint",
        "lock",
        "reset",
    ]


@pytest.mark.parametrize("name", ["requirements-bootstrap.txt", "requirements.txt", "requirements-dev.txt"])
def test_lock_files_are_hashed_and_name_no_address(name: str) -> None:
    lines = (BASE_DIR / name).read_text().splitlines()

    assert not [line for line in lines if "://" in line or line.startswith("-")]
    pins = [number for number, line in enumerate(lines) if "==" in line]
    assert pins
    assert all(lines[number + 1].strip().startswith("--hash=sha256:") for number in pins)
