"""`manage.py import_prices FILE --provider SLUG`: what the pages of an import do, from a shell."""

from argparse import RawDescriptionHelpFormatter
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from providers.models import Provider
from routing import import_pages
from routing.import_models import PriceImport, PriceMapping
from routing.imports import flow, guess, work
from routing.imports.errors import Refused, Unreadable
from routing.imports.mapping import COLUMNS, Mapping, problems
from routing.imports.rows import moment

TOLD = 20  # bad rows and changes, one by one

HELP = """\
Read a provider's price list, compare it with the list in force, and hand it in for approval.

  manage.py import_prices december.csv --provider carrier-a --dry-run
  manage.py import_prices december.xlsx --provider carrier-a --mapping "Carrier A monthly" \\
      --effective 2026-12-01T00:00Z --user olena --accept error,removed

FILE is CSV in any encoding, Excel (.xlsx) or JSON. What its columns mean is guessed, or taken from a mapping that
was saved in the admin (--mapping), and corrected by --set: --set price="Net rate" --set currency=EUR --set divisor=100.
Fields with a column's name: {columns}.
Others: only_words, encoding, delimiter, header, decimal, divisor, currency, charged, dates, repeats, pad_mnc
(docs/pricing.md says what each means).

With --dry-run nothing is kept. Without it the import waits in the admin for somebody with the permission to approve
price lists; what looks wrong must be accepted by name first (--accept), after a look at a dry run. Who hands it in
must be said (--user), because that person does not approve it. --apply approves it at once. Where PRICE_FOUR_EYES is
off --user may be left out; only there is --apply allowed.

Exit status: 0 done, 1 refused or unreadable, or, in a dry run, rows that cannot be read.
"""


class Command(BaseCommand):
    help = HELP.format(columns=", ".join(COLUMNS))

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE")
        parser.add_argument("--provider", required=True, metavar="SLUG")
        parser.add_argument("--mapping", metavar="NAME", help="a saved one, of this provider or of all")
        parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="repeatable")
        parser.add_argument("--effective", metavar="TIME", help="2026-12-01T00:00Z; default: once it is approved")
        parser.add_argument("--partial", action="store_true", help="only these places change; default: the whole list")
        parser.add_argument("--outlier", type=int, metavar="PERCENT", help="a change above it looks wrong")
        parser.add_argument("--accept", default="", metavar="KINDS", help=f"of {','.join(flow.ACCEPTED)}")
        parser.add_argument("--user", metavar="NAME", help="who hands it in, and so does not approve it")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, and keep nothing")
        parser.add_argument("--apply", action="store_true", help="approve it at once (PRICE_FOUR_EYES=off)")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRICE_FOUR_EYES != "off":
            if options["apply"]:
                raise CommandError("--apply: a second person approves it (PRICE_FOUR_EYES)")
            if not (options["user"] or options["dry_run"]):
                raise CommandError("--user: who hands it in, and so does not approve it? (PRICE_FOUR_EYES)")
        provider = Provider.objects.filter(slug=options["provider"]).first()
        if provider is None:
            raise CommandError(f"there is no provider {options['provider']}")
        try:
            content = Path(options["file"]).read_bytes()
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from None
        try:
            with ExitStack() as locks:
                with transaction.atomic():  # no import process sees it before its lock is ours
                    found = self._upload(provider, content, options)
                    locks.enter_context(work.held(found.pk))
                self._compare(found, dry=options["dry_run"])
                if not options["dry_run"]:
                    self._hand_in(found, options)
        except (Refused, Unreadable) as error:
            raise CommandError(str(error)) from None

    def _upload(self, provider: Provider, content: bytes, options: dict[str, Any]) -> PriceImport:
        mapping = self._mapping(provider, content, options)
        user = User.objects.filter(username=options["user"]).first() if options["user"] else None
        if options["user"] and user is None:
            raise CommandError(f"there is no user {options['user']}")
        effective = moment(options["effective"]) if options["effective"] else None
        if options["effective"] and effective is None:
            raise CommandError("--effective: a time like 2026-12-01T00:00Z is expected")
        return flow.upload(
            provider=provider,
            name=Path(options["file"]).name,
            content=content,
            user=user,
            partial=options["partial"],
            mapping=mapping,
            effective_at=effective,
            outlier_percent=options["outlier"],
        )

    def _mapping(self, provider: Provider, content: bytes, options: dict[str, Any]) -> Mapping:
        if options["mapping"]:
            named = PriceMapping.objects.filter(name=options["mapping"])
            saved = named.filter(provider=provider).first() or named.filter(provider=None).first()
            if saved is None:
                raise CommandError(f"there is no mapping {options['mapping']!r} for {provider}")
            mapping = Mapping.from_json(saved.mapping)
        else:
            mapping = guess.look(content).mapping
        mapping = replace(mapping, **dict(_setting(text) for text in options["set"]))
        head = guess.look(content, mapping.form)
        if wrong := problems(mapping, head.columns):
            raise CommandError("\n".join([*wrong, f"Columns of the file: {', '.join(head.columns)}"]))
        columns = ", ".join(f"{field}={name!r}" for field in COLUMNS if (name := getattr(mapping, field)))
        self.stderr.write(f"{import_pages.written(mapping)}; {columns}")
        return mapping

    def _compare(self, found: PriceImport, *, dry: bool) -> None:
        try:
            while work.step(found.pk, told=self._progress):
                pass
            found.refresh_from_db()
            if found.status != PriceImport.Status.READY:
                raise CommandError(found.fault or f"it is {found.status}")
            self._show(found)
            if dry and found.counts["error"]:
                raise CommandError(f"{found.counts['error']} rows cannot be read")
        finally:
            if dry:
                found.delete()

    def _progress(self, found: PriceImport, step: str) -> None:
        of = f" of {found.total}" if found.total else ""
        self.stderr.write(f"{step}: {found.done}{of}" if found.done else step)

    def _show(self, found: PriceImport) -> None:
        counts = found.counts
        self.stdout.write(f"{counts['rows']} rows, {counts['prices']} prices; compared with {found.base or 'no list'}")
        names = ("new", "up", "down", "terms", "unchanged", "removed", "outlier", "error", "skipped", "merged")
        self.stdout.write("  ".join(f"{name} {counts[name]}" for name in names if counts[name]))
        for row in found.left_out.filter(kind="error").order_by("line")[:TOLD]:
            self.stdout.write(f"  line {row.line}: {row.column}: {row.value!r} {row.reason}")
        for price in found.staged.exclude(change="unchanged").order_by("-weight", "pk")[:TOLD]:
            told = import_pages.shown(price)
            words = (told["change"], told["country"], told["place"], told["old"], "->", told["new"], told["percent"])
            self.stdout.write("  " + " ".join(str(word) for word in (*words, told["outlier"]) if word))
        if counts["no_rate"]:
            self.stdout.write(f"no exchange rate for {', '.join(counts['no_rate'])}: nothing is sent by these prices")

    def _hand_in(self, found: PriceImport, options: dict[str, Any]) -> None:
        accepted = {kind for kind in options["accept"].split(",") if kind}
        if unknown := accepted - set(flow.ACCEPTED):
            raise CommandError(f"--accept: {', '.join(sorted(unknown))} is none of {', '.join(flow.ACCEPTED)}")
        user = found.uploaded_by
        flow.submit(found.pk, user=user, accepted=accepted)
        work.step(found.pk, told=self._progress)
        found.refresh_from_db()
        if found.status != PriceImport.Status.SUBMITTED:
            raise CommandError(found.fault or f"it is {found.status}")
        if not options["apply"]:
            self.stdout.write(f"import {found.pk} waits for approval in the admin")
            return
        assert found.book_id  # noqa: S101  a submitted import has one
        found = flow.approve(found.pk, user=user, book=found.book_id)
        self.stdout.write(f"{found.book} is active {import_pages.when(found)}")


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    kinds = {field.name: field.type for field in fields(Mapping)}
    if not sign or name not in kinds:
        raise CommandError(f"--set {text}: FIELD=VALUE is expected, with one of {', '.join(kinds)}")
    if kinds[name] is bool:
        return name, value in ("true", "yes", "1")
    if kinds[name] is int:
        if not value.isdecimal():
            raise CommandError(f"--set {text}: a number is expected")
        return name, int(value)
    return name, {"\\t": "\t", "tab": "\t"}.get(value, value) if name == "delimiter" else value
