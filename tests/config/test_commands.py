"""Commands as an operator runs them, with the settings of .env.example."""

import os
import secrets
import subprocess
import sys
import time
from base64 import b64encode

import psycopg
import pytest
from django.apps import apps

from config.local import postgres
from config.local.up import BASE_DIR
from tests.fleet import database_url


def check_deploy(**variables: str) -> subprocess.CompletedProcess[str]:
    # The same checks run before `migrate`, when there are no tables yet.
    nowhere = f"postgresql://messaging@127.0.0.1:{postgres.free_port()}/messaging"
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": ".env.example", "DATABASE_URL": nowhere, **variables}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    return subprocess.run(
        command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_production_checks_pass_and_ask_no_database() -> None:
    key = b64encode(secrets.token_bytes(32)).decode()

    result = check_deploy(SECRET_KEY=secrets.token_urlsafe(50), CREDENTIALS_KEYS=f"1:{key}", OTP_KEYS=f"1:{key}")

    assert result.returncode == 0, result.stderr


def test_secrets_of_the_example_file_are_refused_in_production() -> None:
    result = check_deploy()

    assert result.returncode == 1
    assert "SECRET_KEY is the one of .env.example" in result.stderr
    assert "CREDENTIALS_KEYS is the one of .env.example" in result.stderr
    assert "OTP_KEYS is the one of .env.example" in result.stderr


def test_test_numbers_are_refused_in_production() -> None:
    result = check_deploy(VERIFY_TEST_NUMBERS="+15005550006=123456")

    assert result.returncode == 1
    assert "VERIFY_TEST_NUMBERS must be empty in production" in result.stderr
    assert "15005550006" not in result.stderr


@pytest.mark.django_db(transaction=True)
def test_migration_gives_way_to_a_transaction_that_holds_its_table() -> None:
    url = database_url()
    variables = {**os.environ, "DATABASE_URL": url, "LOCK_TIMEOUT": "0.3", "STATEMENT_TIMEOUT": "3600"}
    command = [sys.executable, "manage.py", "migrate", "messaging", "zero", "--noinput"]
    with psycopg.connect(url) as connection:
        # Every table, since other apps go back first; these locks last as long as the transaction.
        for model in apps.get_models():
            connection.execute(f'LOCK TABLE "{model._meta.db_table}" IN ACCESS SHARE MODE')  # type: ignore[call-overload]
        before = time.monotonic()

        result = subprocess.run(command, cwd=BASE_DIR, env=variables, capture_output=True, text=True, timeout=60)

    assert result.returncode == 1
    assert "canceling statement due to lock timeout" in result.stderr
    assert time.monotonic() - before < 20
