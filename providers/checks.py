"""System checks: what would fail at the first message fails at the start instead."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from providers.adapters import ADAPTERS, adapter_class
from providers.credentials import KeyRing


@register()
def credentials_keys(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    try:
        KeyRing.parse(settings.CREDENTIALS_KEYS)
    except ValueError as error:
        hint = "Make one: python -c 'import base64, os; print(\"1:\" + base64.b64encode(os.urandom(32)).decode())'"
        return [Error(f"CREDENTIALS_KEYS: {error}", hint=hint, id="providers.E001")]
    return []


@register(deploy=True)
def example_secrets(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """.env.example is public, and so are the secrets in it."""
    placeholders = {"SECRET_KEY": "replace-this", "CREDENTIALS_KEYS": b64encode(b"replace-this").decode()}
    return [
        Error(f"{name} is the one of .env.example, which everybody knows.", id="providers.E004")
        for name, placeholder in placeholders.items()
        if placeholder in getattr(settings, name)
    ]


@register()
def adapters(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Imports each adapter once: a wrong dotted path in the registry is found here."""
    found: list[CheckMessage] = []
    for slug in ADAPTERS:
        try:
            if adapter_class(slug).slug != slug:
                found.append(Error(f"Adapter {slug!r} names itself otherwise.", id="providers.E003"))
        except (ImportError, AttributeError) as error:
            found.append(Error(f"Adapter {slug!r} cannot be imported: {error}", id="providers.E002"))
    return found
