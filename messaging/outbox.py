"""Events that are not a message's own moves (those are written by the transition itself), and how many wait."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from providers.health import Transition
from providers.models import ProviderHealth
from providers.sql import records, rows

COUNTED = 1000


@dataclass(frozen=True, slots=True)
class Lag:
    """What is not in Kafka yet: how many events, at most COUNTED + 1, and the age of the oldest in seconds."""

    events: int
    seconds: float


def lag() -> Lag:
    ((count, age),) = rows(
        f"""
        SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
        FROM (SELECT created_at FROM messaging_event WHERE published_at IS NULL ORDER BY id LIMIT {COUNTED + 1}) e"""  # noqa: S608  a literal
    )
    return Lag(count, age)


def tell_health(transitions: Iterable[Transition]) -> None:
    """Writes provider.down and provider.up; the subject is the provider's slug."""
    told = [
        {
            "provider_id": move.provider_id,
            "type": "provider.down" if move.state == ProviderHealth.State.OPEN else "provider.up",
            "country": move.country,
            "reason": move.reason,
        }
        for move in transitions
    ]
    if not told:
        return
    with transaction.atomic():
        # Locked, so that no other worker takes the same sequence; the key is left to those who write attempts.
        rows(
            "SELECT FROM providers_provider WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE",
            {"ids": [move["provider_id"] for move in told]},
        )
        rows(
            """
            INSERT INTO messaging_event (id, type, subject, sequence, data, created_at)
            SELECT uuidv7(), r.type, p.slug,
              row_number() OVER (PARTITION BY p.id)
                + (SELECT coalesce(max(e.sequence), 0) FROM messaging_event e WHERE e.subject = p.slug),
              jsonb_build_object('provider', p.slug, 'country', r.country, 'reason', r.reason), clock_timestamp()
            FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(provider_id bigint, type text, country text, reason text)
            JOIN providers_provider p ON p.id = r.provider_id""",
            {"rows": records(told)},
        )
