"""The relay: one leader by advisory lock, any number of hot standbys."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from messaging import leading, lifecycle
from messaging.relay import Relay

LOCK = 0x4D58_524C
PAUSE = 0.1  # seconds between two looks at an empty outbox


class Command(BaseCommand):
    help = (
        "Publishes events and dead letters to Kafka. "
        "Start as many as you like: one leads, the others wait to take over."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.KAFKA_BOOTSTRAP_SERVERS:
            raise CommandError("KAFKA_BOOTSTRAP_SERVERS is not set.")
        stopping = leading.until_told()
        relay = Relay(stopping)
        with lifecycle.logged():
            leading.lead(
                "relay", LOCK, relay.work, pause=PAUSE, stopping=stopping, elected=relay.elected, told=relay.told
            )
            relay.close()
