"""Money adds up: what messages cost is what the carriers' ledger has charged, to the last digit, by currency."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.db.models import Sum

from messaging import intake, tally
from messaging.clients import Caller
from messaging.models import Attempt, Message
from messaging.states import Status
from routing.models import ExchangeRate
from tests.conftest import Carriers, free_ports
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.fleet import Fleet, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

MESSAGES = 5_000
# The first tells its prices in answers and receipts; the others tell none, and our book alone knows them.
CARRIERS = """
[[carriers]]
slug = "carrier-a"
mode = "key"
token = "carrier-a-token"
currency = "EUR"
prices = { UA = "0.038100" }
prices_delivered = { UA = "0.001700" }
receipt_after = 0.1

[[carriers]]
slug = "carrier-b"
mode = "key"
token = "carrier-b-token"
currency = "USD"
prices = { UA = "0.043301" }
prices_delivered = { UA = "0.002903" }
receipt_after = 0.1
tells_prices = false

[[carriers]]
slug = "carrier-c"
mode = "key"
token = "carrier-c-token"
currency = "UAH"
prices = { UA = "0" }
prices_delivered = { UA = "3.107311" }
receipt_after = 0.1
tells_prices = false
"""
# One to three segments in both alphabets; of some, the carriers count other segments than we do.
TEXTS = ("Hello", "x" * 161, "Привіт", "я" * 150, "Ten € [net]", "It’s here – “now”", "€" * 100)


@pytest.fixture
def carriers(tmp_path: Path) -> Iterator[Carriers]:
    found = Carriers(tmp_path, CARRIERS)
    yield found
    found.stop()


@pytest.fixture
def fleet(tmp_path: Path, carriers: Carriers) -> Iterator[Fleet]:
    port = free_ports(1)
    with Fleet(tmp_path, PUBLIC_URL=f"http://127.0.0.1:{port}", LOG_LEVEL="WARNING") as found:
        found.web(port)
        found.sweeper()
        yield found


def provide(carriers: Carriers, slug: str, number: int, submit: str, delivered: str, currency: str) -> None:
    provider = ProviderFactory(slug=slug, base_url=carriers.url(number), token=f"{slug}-token")
    PriceFactory(
        price_list=PriceListFactory(provider=provider),
        price=Decimal(submit),
        price_delivered=Decimal(delivered),
        currency=currency,
    )


def test_the_sum_of_all_messages_is_that_of_the_ledger(fleet: Fleet, carriers: Carriers, caller: Caller) -> None:
    for currency, rate in (("USD", "1.08"), ("UAH", "48.9")):
        ExchangeRate.objects.create(currency=currency, rate=Decimal(rate), valid_from=datetime.now(UTC) - timedelta(1))
    provide(carriers, "carrier-a", 1, "0.0381", "0.0017", "EUR")
    provide(carriers, "carrier-b", 2, "0.043301", "0.002903", "USD")
    provide(carriers, "carrier-c", 3, "0", "3.107311", "UAH")
    negative = {"fault": "receipt_negative", "share": 0.15, "status": "undelivered", "code": "absent"}
    lost = {"fault": "drop_after_accept", "share": 0.02}
    carriers.faults("carrier-a", {"fault": "reject", "share": 0.4, "code": "no_route"}, lost, negative)
    carriers.faults("carrier-b", {"fault": "reject", "share": 0.4, "code": "sender_not_allowed"}, negative)
    carriers.faults("carrier-c", negative, {"fault": "receipt_duplicate", "share": 0.2})
    for first in range(0, MESSAGES, 1000):
        numbers = range(first, first + 1000)
        items = [{"to": f"+38067{n:07}", "text": TEXTS[n % len(TEXTS)], "class": "bulk"} for n in numbers]
        accepted = intake.accept_many(caller, items)
        assert not [found for found in accepted if isinstance(found, Exception)]

    fleet.worker()
    closed = (Status.DELIVERED, Status.UNDELIVERED)
    wait_for(lambda: Message.objects.filter(status__in=closed).count() == MESSAGES, seconds=150, pause=0.5)

    ledger: dict[str, Decimal] = defaultdict(Decimal)
    for entry in carriers.entries():
        if "charge" in entry:
            ledger[entry["currency"]] += Decimal(entry["charge"])
    messages = dict(Attempt.objects.exclude(cost=None).values_list("currency").annotate(Sum("cost")))
    counted: dict[str, Decimal] = defaultdict(Decimal)
    for one in tally.totals():
        counted[one.currency] += one.cost
    assert messages == dict(ledger)
    assert {currency: cost for currency, cost in counted.items() if cost} == messages
    assert set(messages) == {"EUR", "USD", "UAH"}
    assert Attempt.objects.filter(status="rejected").count() > 1000
    assert Message.objects.filter(status=Status.UNDELIVERED).count() > 500
    assert set(Message.objects.values_list("encoding", flat=True)) == {"gsm7", "ucs2"}
