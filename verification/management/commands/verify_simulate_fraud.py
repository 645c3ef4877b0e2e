"""`manage.py verify_simulate_fraud FILE.csv`: what would today's rules have refused?"""

import csv
from argparse import RawDescriptionHelpFormatter
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from routing.numbers import InvalidNumber, mask, parse
from verification.drafts import LONGEST_DEVICE, PURPOSE, parse_ip
from verification.limits import prefix
from verification.replay import Past, Verdict, replay

NEEDED = ("at", "to", "client", "purpose", "verified")
OPTIONAL = ("country", "ip", "device")
WORDS = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}
TOLD = 20  # bad rows, one by one
STEP = 20_000  # starts between two lines of progress

HELP = """\
Replay past starts of verifications against the current rules, and print what would have been refused.

Nothing is sent, stored or blocked: run it before you change a limit, a country's mode or a block, with the
new values in the environment (VERIFY_PREFIX_HOUR=10 manage.py verify_simulate_fraud june.csv) or in the admin
of a test system.

FILE is a CSV with a header, in any order of columns and of rows:

  at        when it was started: 2026-06-01T09:30:00Z (UTC where it names no offset)
  to        the number, with its plus
  client    the slug of the client
  purpose   login, signup, payment, ...
  verified  true or false: was the code entered in the end?
  country   optional; checked against the number
  ip        optional: of the person
  device    optional: as the client names it

What this service itself has seen in the last 30 days, for psql:

  COPY (SELECT v.created_at AS at, v."to", c.slug AS client, v.purpose, v.status = 'verified' AS verified,
    host(v.ip) AS ip, v.device FROM verification_challenge v JOIN messaging_client c ON c.id = v.client_id
    WHERE v.status <> 'pending' AND v."to" NOT LIKE '%*%') TO STDOUT CSV HEADER

What the output means: "refused" starts would not have been sent; those of them that people verified in truth are
"lost": a good rule refuses many and loses few. "noted" is what a monitor would have noted and let through. What is
saved is counted in today's prices, one segment each. A success counts from its start on; wrong guesses are not in
the file, so their limit refuses nothing here. Numbers are masked.
"""


class BadRow(ValueError):
    """Says what is wrong, never the value."""


class Command(BaseCommand):
    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE.csv")
        parser.add_argument(
            "--rules", choices=["current"], default="current", help="by which rules: those in force now, the default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        starts = self._read(options["file"])
        if not starts:
            raise CommandError("there is no start in the file that can be replayed")
        totals = Totals()
        for number, verdict in enumerate(replay(starts), 1):
            totals.add(verdict)
            if number % STEP == 0:
                self.stderr.write(f"{number} of {len(starts)} starts")
        self.stdout.write("\n".join(totals.lines()))

    def _read(self, name: str) -> list[Past]:
        bad = 0
        starts = []
        try:
            with open(name, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                if missing := [column for column in NEEDED if column not in (reader.fieldnames or ())]:
                    raise CommandError(f"the header of {name} lacks {', '.join(missing)}")
                for row in reader:
                    try:
                        starts.append(_past(row))
                    except BadRow as error:
                        bad += 1
                        if bad <= TOLD:
                            self.stderr.write(f"line {reader.line_num}: {error}")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CommandError(f"{name} cannot be read: {type(error).__name__}") from None
        if bad:
            self.stderr.write(f"{bad} rows were left out" + (f", the first {TOLD} are above" if bad > TOLD else ""))
        return sorted(starts, key=lambda past: past.at)


def _past(row: dict[str, str | None]) -> Past:
    cells = {name: (row.get(name) or "").strip() for name in (*NEEDED, *OPTIONAL)}
    try:
        number = parse(cells["to"])
    except InvalidNumber as error:
        raise BadRow(f"to: {error.reason}") from None
    if cells["country"] not in ("", number.country):
        raise BadRow(f"country: the number is one of {number.country}")
    if cells["verified"].lower() not in WORDS:
        raise BadRow("verified: true or false is expected")
    if not cells["client"] or not PURPOSE.fullmatch(cells["purpose"]):
        raise BadRow("client and purpose: a slug each is expected")
    if len(cells["device"]) > LONGEST_DEVICE:
        raise BadRow(f"device: at most {LONGEST_DEVICE} characters")
    return Past(
        at=_moment(cells["at"]),
        msisdn=number.msisdn,
        country=number.country,
        client=cells["client"],
        purpose=cells["purpose"],
        ip=_address(cells["ip"]),
        device=cells["device"],
        verified=WORDS[cells["verified"].lower()],
    )


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise BadRow("at: a time like 2026-06-01T09:30:00Z is expected") from None


def _address(text: str) -> str:
    try:
        return parse_ip(text) if text else ""
    except ValueError:
        raise BadRow("ip: an IPv4 or IPv6 address is expected") from None


class Totals:
    """What would have been refused, by rule, by country and by prefix."""

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter()
        self.refused: dict[str, Counter[str]] = defaultdict(Counter)
        self.lost: dict[str, Counter[str]] = defaultdict(Counter)
        self.noted: Counter[str] = Counter()
        self.money = Decimal(0)
        self.unpriced = 0
        self.noted_starts = 0
        self.first = self.last = 0.0

    def add(self, verdict: Verdict) -> None:
        past, finding = verdict.past, verdict.refused
        self.first, self.last = self.first or past.at, past.at
        self.starts[past.country] += 1
        self.noted.update(note.rule for note in verdict.noted)
        if finding is None:
            self.noted_starts += bool(verdict.noted)
            return
        for by, name in (("rule", finding.rule), ("country", past.country), ("prefix", prefix(past.msisdn))):
            self.refused[by][name] += 1
            self.lost[by][name] += past.verified
        self.money += verdict.cost or 0
        self.unpriced += verdict.cost is None

    def lines(self) -> Iterator[str]:
        starts, refused = self.starts.total(), self.refused["rule"].total()
        yield f"{starts} starts from {_date(self.first)} to {_date(self.last)}"
        lost = self.lost["rule"].total()
        yield f"refused {refused} ({refused / starts:.1%}), of which {lost} were verified in truth"
        yield f"noted   {self.noted_starts} ({self.noted_starts / starts:.1%}) and let through"
        unpriced = f", without {self.unpriced} that have no price" if self.unpriced else ""
        yield f"saved   {self.money:.2f} {settings.REPORTING_CURRENCY}{unpriced}"
        yield from self._table("rule", "by rule")
        yield from self._table("country", "by country")
        yield from self._table("prefix", "the worst prefixes, of ten thousand numbers each", most=5)
        if self.noted:
            yield from ("", "noted only")
            yield from (f"  {rule:<20}{count:>9}" for rule, count in self.noted.most_common())

    def _table(self, by: str, title: str, most: int | None = None) -> Iterator[str]:
        if not self.refused[by]:
            return
        yield from ("", title, f"  {'':<20}{'refused':>9}{'lost':>9}")
        for name, count in self.refused[by].most_common(most):
            shown = mask(name) if by == "prefix" else name
            share = f"{count / self.starts[name]:>9.1%} of its starts" if by == "country" else ""
            yield f"  {shown:<20}{count:>9}{self.lost[by][name]:>9}{share}"


def _date(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
