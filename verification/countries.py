"""What staff have decided for a country: its mode and the cap of a day; in memory."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.conf import settings

from providers.snapshots import Snapshot
from routing.snapshot import tables
from verification.fraud_models import CountryRule, Mode


class Rule(NamedTuple):
    mode: str
    cap: Decimal | None = None
    currency: str = ""


def _load() -> Mapping[tuple[uuid.UUID | None, str], Rule]:
    found = CountryRule.objects.all()
    return {(row.client_id, row.country): Rule(row.mode, row.daily_cap, row.currency) for row in found}


rules: Snapshot[Mapping[tuple[uuid.UUID | None, str], Rule]] = Snapshot(("country_rules",), _load)
EVERYWHERE = Rule(Mode.FILTER)


def mode(client: uuid.UUID | None, country: str) -> str:
    return _of(client, country)[0].mode


def cap(client: uuid.UUID, country: str, at: datetime) -> Decimal | None:
    """In the reporting currency; None: there is none. The client's own, else everybody's, else VERIFY_DAILY_CAP."""
    for rule in _of(client, country):
        if rule.cap is not None:
            # Without an exchange rate nobody can tell when it is used up: nothing is spent.
            return tables.get().reporting(rule.cap, rule.currency, at) or Decimal(0)
    return Decimal(str(settings.VERIFY_DAILY_CAP)) if settings.VERIFY_DAILY_CAP else None


def _of(client: uuid.UUID | None, country: str) -> tuple[Rule, ...]:
    table = rules.get()
    found = (table.get((client, country)), table.get((None, country)))
    return tuple(rule for rule in found if rule) or (EVERYWHERE,)
