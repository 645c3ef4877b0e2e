"""Commands as an operator runs them, with the settings of .env.example."""

import os
import subprocess
import sys

from config.local import postgres
from config.local.up import BASE_DIR


def test_production_checks_pass_and_ask_no_database() -> None:
    # The same checks run before `migrate`, when there are no tables yet.
    nowhere = f"postgresql://messaging@127.0.0.1:{postgres.free_port()}/messaging"
    variables = {"PATH": os.environ["PATH"], "ENV_FILE": ".env.example", "DATABASE_URL": nowhere}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]

    result = subprocess.run(command, cwd=BASE_DIR, env=variables, capture_output=True, text=True, timeout=60)

    assert result.returncode == 0, result.stderr
