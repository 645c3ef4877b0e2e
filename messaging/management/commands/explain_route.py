"""`manage.py explain_route +E164 [--client core] [--class otp] [--sender MEXAR] [--at 2026-12-01T08:00:00Z]`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.drafts import parse_moment
from messaging.explain import Explained, explain, reason
from messaging.models import Client
from messaging.states import MessageClass
from routing import numbers
from routing.lcr import REASONS
from routing.prices import plain


class Command(BaseCommand):
    help = "Who would carry a message to this number, why, at what price, and who would not, and why. Nothing is sent."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("number", help="E.164 with the plus")
        parser.add_argument("--client", default="", help="the slug of a client: its rules, sender, transliteration")
        parser.add_argument("--class", dest="message_class", default="transactional", choices=[*MessageClass])
        parser.add_argument("--sender", default="", help="the client's when empty")
        parser.add_argument("--text", default="Hello", help="for segments and encoding")
        parser.add_argument("--at", default="", help="another moment: ISO 8601 with its offset")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            number = numbers.parse(options["number"])
            at = parse_moment(options["at"]) if options["at"] else None
        except numbers.InvalidNumber as error:
            raise CommandError(f"This is no number in E.164 form ({error.reason}).") from None
        except ValueError:
            raise CommandError("--at is an ISO 8601 date and time with its offset.") from None
        client = _client(options["client"])
        found = explain(
            msisdn=number.msisdn,
            country=number.country,
            text=options["text"],
            message_class=options["message_class"],
            client=client.slug,
            sender=options["sender"] or client.sender,
            level=client.transliteration,
            at=at,
        )
        self.stdout.write("\n".join(_told(number.msisdn, found)))


def _client(slug: str) -> Client:
    if not slug:
        return Client(slug="", transliteration="typographic")
    client = Client.objects.filter(slug=slug).first()
    if client is None:
        raise CommandError(f"There is no client {slug!r}.")
    return client


def _told(msisdn: str, found: Explained) -> list[str]:
    network = f"network {found.network} {found.network_name}".rstrip()
    lines = [
        f"{numbers.mask(msisdn)} in {found.country}, {network}; {found.encoding}, {found.segments} segments",
        f"rules: {', '.join(found.rules) or 'none match'}",
        *filter(None, [found.note]),
        "",
    ]
    for place, candidate in enumerate(found.candidates, 1):
        price = ""
        if candidate.total is not None:
            price = f"{plain(candidate.total)} {candidate.currency} by {candidate.by}"
            if candidate.cost is not None and candidate.currency != found.currency:
                price += f" = {plain(round(candidate.cost, 6))} {found.currency}"
        why = reason(candidate)
        note = f"{why}: {REASONS.get(why, candidate.blocked)}" if why else ""
        extra = " preferred" * candidate.preferred + f" weight {candidate.weight}" * bool(candidate.weight)
        lines.append(f"{place:>3}. {candidate.slug:<24} {price:<44}{extra} {note}".rstrip())
    return [*lines, "", f"chosen: {found.chosen.slug if found.chosen else 'nobody'}"]
