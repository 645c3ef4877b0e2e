"""The demo's client and carriers. What is there already stays as somebody may have changed it."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from messaging.clients import split_key
from messaging.models import ApiKey, Client
from messaging.provisioning import provision
from providers.models import Provider

FILE = Path(__file__).with_name("demo.toml")
DECIDED = ("slug", "adapter", "base_url", "credentials")  # where a carrier listens, which each start of `make up` says


def provision_missing(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Returns what changed, line by line. Raises ProvisioningError."""
    demo = tomllib.loads(FILE.read_text())
    keys = {entry["slug"]: environ[entry["api_key"].removeprefix("env:")] for entry in demo["clients"]}
    demo["clients"] = [entry for entry in demo["clients"] if not _is_known(keys[entry["slug"]])]
    for number, entry in enumerate(demo["clients"]):
        if client := Client.objects.filter(slug=entry["slug"]).first():
            # Its key is another one: `make reset` leaves a database of DATABASE_URL alone.
            demo["clients"][number] = {"slug": client.slug, "scopes": client.scopes, "api_key": entry["api_key"]}
    for number, entry in enumerate(demo["providers"]):
        if Provider.objects.filter(slug=entry["slug"]).exists():
            demo["providers"][number] = {name: entry[name] for name in DECIDED}
    return provision(demo, environ=environ)


def _is_known(token: str) -> bool:
    """Then nothing of its client is said anew: somebody may have revoked it, or renamed the client."""
    key_id, _ = split_key(token) or ("", "")
    return ApiKey.objects.filter(pk=key_id).exists()
