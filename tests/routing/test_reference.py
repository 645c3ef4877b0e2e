"""The order compared with an implementation that is slow and obvious: 100,000 look-ups in 500 random books."""

import random
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from providers.adapters.base import Resolve
from providers.health import Board
from routing.lcr import candidates
from routing.networks import Network
from routing.prices import Binding, Row
from routing.rules import Condition, Registration
from routing.snapshot import Route, Tables

SEED = 20261128
ROUNDS, PROVIDERS, LOOKUPS = 100, 5, 200  # 500 books, each asked 200 times
ASKED = ROUNDS * PROVIDERS * LOOKUPS
LONGEST = 6  # digits of a prefix here
START = datetime(2026, 11, 1, tzinfo=UTC)
CURRENCIES = ("EUR", "USD", "UAH")
RATES = {
    "USD": ((START, Decimal("1.08350000")), (START - timedelta(days=30), Decimal("1.10410000"))),
    "UAH": ((START + timedelta(days=5), Decimal("48.91230000")),),
}
COUNTRIES = {
    "UA": ("380", "255"),
    "PL": ("48", "260"),
    "US": ("1", "310"),
    "CA": ("1", "302"),
    "GB": ("44", "234"),
    "BS": ("1", "364"),
}


# --- the slow one: rows, one rule after the other, money as Decimal ---------------------------------


def price_of(rows, number, country, network, at):
    """(total, currency) of the row that is the most specific of those that fit, or a reason."""
    valid = [
        r for r in rows if (r.valid_from is None or r.valid_from <= at) and (r.valid_to is None or at < r.valid_to)
    ]

    def best(fits):
        """Of the number's own country, else the dearest."""
        found = [row for row in valid if fits(row)]
        own = [row for row in found if row.country == country]
        return own[0] if own else max(found, key=total, default=None)

    levels = []
    if network.mnc:
        levels.append(lambda r: not r.prefix and (r.mcc, r.mnc) == tuple(network))
    for length in range(LONGEST, 0, -1):
        levels.append(lambda r, length=length: r.prefix and r.prefix == number[1 : 1 + length])
    if network.mcc:
        levels.append(lambda r: r.mcc == network.mcc and not r.mnc)
    levels.append(lambda r: r.country == country and not r.mcc and not r.prefix)
    default = next((row for level in levels if (row := best(level))), None)
    # A book with prices by network there, whatever the time: then the dearest of those that are valid.
    if not network.mcc and any(r.mcc and r.country == country for r in rows):
        options = [r for r in valid if r.mcc and r.country == country] + ([default] if default else [])
        dearest = max(options, key=lambda r: (cost(r, at) is None, cost(r, at) or total(r), r.currency), default=None)
        return dearest or "network_unknown"
    return default or "no_price"


def total(row):
    return Decimal(row.on_submit + row.on_delivery) / 10**6


def cost(row, at):
    rate = Decimal(1)
    if row.currency != "EUR":
        rate = next((rate for begins, rate in RATES.get(row.currency, ()) if begins <= at), None)
    return None if rate is None else (total(row) / rate).quantize(Decimal("1e-12"), ROUND_FLOOR)


def expected(world, question, number, at, open_breakers):
    found = []
    for provider, rows in world["books"].items():
        found.append(judge(world, provider, rows, question, number, at, open_breakers))
    return sorted(found, key=lambda one: one[0])


def judge(world, provider, rows, question, number, at, open_breakers):
    """(place in the order, provider, reason, price, currency)."""
    rules = [rule for rule in world["rules"] if matches(rule, question, at)]
    pinned = {rule.provider_id for rule in rules if rule.action == "pin"}
    preferred = any(rule.action == "prefer" and rule.provider_id == provider for rule in rules)
    ceilings = [r.ceiling for r in rules if r.action == "ceiling" and r.provider_id in (0, provider)]
    registered = world["registrations"].get((provider, question["country"]))
    name = f"provider-{provider}"
    if any(rule.action == "bar" and rule.provider_id == provider for rule in rules):
        return (True, False, True, 0, name), name, "barred", None, ""
    if pinned and provider not in pinned:
        return (True, False, True, 0, name), name, "not_pinned", None, ""
    if registered is not None and question["sender"] not in registered:
        return (True, False, True, 0, name), name, "sender_not_registered", None, ""
    row = price_of(rows, number, question["country"], question["network"], at)
    if isinstance(row, str):
        return (True, False, True, 0, name), name, row, None, ""
    each = cost(row, at)
    if each is None:
        return (True, False, True, 0, name), name, "no_exchange_rate", total(row), row.currency
    message, reason = each * question["segments"], ""
    if any(each > Decimal(ceiling).scaleb(-12) for ceiling in ceilings):
        reason = "above_ceiling"
    elif question["max_price"] is not None and message > question["max_price"]:
        reason = "above_max_price"
    blocked = (provider, "") in open_breakers
    place = (True, False, True, message, name) if reason else (False, blocked, not preferred, message, name)
    return place, name, reason, total(row), row.currency


def matches(rule, question, at):
    return all(
        (
            rule.client in ("", question["client"]),
            rule.country in ("", question["country"]),
            rule.message_class in ("", question["message_class"]),
            rule.sender in ("", question["sender"]),
            rule.mcc in ("", question["network"].mcc),
            rule.begins is None or rule.begins <= at.time() < rule.ends,
        )
    )


# --- worlds ---------------------------------------------------------------------------------------


def rows_of(chance):
    """A small book with everything in it. What the database would exclude is left out."""
    found: list[Row] = []
    taken: dict = {}
    for _ in range(chance.randrange(1, 26)):
        country = chance.choice(list(COUNTRIES))
        code, mcc = COUNTRIES[country]
        kind = chance.choice(("network", "prefix", "prefix", "prefix", "mcc", "country"))
        prefix = code + "".join(chance.choices("123", k=chance.randrange(4))) if kind == "prefix" else ""
        place = (
            country,
            mcc if kind in ("network", "mcc") else "",
            chance.choice(("01", "1", "001", "03")) if kind == "network" else "",
            prefix,
        )
        begins = chance.choice((None, None, START, START + timedelta(days=chance.randrange(1, 9))))
        ends = chance.choice((None, None, START + timedelta(days=10)))
        if any(overlap(begins, ends, *other) for other in taken.get(place, ())):
            continue
        taken.setdefault(place, []).append((begins, ends))
        prices = chance.choice((0, 10_000, 25_000, 25_001)), chance.choice((0, 15_000, 1))
        found.append(Row(*place, *prices, chance.choice(CURRENCIES), begins, ends))
    return found


def overlap(begins, ends, other_begins, other_ends):
    return (ends is None or other_begins is None or other_begins < ends) and (
        other_ends is None or begins is None or begins < other_ends
    )


def world_of(chance):
    books = {provider: rows_of(chance) for provider in range(1, PROVIDERS + 1)}
    rules = []
    for number in range(chance.randrange(4)):
        hours = chance.choice(
            ((None, None), ((START + timedelta(hours=6)).time(), (START + timedelta(hours=18)).time()))
        )
        rules.append(
            Condition(
                name=f"rule {number}",
                action=chance.choice(("pin", "bar", "prefer", "ceiling")),
                provider_id=chance.randrange(1, PROVIDERS + 1),
                ceiling=chance.choice((20_000, 30_000)) * 10**6,
                client=chance.choice(("", "core")),
                country=chance.choice(("", "UA")),
                mcc=chance.choice(("", "", "255")),
                sender=chance.choice(("", "MEXAR")),
                begins=hours[0],
                ends=hours[1],
            )
        )
    registrations = {}
    if chance.random() < 0.3:
        registrations[1, "UA"] = {"MEXAR": Registration("approved", None)}
    return {"books": books, "rules": rules, "registrations": registrations}


def tables_of(world):
    routes = {}
    for provider, rows in world["books"].items():
        binding = Binding()
        binding.add(rows)
        routes[provider] = Route(
            provider, f"provider-{provider}", True, None, "", Resolve.NONE, 0, 0, None, "", ((START, binding.book()),)
        )
    return Tables(routes, RATES, "EUR", world["rules"], world["registrations"])


def question_of(chance):
    country = chance.choice(list(COUNTRIES))
    code, mcc = COUNTRIES[country]
    network = chance.choice((Network(), Network(mcc, chance.choice(("01", "1", "001", "03", "99")))))
    number = f"+{code}" + "".join(chance.choices("1234", k=9))
    at = START + timedelta(hours=chance.randrange(24 * 12), minutes=chance.choice((0, 30)))
    return (
        number,
        at,
        {
            "country": country,
            "segments": chance.choice((1, 1, 2, 3)),
            "message_class": chance.choice(("otp", "bulk")),
            "client": chance.choice(("core", "kyc")),
            "sender": chance.choice(("MEXAR", "")),
            "network": network,
            "max_price": chance.choice((None, None, Decimal("0.04"))),
        },
    )


def test_the_order_is_that_of_the_obvious_implementation():
    chance = random.Random(SEED)
    asked = 0
    for _ in range(ROUNDS):
        world = world_of(chance)
        tables = tables_of(world)
        for _ in range(LOOKUPS):
            number, at, question = question_of(chance)
            open_breakers = chance.choice(({}, {}, {(2, ""): "read_timeout"}))

            found = candidates(tables, Board(open=open_breakers), msisdn=number, at=at, **question)

            wanted = expected(world, question, number, at, open_breakers)
            assert [(c.slug, c.reason, c.price, c.currency) for c in found] == [one[1:] for one in wanted], (
                number,
                at,
                question,
            )
            asked += len(found)
    assert asked == ASKED


def test_a_cheaper_short_prefix_never_beats_the_longer_one_that_fits():
    chance = random.Random(SEED)
    for _ in range(300):
        digits = "".join(chance.choices("123456789", k=11))
        lengths = sorted(chance.sample(range(1, 11), chance.randrange(2, 6)))
        binding = Binding()
        binding.add(Row("UA", "", "", digits[:length], 1_000 * length, 0, "EUR", None, None) for length in lengths)
        route = Route(1, "only", True, None, "", Resolve.NONE, 0, 0, None, "", ((START, binding.book()),))
        tables = Tables({1: route}, {}, "EUR")

        (found,) = candidates(
            tables,
            Board(),
            msisdn=f"+{digits}",
            country="UA",
            segments=1,
            message_class="otp",
            client="core",
            sender="",
            at=START,
        )

        assert found.place == digits[: lengths[-1]]
