"""Commands as an operator runs them, with the settings of .env.example."""

import os
import secrets
import subprocess
import sys
from base64 import b64encode

from config.local import postgres
from config.local.up import BASE_DIR


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

    result = check_deploy(SECRET_KEY=secrets.token_urlsafe(50), CREDENTIALS_KEYS=f"1:{key}")

    assert result.returncode == 0, result.stderr


def test_secrets_of_the_example_file_are_refused_in_production() -> None:
    result = check_deploy()

    assert result.returncode == 1
    assert "SECRET_KEY is the one of .env.example" in result.stderr
    assert "CREDENTIALS_KEYS is the one of .env.example" in result.stderr
