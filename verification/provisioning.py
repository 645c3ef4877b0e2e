"""`[[clients.profiles]]` of a provisioning file: how a client verifies (`messaging.provisioning` has the rest)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Field
from phonenumbers import SUPPORTED_REGIONS

from messaging.drafts import LOCALE, SENDER, TEMPLATE
from messaging.models import Client
from messaging.provisioning import Save
from messaging.provisioning_file import named, repeated
from messaging.toml_table import Table
from routing.numbers import NumberType
from verification import codes, profiles
from verification.drafts import PURPOSE
from verification.models import APP_HASH, CONTEXT_FIELDS, HOST, Profile
from verification.profiles import Policy

NAME = "small letters, digits and _, at most 40"
MOST_COOLDOWNS = 10  # as many as there are sends


@dataclass(frozen=True, slots=True)
class Entry:
    """One profile; what the file does not name is not in `fields`."""

    table: Table
    purpose: str
    name: str
    fields: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.purpose} {self.name}".rstrip()


def read(tables: Sequence[Table]) -> list[Entry]:
    """Mistakes go to the tables, each with its place."""
    found = [_entry(table) for table in tables]
    for twice in repeated([str(entry) for entry in found]):
        next(entry for entry in reversed(found) if str(entry) == twice).table.wrong("", f"{twice} is there twice")
    return found


def apply(client: Client, entries: Sequence[Entry], save: Save) -> list[str]:
    """Saves what differs; returns what only the whole profile can tell to be wrong."""
    problems = []
    for entry in entries:
        where = {"client": client, "purpose": entry.purpose, "name": entry.name}
        row = Profile.objects.filter(**where).first()
        if row is None:
            row = Profile(**where)
            _begin(row)
        wanted = {field.name: entry.fields.get(field.name, getattr(row, field.name)) for field in fields(Policy)}
        odds = profiles.odds(wanted["code_length"], wanted["max_checks"], code_per_attempt=wanted["code_per_attempt"])
        if odds > codes.ODDS_LIMIT and not wanted["accept_risk"]:
            problems.append(
                f"{entry.table.place}.accept_risk: must be true, since a code is guessed with a chance of "
                f"{odds:.4g} in a million (at most {codes.ODDS_LIMIT} otherwise)"
            )
        save(f"profile {entry} of {client.slug}", row, entry.fields)
    return problems


def _begin(row: Profile) -> None:
    """A new profile is what held without it, changed where the file says so."""
    policy = profiles.DEFAULTS.get(row.purpose, Policy())
    for field in fields(Policy):
        value = getattr(policy, field.name)
        setattr(row, field.name, sorted(value) if isinstance(value, frozenset) else _listed(value))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _entry(table: Table) -> Entry:
    purpose = table.string("purpose", PURPOSE, NAME, required=True) or ""
    name = table.string("name", PURPOSE, NAME, blank=True) or ""
    found = named(
        enabled=table.boolean("enabled"),
        code_length=_number(table, "code_length"),
        ttl_seconds=_number(table, "ttl_seconds"),
        max_checks=_number(table, "max_checks"),
        max_sends=_number(table, "max_sends"),
        cooldowns=table.numbers("cooldowns", 1, 600, longest=MOST_COOLDOWNS),
        template=table.string("template", TEMPLATE, "letters, digits, - and _, at most 60", blank=True),
        locale=table.string("locale", LOCALE, "a language tag like en or pt-BR", blank=True, longest=20),
        sender=table.string("sender", SENDER, "at most 11 letters and digits, or 3 to 15 digits", blank=True),
        countries=table.words("countries", SUPPORTED_REGIONS.__contains__, "a country by ISO 3166-1 alpha-2"),
        number_types=_number_types(table),
        code_per_attempt=table.boolean("code_per_attempt"),
        context_fields=table.words(
            "context_fields", CONTEXT_FIELDS.__contains__, f"one of {', '.join(CONTEXT_FIELDS)}"
        ),
        webotp_host=table.string("webotp_host", re.compile(HOST.regex), "a host like app.example.com", blank=True),
        app_hash=table.string(
            "app_hash", re.compile(APP_HASH.regex), "the 11 characters of the app's hash", blank=True
        ),
        monitor_only=table.boolean("monitor_only"),
        accept_risk=table.boolean("accept_risk"),
    )
    found |= _receipt_wait(table)
    table.finish()
    return Entry(table, purpose, name, found)


def _number(table: Table, name: str) -> int | None:
    return table.number(name, int, *_range(name))


def _range(name: str) -> tuple[int, int]:
    """As the model's validators have it."""
    validators = cast(Field, Profile._meta.get_field(name)).validators
    least = max(one.limit_value for one in validators if isinstance(one, MinValueValidator))
    most = min(one.limit_value for one in validators if isinstance(one, MaxValueValidator))
    return least, most


def _receipt_wait(table: Table) -> dict[str, int | None]:
    """0: never, since TOML has no null."""
    least, most = _range("receipt_wait_seconds")
    seconds = table.number("receipt_wait_seconds", int, 0, most)
    if seconds is None:
        return {}
    if 0 < seconds < least:
        table.wrong("receipt_wait_seconds", f"must be 0 (never) or a whole number from {least} to {most}")
    return {"receipt_wait_seconds": seconds or None}


def _number_types(table: Table) -> list[str] | None:
    known = [str(kind) for kind in NumberType]
    found = table.words("number_types", known.__contains__, f"one of {', '.join(known)}")
    if found == []:
        table.wrong("number_types", "must not be empty")
    return found
