"""Events that are not a message's own moves. (Those are written by the transition itself.)"""

from collections.abc import Iterable

from django.db import transaction

from providers.health import Transition
from providers.models import ProviderHealth
from providers.sql import records, rows


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
