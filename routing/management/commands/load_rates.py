"""`manage.py load_rates FILE`."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from routing import rates
from routing.snapshot import tables


class Command(BaseCommand):
    help = (
        "Load exchange rates from a CSV as the ECB publishes it (eurofxref.csv, eurofxref-hist.csv): "
        "Date, then a column for each currency. A rate that is there already is corrected."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="- reads standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                lines = sys.stdin if options["file"] == "-" else _lines(Path(options["file"]))
                changed = rates.store(rates.read(lines))
        except rates.BadRates as error:
            raise CommandError(f"{error}. Nothing was loaded.") from None
        self.stdout.write(f"{changed} rates are new or corrected")
        for text in rates.stale(tables.get(fresh=True), datetime.now(UTC)):
            self.stderr.write(self.style.WARNING(text))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {type(error).__name__}") from None
