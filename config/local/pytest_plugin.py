"""The environment of a test run: settings for tests and, unless DATABASE_URL is set, a throw-away PostgreSQL."""

import base64
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest

from config.local import postgres

ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "ENV_FILE": "",
    "SECRET_KEY": "tests-only",
    "PUBLIC_URL": "http://testserver",
    "BROKER_URL": "stub://",
    "CREDENTIALS_KEYS": "1:" + base64.b64encode(bytes(32)).decode(),
    "OTP_KEYS": "1:" + base64.b64encode(bytes(range(32))).decode(),
    "NETWORKS_KEY": "tests-only",
    "DEBUG": "false",
    "HTTPS": "false",
    "STAFF_TOTP": "false",  # tests of the second step turn it on
}
# Compiling its imports takes a process longer than all the rest of its start, and some environments keep no bytecode.
COMPILED_ONCE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(Path(sys.prefix) / "bytecode")}


# A wrapper runs around every plain hook, so also before pytest-django reads the settings.
@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    os.environ.update(ENVIRONMENT | COMPILED_ONCE)
    if "DATABASE_URL" not in os.environ:
        _start_database(early_config)
    return (yield)


def _start_database(config: pytest.Config) -> None:
    directory = postgres.home(Path(tempfile.gettempdir()) / f"mexar-tests-{secrets.token_hex(4)}")
    directory.mkdir(mode=0o755)
    # Cleanups run in reverse order, and also where collecting fails before `pytest_unconfigure` would be called.
    config.add_cleanup(partial(shutil.rmtree, directory))
    try:
        cluster = postgres.start(
            directory / "data", directory / "log", secrets.token_hex(16), options=postgres.THROW_AWAY_OPTIONS
        )
    except postgres.LocalError as error:
        raise pytest.UsageError(str(error)) from error
    config.add_cleanup(cluster.stop)
    os.environ["DATABASE_URL"] = cluster.url()
