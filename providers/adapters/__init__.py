"""The registry: adapter slug -> dotted path, imported on first use. It feeds the admin's choices too."""

from functools import cache
from importlib import import_module

from providers.adapters.base import Adapter

ADAPTERS = {
    "simulator": "providers.adapters.simulator.Simulator",
    "twilio": "providers.adapters.twilio.Twilio",
}


@cache
def adapter_class(slug: str) -> type[Adapter]:
    """Raises KeyError for a slug that is not in the registry."""
    module, _, name = ADAPTERS[slug].rpartition(".")
    cls: type[Adapter] = getattr(import_module(module), name)
    return cls
