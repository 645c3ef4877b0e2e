"""`[[clients.webhooks]]` of a provisioning file: where a client's events go (`messaging.provisioning` has the rest)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from messaging.models import Client
from messaging.provisioning import Save
from messaging.provisioning_file import named, repeated
from messaging.toml_table import Table
from messaging.webhook_models import WebhookEndpoint
from messaging.webhooks import addresses, drafts, endpoints, signatures


@dataclass(frozen=True, slots=True)
class Entry:
    """One endpoint, known by its address; what the file does not name is not in `fields`."""

    table: Table
    url: str
    fields: dict[str, Any]
    secret: str = field(repr=False)


def read(tables: Sequence[Table]) -> list[Entry]:
    """Mistakes go to the tables, each with its place."""
    found = [_entry(table) for table in tables]
    for twice in repeated([entry.url for entry in found]):
        next(entry for entry in reversed(found) if entry.url == twice).table.wrong("url", "is there twice")
    return found


def apply(client: Client, entries: Sequence[Entry], save: Save) -> list[str]:
    """Makes what is not there and changes what differs; a secret that is there stays.

    Without a secret in the file it is one that nobody knows: a rotation tells the next.
    """
    for entry in entries:
        row: WebhookEndpoint | None = endpoints.of_client(client.pk).filter(url=entry.url).first()
        if row is None:
            row = endpoints.prepare(client.pk, entry.url, ["*"], secret=entry.secret)
        save(f"webhook endpoint {entry.url} of {client.slug}", row, entry.fields)
    return []


def _entry(table: Table) -> Entry:
    url = table.string("url", drafts.URL, "an address with https://", required=True, longest=addresses.LONGEST_URL)
    if url and (problem := addresses.problem(url)[1]):
        table.wrong("url", problem)
    fields = named(
        events=table.words("events", drafts.WANTED.__contains__, f"one of {', '.join(drafts.WANTED)}", required=True),
        description=table.string("description", blank=True, longest=drafts.LONGEST_DESCRIPTION),
    )
    secret = table.string("secret", secret=True) or ""
    if secret and not signatures.is_secret(secret):
        table.wrong("secret", "must be whsec_ and the base64 of 24 to 64 bytes")
    table.finish()
    return Entry(table, url or "", fields, secret)
