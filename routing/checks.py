"""System checks that look at the database: `manage.py check --database default`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS, DatabaseError

from routing import rates
from routing.snapshot import tables


@register(Tags.database)
def exchange_rates(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    try:
        found = rates.stale(tables.get(), datetime.now(UTC))
    except DatabaseError:  # before the first migration
        return []
    hint = "manage.py load_rates takes the file that the ECB publishes."
    return [Warning(text[0].upper() + text[1:] + ".", hint=hint, id="routing.W001") for text in found]
