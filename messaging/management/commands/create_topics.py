"""The topics, for an installation where nobody else makes them."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from messaging.kafka import KafkaStopped, create_topics


class Command(BaseCommand):
    help = "Creates the topics of events, commands and dead letters where they are missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--partitions", type=int, default=12, help="Of events and of commands (default 12).")
        parser.add_argument("--replication-factor", type=int, default=3, help="Default 3.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.KAFKA_BOOTSTRAP_SERVERS:
            raise CommandError("KAFKA_BOOTSTRAP_SERVERS is not set.")
        many = options["partitions"]
        topics = {settings.KAFKA_EVENTS_TOPIC: many, settings.KAFKA_COMMANDS_TOPIC: many, settings.KAFKA_DLQ_TOPIC: 1}
        try:
            found = create_topics(topics, options["replication_factor"])
        except KafkaStopped as error:
            raise CommandError(str(error)) from None
        for name, result in found.items():
            self.stdout.write(f"{name}: {result}")
