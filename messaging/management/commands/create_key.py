"""`manage.py create_key CLIENT`: the token goes to standard output, once."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.clients import TooManyKeys, issue_key
from messaging.models import Client


class Command(BaseCommand):
    help = "Issue an API key for a client. It is printed once and cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("client", help="its slug")
        parser.add_argument("--scope", action="append", help="default: all scopes of the client; repeatable")
        parser.add_argument("--cidr", action="append", default=[], help="a network it may be used from, repeatable")
        parser.add_argument("--days", type=int, help="it expires after so many days")

    def handle(self, *args: Any, **options: Any) -> None:
        client = Client.objects.filter(slug=options["client"]).first()
        if client is None:
            raise CommandError(f"there is no client {options['client']}")
        scopes = options["scope"] or client.scopes
        if missing := set(scopes) - set(client.scopes):
            raise CommandError(f"{client} does not have the scope {', '.join(sorted(missing))}")
        if options["days"] is not None and not 1 <= options["days"] <= 3650:
            raise CommandError("--days must be from 1 to 3650")
        expires_at = datetime.now(UTC) + timedelta(days=options["days"]) if options["days"] else None
        try:
            cidrs = [str(ip_network(cidr)) for cidr in options["cidr"]]
            token = issue_key(client, scopes=scopes, cidrs=cidrs, expires_at=expires_at)
        except (TooManyKeys, ValueError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(token)
