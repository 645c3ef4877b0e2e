"""`manage.py erase_number +E164 [--yes]`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.erasure import StillBusy, erase
from routing import numbers


class Command(BaseCommand):
    help = "Take a number, and the texts of its messages, out of the database. Without --yes: count only."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("number", help="E.164 with the plus")
        parser.add_argument("--yes", action="store_true", help="do it; there is no way back")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            msisdn = numbers.parse(options["number"]).msisdn
        except numbers.InvalidNumber as error:
            raise CommandError(f"This is no number in E.164 form ({error.reason}).") from None
        try:
            changed = erase(msisdn, dry_run=not options["yes"])
        except StillBusy as error:
            raise CommandError(f"{error}. Nothing was changed.") from None
        for name, count in changed.items():
            self.stdout.write(f"{count:>7} {name}")
        self.stdout.write("erased; opt-outs and blocks in force stay" if options["yes"] else "dry run: --yes does it")
