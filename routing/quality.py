"""How well providers carry: counted by the hour, for orders that look at more than the price.

Whoever knows what became of a message hands it in as a `Sample`, once. Nothing here asks for it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from providers.sql import in_groups, records, rows

KEEP = "400 days"
GROUP = 5000


@dataclass(frozen=True, slots=True)
class Sample:
    """One message that a provider was handed. `converted` is None where more than one provider may deserve it."""

    at: datetime
    message_class: str
    provider_id: int
    country: str
    delivered: bool
    converted: bool | None
    mcc: str = ""
    mnc: str = ""


def record(samples: Iterable[Sample]) -> None:
    """Adds them up, in the caller's transaction. Rows are locked in the order of their key: no two can deadlock."""
    sums: dict[tuple[str | int, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one in samples:
        hour = one.at.replace(minute=0, second=0, microsecond=0).isoformat()
        counts = sums[hour, one.message_class, one.provider_id, one.country, one.mcc, one.mnc]
        found = (True, one.delivered, one.converted is True, one.converted is None)
        counts[:] = [count + step for count, step in zip(counts, found, strict=True)]
    if sums:
        rows(_ADD, {"rows": records(dict(zip(_NAMES, (*key, *sums[key]), strict=True)) for key in sorted(sums))})


_NAMES = (
    *("hour", "message_class", "provider_id", "country", "mcc", "mnc"),
    *("attempts", "delivered", "converted", "unattributed"),
)
_ADD = f"""
INSERT INTO routing_quality AS q ({", ".join(_NAMES)})
SELECT {", ".join(_NAMES)} FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(hour timestamptz, message_class text,
  provider_id bigint, country text, mcc text, mnc text, attempts int, delivered int, converted int, unattributed int)
ON CONFLICT (hour, message_class, provider_id, country, mcc, mnc) DO UPDATE SET
  attempts = q.attempts + excluded.attempts, delivered = q.delivered + excluded.delivered,
  converted = q.converted + excluded.converted, unattributed = q.unattributed + excluded.unattributed
"""  # noqa: S608  literals of this module


def purge() -> None:
    """Forgets old hours."""
    statement = f"""
        DELETE FROM routing_quality WHERE id IN (SELECT id FROM routing_quality
          WHERE hour < statement_timestamp() - interval '{KEEP}' LIMIT {GROUP} FOR UPDATE SKIP LOCKED)
        RETURNING 1"""  # noqa: S608  literals of this module
    in_groups(lambda: len(rows(statement)), GROUP)
