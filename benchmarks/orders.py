"""Orders of providers by the second: 1,000,000 prices of 20 providers, and 200,000 numbers that all differ.

`python -m benchmarks.orders SCALE`: fills an empty, migrated database, reads it as a worker does, and prints
what it found as JSON. One core, one thread: nothing else is measured than `routing.lcr.candidates`.
"""

import gc
import json
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import django

from benchmarks.measure import Failed, Sample
from benchmarks.world import World

DATABASE = "orders"
PROVIDERS, PRICES, NUMBERS = 20, 1_000_000, 200_000
BY_NETWORK = 8  # of the providers: they have prices by network beside those by prefix
NETWORKS = 20  # by country
CLIENTS, CLASSES = ("core", "kyc", "payout"), ("otp", "transactional", "bulk")


class Orders:
    """The same database for both steps of a round; a process for each measurement, as a worker would be."""

    def __init__(self, world: World, scale: float) -> None:
        self._world, self._scale = world, scale
        self._found: dict[str, Any] | None = None
        url = world.create_database(DATABASE)
        self._environment = {"DATABASE_URL": url, "PUBLIC_URL": "http://127.0.0.1"}
        self._environment["DJANGO_SETTINGS_MODULE"] = "config.settings"
        world.run("manage.py", "migrate", "--verbosity", "0", **self._environment)

    def without(self) -> Sample:
        """No order is kept: each number is looked up in every book."""
        self._world.rest()
        told = self._world.run("-m", "benchmarks.orders", str(self._scale), **self._environment)
        self._found = json.loads(told)
        notes = {name: self._found[name] for name in ("memory_mb", "load_s", "reload_s", "slowest_ms")}
        return Sample(self._found["without"], self._found["asked"], notes=notes)

    def kept(self) -> Sample:
        """The second half of the same process: orders are kept by what they depend on."""
        if self._found is None:
            raise Failed("the step before it has failed")
        notes = {name: float(self._found[name]) for name in ("orders", "orders_mb")}
        return Sample(self._found["kept"], self._found["asked_kept"], notes=notes)


def main() -> None:
    django.setup()
    scale = float(sys.argv[1])
    places = _places(random.Random(1), round(PRICES * scale) // PROVIDERS)
    if _fill(places):
        print("filled", file=sys.stderr)
    print(json.dumps(_measure(places, round(NUMBERS * scale))))


# --- the world ------------------------------------------------------------------------------------


def _places(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """(country, prefix): as many as a book has, the same for all: suppliers cut countries up alike."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    codes = [(str(code), regions[0]) for code, regions in COUNTRY_CODE_TO_REGION_CODE.items() if regions[0] != "001"]
    found: dict[str, str] = {}
    while len(found) < count:
        code, country = chance.choice(codes)
        found[code + "".join(chance.choices("0123456789", k=chance.choice((0, 1, 2, 3, 3, 4, 4))))] = country
    return [(country, prefix) for prefix, country in found.items()]


def _fill(places: Sequence[tuple[str, str]]) -> bool:
    from django.db import connection

    from providers.models import Provider
    from routing.models import ExchangeRate, PriceList

    if Provider.objects.exists():
        return False
    long_ago = datetime.now(UTC) - timedelta(days=30)
    ExchangeRate.objects.create(currency="USD", rate="1.0835", valid_from=long_ago)
    for number in range(PROVIDERS):
        provider = Provider(slug=f"provider-{number:02}", name="x", adapter="simulator", base_url="http://127.0.0.1:9")
        provider.set_credentials({"token": "t"})
        provider.save()
        book = PriceList.objects.create(provider=provider, name="book", status="active", valid_from=long_ago)
        columns = "price_list_id, country, mcc, mnc, prefix, price, price_delivered, currency"
        with connection.cursor() as cursor, cursor.copy(f"COPY routing_price ({columns}) FROM STDIN") as copy:
            for row in _rows(random.Random(number), number, places):
                copy.write_row((book.pk, *row))
    return True


def _rows(chance: random.Random, number: int, places: Sequence[tuple[str, str]]) -> Iterator[tuple[Any, ...]]:
    currency = "USD" if number % 4 == 3 else "EUR"
    count, by_network = len(places), []
    if number < BY_NETWORK:
        countries = sorted({country for country, _ in places})
        mccs = {country: str(200 + place) for place, country in enumerate(countries)}
        by_network = [(country, mccs[country], f"{mnc:02}", "") for country in countries for mnc in range(NETWORKS)]
    whole = [*by_network, *((country, "", "", prefix) for country, prefix in places)]
    for place in whole[:count]:
        yield (*place, f"0.{chance.randrange(10_000, 99_999):06}", "0", currency)


# --- the measurement ------------------------------------------------------------------------------


def _measure(places: Sequence[tuple[str, str]], count: int) -> dict[str, Any]:
    from providers.health import Board
    from routing.lcr import candidates
    from routing.snapshot import tables

    board, now, chance = Board(), datetime.now(UTC), random.Random(2)
    asked = _questions(chance, places, count)
    before, started = _memory(), time.perf_counter()
    book = tables.get()
    gc.collect()
    loaded, memory = time.perf_counter() - started, _memory() - before

    def rate(keep: bool) -> float:
        begin = time.perf_counter()
        for number, country, client, message_class in asked:
            candidates(
                book,
                board,
                msisdn=number,
                country=country,
                segments=1,
                message_class=message_class,
                client=client,
                sender="MEXAR",
                at=now,
                keep=keep,
            )
        return len(asked) / (time.perf_counter() - begin)

    without = rate(keep=False)
    rate(keep=True)  # finds the orders
    kept = rate(keep=True)
    orders, held = len(book.orders), _memory() - before - memory
    reload, slowest = _reloaded()
    return {
        "without": without,
        "kept": kept,
        "asked": len(asked),
        "asked_kept": len(asked),
        "orders": orders,
        "orders_mb": held,
        "memory_mb": memory,
        "load_s": loaded,
        "reload_s": reload,
        "slowest_ms": slowest * 1e3,
    }


def _questions(chance: random.Random, places: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str, str, str]]:
    found: dict[str, tuple[str, str, str, str]] = {}
    while len(found) < count:
        country, prefix = chance.choice(places)
        number = f"+{prefix}{''.join(chance.choices('0123456789', k=12 - len(prefix)))}"
        found[number] = (number, country, chance.choice(CLIENTS), chance.choice(CLASSES))
    return list(found.values())


def _reloaded() -> tuple[float, float]:
    """One of the books changes: seconds until its new price routes, and the longest that an order took meanwhile."""
    from django.conf import settings

    from providers.health import Board
    from providers.sql import rows
    from routing.lcr import candidates
    from routing.snapshot import tables

    settings.SNAPSHOT_MAX_AGE = 0.2
    ((book, number),) = rows("SELECT price_list_id, prefix FROM routing_price WHERE prefix <> '' ORDER BY id LIMIT 1")
    question = {"msisdn": f"+{number}123456", "country": "XX", "segments": 1, "message_class": "otp"}
    question |= {"client": "core", "sender": "", "at": datetime.now(UTC)}
    rows("UPDATE routing_price SET price = 0.000001, currency = 'EUR' WHERE price_list_id = %(book)s", {"book": book})
    started, slowest = time.perf_counter(), 0.0
    while time.perf_counter() - started < 60:
        begin = time.perf_counter()
        found = candidates(tables.get(), Board(), **question)
        slowest = max(slowest, time.perf_counter() - begin)
        if any(c.quote is not None and c.quote.total == 1 for c in found):
            return time.perf_counter() - started, slowest
        time.sleep(0.002)
    raise RuntimeError("the changed book was not read")


def _memory() -> float:
    """MB of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
