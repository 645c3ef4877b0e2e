"""Corrects the counts after something that does not count has written."""

from typing import Any

from django.core.management.base import BaseCommand

from messaging import tally


class Command(BaseCommand):
    help = (
        "Compares the counts of messages, attempts and costs with the tables and corrects them. "
        "Run it once after the upgrade that brought the counts, when no older process runs any more, and after "
        "rows were changed by hand. It reads every message and stops nobody."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        wrong = tally.recount()
        self.stdout.write(f"corrected {wrong} counts" if wrong else "every count was right")
