"""What the chaos tests play on: for each thing a carrier may be able to do one carrier, with a country of its own."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.management import call_command

from messaging.models import Client, Message
from providers.models import Provider
from tests.conftest import Carriers
from tests.factories import ClientFactory, MessageFactory, PriceFactory, PriceListFactory, ProviderFactory
from tests.fleet import Fleet

COUNTRY = {"key": "UA", "lookup": "PL", "none": "DE"}
NUMBER = {"key": "+38067{:07}", "lookup": "+48512{:06}", "none": "+49151{:08}"}
MODES = tuple(COUNTRY)
LAG = 0.3  # seconds until a look-up shows what was accepted
CARRIER = """
[[carriers]]
slug = "carrier-{mode}"
mode = "{mode}"
token = "secret-token"
currency = "EUR"
prices = {{ "*" = "0.05" }}
receipts = []
lag = {lag}
"""
# Seconds. A look-up proves nothing before GATE + LAG; receipts never come, so what cannot be asked for is held.
SETTINGS = {
    "PUBLIC_URL": "http://127.0.0.1:9",
    "CONNECT_TIMEOUT": 2,
    "READ_TIMEOUT": 2.5,
    "TOTAL_TIMEOUT": 3.5,
    "GATE": 1.5,
    "LEASE": 10,
    "LEASE_GRACE": 1,
    "POLL": 0.5,
    "SWEEP": 0.5,
    "RESOLVE_WAIT": 3,
    "RECHECK_WAIT": 1,
    "RECEIPT_GRACE": 3,
    "BREAKER_FAILURES": 1_000_000,
    "BREAKER_SECONDS": 0.1,
}


class Stage:
    """Carriers, their providers, a client, and the processes of the service."""

    def __init__(self, directory: Path, carriers: Carriers, fleet: Fleet) -> None:
        self.directory = directory
        self.carriers = carriers
        self.fleet = fleet
        self.client: Client = ClientFactory()
        for number, mode in enumerate(MODES, 1):
            provider: Provider = ProviderFactory(
                slug=f"carrier-{mode}", base_url=carriers.url(number), resolve=mode, lag=LAG
            )
            PriceFactory(price_list=PriceListFactory(provider=provider), country=COUNTRY[mode])

    def queue(self, *names: object) -> None:
        """Makes messages, due at once: for each name one per mode, with the text "name mode"."""
        Message.objects.bulk_create(
            MessageFactory.build(
                client=self.client,
                country=COUNTRY[mode],
                to=NUMBER[mode].format(number),
                text=f"{name} {mode}",
            )
            for number, name in enumerate(names)
            for mode in MODES
        )

    def accepted(self) -> Counter[str]:
        """How many SMS the carriers have accepted of each text, by their ledger."""
        return Counter(entry["text"] for entry in self.carriers.entries("accepted"))


@contextmanager
def stage(directory: Path, **settings: object) -> Iterator[Stage]:
    """Everything ends with the block, and the database is empty again."""
    carriers = Carriers(directory, "".join(CARRIER.format(mode=mode, lag=LAG) for mode in MODES))
    try:
        with Fleet(directory, **{**SETTINGS, **settings}) as fleet:
            yield Stage(directory, carriers, fleet)
    finally:
        carriers.stop()
        call_command("flush", interactive=False, verbosity=0)
