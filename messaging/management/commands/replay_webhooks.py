"""`manage.py replay_webhooks ENDPOINT (--event ID | --since TIME [--until TIME] [--failed-only])`."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from messaging import tasks
from messaging.drafts import parse_moment
from messaging.states import EVENTS
from messaging.webhook_models import WebhookEndpoint
from messaging.webhooks import replays


def moment(text: str) -> datetime:
    try:
        return parse_moment(text)
    except ValueError:
        raise ArgumentTypeError("a time with its offset is expected: 2026-11-22T12:00:00Z") from None


class Command(BaseCommand):
    help = "Sends a webhook endpoint one event once more, or all of a time that it wants. Workers do it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("endpoint", type=UUID, help="Its id.")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--event", type=UUID, metavar="ID", help="One event, whatever the endpoint wants otherwise.")
        what.add_argument("--since", type=moment, metavar="TIME", help="All from this time on: 2026-11-22T12:00:00Z.")
        parser.add_argument("--until", type=moment, metavar="TIME", help="... to this time (now).")
        parser.add_argument("--failed-only", action="store_true", help="Only what was given up or never tried.")

    def handle(self, *args: Any, **options: Any) -> None:
        endpoint = WebhookEndpoint.objects.filter(pk=options["endpoint"], deleted_at=None).first()
        if endpoint is None:
            raise CommandError("There is no such endpoint.")
        if not endpoint.enabled:
            raise CommandError(f"It is disabled ({endpoint.disabled_reason}): enable it first.")
        if options["event"]:
            if not replays.one(endpoint, options["event"]):
                raise CommandError("Its client has no such event.")
        elif not replays.since(endpoint, options["since"], options["until"], failed_only=options["failed_only"]):
            raise CommandError("Earlier replays of this endpoint are still running.")
        tasks.hint(EVENTS)
        self.stdout.write("it will be sent again")
