"""The bridge: as many as there are partitions; they share them."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from messaging import leading, lifecycle
from messaging.bridge import Bridge
from messaging.kafka import KafkaStopped


class Command(BaseCommand):
    help = "Takes commands from Kafka. Start several: they share the partitions of the topic."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.KAFKA_BOOTSTRAP_SERVERS:
            raise CommandError("KAFKA_BOOTSTRAP_SERVERS is not set.")
        bridge = Bridge(leading.until_told())
        try:
            with lifecycle.logged():
                bridge.run()
        except KafkaStopped as error:
            raise CommandError(str(error)) from None
        finally:
            bridge.close()
