"""A worker: checks the settings, then becomes Dramatiq's master process."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Carries messages out. The options are Dramatiq's: --queues otp --processes 1 --threads 2"

    def run_from_argv(self, argv: list[str]) -> None:
        self._options = argv[2:]
        super().run_from_argv(argv[:2])

    def handle(self, *args: Any, **options: Any) -> None:
        os.execv(sys.executable, [sys.executable, "-m", "config.worker", *self._options])  # noqa: S606  no shell wanted
