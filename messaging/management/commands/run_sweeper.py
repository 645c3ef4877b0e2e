"""The sweeper: one leader by advisory lock, any number of standbys."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from messaging import leading, lifecycle, sweeper, tasks

LOCK = 0x4D58_5357


class Command(BaseCommand):
    help = (
        "Takes over messages of workers that are gone, expires, schedules, and runs periodic work. "
        "Start as many as you like: one leads, the others wait to take over."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="Run one round without waiting to lead, then stop.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            lanes = sweeper.sweep()
            self.stdout.write(f"one round done, due lanes: {', '.join(sorted(lanes)) or 'none'}")
            return
        periodic = sweeper.Periodic()

        def work() -> bool:
            for lane in sweeper.sweep():
                tasks.hint(lane)
            periodic.run()
            return False

        with lifecycle.logged():
            leading.lead("sweeper", LOCK, work, pause=settings.SWEEP, stopping=leading.until_told())
