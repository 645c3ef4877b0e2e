"""`manage.py provision FILE.toml [--dry-run]`."""

import tomllib
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.provisioning import ProvisioningError, provision


class Command(BaseCommand):
    help = "Bring clients, providers, prices, rules and all else that a file names to what it says; show what changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="show the difference, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from None
        except ValueError as error:  # TOML's own words name line and column, never a value
            raise CommandError(f"{path}: {error}") from None
        try:
            changes = provision(data, dry_run=options["dry_run"])
        except ProvisioningError as error:
            lines = "\n".join(f"  {problem}" for problem in error.problems)
            raise CommandError(f"{path} is not right, nothing was changed:\n{lines}") from None
        for line in changes or ["no changes"]:
            self.stdout.write(line)
        if changes and options["dry_run"]:
            self.stdout.write("dry run: nothing was changed")
