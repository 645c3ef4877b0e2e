"""A worker: Dramatiq's own command line, in a process whose log lines are ours from the first one on."""

import sys
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connections
from dramatiq import cli

MODULES = ("django_dramatiq.setup", "messaging.tasks")


class Command(BaseCommand):
    help = "Carries messages out. The options are Dramatiq's: --queues otp --processes 1 --threads 2"

    def run_from_argv(self, argv: list[str]) -> None:
        self._options = argv[2:]
        super().run_from_argv(argv[:2])

    def handle(self, *args: Any, **options: Any) -> None:
        parsed = cli.make_argument_parser().parse_args([*MODULES, *self._options])  # type: ignore[no-untyped-call]
        connections.close_all()  # no process may inherit one
        sys.argv = [sys.executable, *sys.argv]  # at SIGHUP Dramatiq starts itself again by it
        sys.exit(cli.main(parsed))  # type: ignore[no-untyped-call]
