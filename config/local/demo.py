"""The demo's client and carriers. What is there already stays as somebody may have changed it."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from messaging.models import Client
from messaging.provisioning import provision
from providers.models import Provider

FILE = Path(__file__).with_name("demo.toml")
DECIDED = ("slug", "adapter", "base_url", "credentials")  # where a carrier listens, which each start of `make up` says


def provision_missing(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Returns what changed, line by line. Raises ProvisioningError."""
    demo = tomllib.loads(FILE.read_text())
    for number, entry in enumerate(demo["clients"]):
        if client := Client.objects.filter(slug=entry["slug"]).first():
            # Its key may be another one: `make reset` leaves a database of DATABASE_URL alone.
            demo["clients"][number] = {"slug": client.slug, "scopes": client.scopes, "api_key": entry["api_key"]}
    for number, entry in enumerate(demo["providers"]):
        if Provider.objects.filter(slug=entry["slug"]).exists():
            demo["providers"][number] = {name: entry[name] for name in DECIDED}
    return provision(demo, environ=environ)
