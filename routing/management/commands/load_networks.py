"""`manage.py load_networks [FILE] [--prefixes FILE --source NAME] [--derive]`."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from routing import network_files
from routing.network_files import Loaded

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Load the names of mobile networks (columns mcc, mnc, country_iso2, and brand, name or operator), and the "
        "prefixes that were given to them. Each replaces what was loaded before."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("networks", nargs="?", type=Path, help="a CSV of networks")
        parser.add_argument("--prefixes", type=Path, help="a CSV with the columns prefix, mcc and mnc")
        parser.add_argument("--source", default="file", help="where the prefixes are from: shown beside them")
        parser.add_argument(
            "--derive", action="store_true", help="prefixes from the carrier names of the phonenumbers library"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["networks"]:
                self._tell("networks", network_files.load_networks(_lines(options["networks"])))
            if options["prefixes"]:
                found = network_files.load_prefixes(_lines(options["prefixes"]), options["source"][:60])
                self._tell("prefixes", found)
        except network_files.BadFile as error:
            raise CommandError(f"{error}. Nothing was loaded.") from None
        if options["derive"]:
            self._tell("derived prefixes", network_files.derive_prefixes())

    def _tell(self, what: str, loaded: Loaded) -> None:
        self.stdout.write(f"{loaded.count} {what}")
        for number, reason in loaded.skipped[:SHOWN]:
            self.stderr.write(f"line {number}: {reason}" if number else reason)
        if len(loaded.skipped) > SHOWN:
            self.stderr.write(f"... and {len(loaded.skipped) - SHOWN} more rows that are no network")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {type(error).__name__}") from None
