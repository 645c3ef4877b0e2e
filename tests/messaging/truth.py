"""What the tables hold, counted row by row, beside what the tally says: in one snapshot, so that nobody has to stop."""

from decimal import Decimal

from django.db import connection, transaction

from messaging import tally
from messaging.tally import ATTEMPT, MESSAGE
from providers.sql import rows


def assert_tally_is_exact():
    """Raises AssertionError with what differs. Outside of a transaction it opens one with a snapshot of its own."""
    if connection.in_atomic_block:
        _compare()
        return
    with transaction.atomic():
        rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        _compare()


def _compare():
    counts = tally.totals()
    messages = rows("SELECT message_class, 0, status, count(*) FROM messaging_message GROUP BY 1, 3")
    attempts = rows(
        "SELECT '', provider_id, status, count(*) FROM messaging_attempt WHERE status <> 'intent' GROUP BY 2, 3"
    )
    costs = rows("SELECT provider_id, currency, sum(cost) FROM messaging_attempt WHERE cost <> 0 GROUP BY 1, 2")
    assert dict(tally.standing(counts, MESSAGE)) == {tuple(key): n for *key, n in messages}
    assert dict(tally.standing(counts, ATTEMPT)) == {tuple(key): n for *key, n in attempts}
    assert cost_of(counts) == {(provider, currency): cost for provider, currency, cost in costs}


def cost_of(counts):
    found: dict[tuple[int, str], Decimal] = {}
    for one in counts:
        if one.cost:
            key = one.provider_id, one.currency
            found[key] = found.get(key, Decimal(0)) + one.cost
    return {key: cost for key, cost in found.items() if cost}
