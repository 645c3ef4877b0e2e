"""An imported price list routes on a worker that runs: no restart, and codes go out meanwhile as before."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from statistics import quantiles

import pytest
from django.contrib.auth.models import User
from django.db import connection

from messaging import intake
from messaging.clients import Caller
from messaging.models import Attempt
from providers.models import Provider
from routing.import_models import PriceImport
from routing.imports import flow, work
from routing.imports.mapping import Mapping
from routing.models import PriceList
from tests.conftest import Carriers
from tests.factories import PriceListFactory, ProviderFactory
from tests.fleet import Fleet, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

PRICES = 50_000
PAUSE = 0.05  # seconds between two codes
CALM = 2.0  # seconds


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, PUBLIC_URL="http://127.0.0.1:9", LOG_LEVEL="INFO", POLL=0.05) as found:
        yield found


def prefixes() -> list[str]:
    """Prefixes of one country, and the one that is asked for."""
    return ["38067", *(f"33{number}" for number in range(PRICES - 1))]


def fill(book: PriceList, price: str) -> None:
    columns = "price_list_id, country, mcc, mnc, prefix, price, price_delivered, currency"
    with connection.cursor() as cursor, cursor.copy(f"COPY routing_price ({columns}) FROM STDIN") as copy:
        for prefix in prefixes():
            copy.write_row((book.pk, "UA" if prefix == "38067" else "FR", "", "", prefix, price, "0", "EUR"))


def submitted(provider: Provider, price: str) -> PriceImport:
    """A file that was read and compared, and that an import process is to write."""
    content = "prefix,price\n" + "".join(f"{prefix},{price}\n" for prefix in prefixes())
    mapping = Mapping(dial_code="prefix", price="price", currency="EUR")
    anna = User.objects.create_user("anna")
    found = flow.upload(provider=provider, name="new.csv", content=content.encode(), user=anna, mapping=mapping)
    while work.work():
        pass
    return flow.submit(found.pk, user=anna, accepted=set(flow.ACCEPTED))


@pytest.fixture
def codes(caller: Caller) -> Iterator[None]:
    """Sends a code every few hundredths of a second until the test ends."""
    ended = threading.Event()

    def send() -> None:
        try:
            for number in count():
                if ended.wait(PAUSE):
                    return
                intake.accept(caller, {"to": f"+38067{number:07}", "text": "Your code", "class": "otp"})
        finally:
            connection.close()

    thread = threading.Thread(target=send)
    thread.start()
    yield
    ended.set()
    thread.join(20)


def went_by(slug: str, since: datetime) -> Attempt | None:
    found = Attempt.objects.filter(provider__slug=slug, started_at__gt=since).select_related("message")
    return found.order_by("started_at").first()


def waits(begin: datetime, end: datetime) -> list[float]:
    found = Attempt.objects.filter(seq=1, started_at__range=(begin, end)).select_related("message")
    return [(attempt.started_at - attempt.message.created_at).total_seconds() for attempt in found]


def test_change_and_rollback_of_a_large_book_route_without_a_restart(
    fleet: Fleet,
    carriers: Carriers,
    request: pytest.FixtureRequest,
    caller: Caller,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = ProviderFactory(slug="carrier-a", base_url=carriers.url(1), token="carrier-a-token")
    ProviderFactory(slug="carrier-b", base_url=carriers.url(2), token="carrier-b-token", price="0.05")
    fill(PriceListFactory(provider=first), "0.04")
    found, ben = submitted(first, "0.09"), User.objects.create_user("ben")
    fleet.worker()
    fleet.program("imports", "manage.py", "run_imports")
    wait_for(lambda: PriceImport.objects.filter(status="submitted").exists(), seconds=60)
    found.refresh_from_db()
    request.getfixturevalue("codes")
    began = datetime.now(UTC)
    wait_for(lambda: went_by("carrier-a", began), seconds=60)
    time.sleep(CALM)  # the worker has read everything, and what waited is sent
    calm = datetime.now(UTC)
    time.sleep(CALM)

    changed = datetime.now(UTC)
    book = flow.approve(found.pk, user=ben, book=found.book_id or 0).book
    dearer = wait_for(lambda: went_by("carrier-b", changed), seconds=30)
    time.sleep(1)
    rolled_back = datetime.now(UTC)
    flow.roll_back(found.pk, user=ben)
    cheaper = wait_for(lambda: went_by("carrier-a", rolled_back), seconds=30)
    ended = datetime.now(UTC)

    before, during = waits(calm, changed), waits(changed, ended)
    assert book
    begins = [changed, book.valid_from, rolled_back]
    ends = [dearer.started_at, dearer.started_at, cheaper.started_at]
    took = [(end - begin).total_seconds() for begin, end in zip(begins, ends, strict=True)]
    with capsys.disabled():
        print(
            f"\n{PRICES:,} prices route {took[0]:.2f} s after their approval, {took[1]:.2f} s after their begin, "
            f"{took[2]:.2f} s after the rollback; "
            f"from code to intent {_told(before)} before, {_told(during)} meanwhile"
        )
    assert dearer.price == Decimal("0.05")
    assert cheaper.price == Decimal("0.04")
    assert len(before) > 10
    assert len(during) > 10
    assert not [line for line in fleet.output.splitlines() if '"ERROR"' in line]


def _told(found: list[float]) -> str:
    steps = quantiles(found, n=20)
    return f"{1e3 * steps[9]:.0f} ms (median), {1e3 * steps[18]:.0f} ms (p95), {1e3 * max(found):.0f} ms (most)"
