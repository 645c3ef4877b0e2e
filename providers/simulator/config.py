"""Which carriers are played: read from TOML, checked once, immutable afterwards."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

DEFAULT = Path(__file__).with_name("carriers.toml")
MODES = ("key", "lookup", "none")
RECEIPT_STATUSES = ("sent", "delivered", "undelivered", "expired")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")
_KNOWN = {
    *("slug", "name", "mode", "lag", "token", "currency", "prices", "receipts", "receipt_after"),
    *("prices_delivered", "tells_prices", "balance", "networks"),
}
_NETWORK = re.compile("[0-9]{3}-[0-9]{2,3}")


class ConfigError(ValueError):
    """A carriers file that cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class CarrierConfig:
    """One carrier. Prices are per segment; `lag` and `receipt_after` are in seconds.

    `prices` are charged on acceptance, `prices_delivered` on delivery; where it tells no prices, nobody but its ledger
    knows them. `balance` is what the account begins with. `networks` maps a prefix to `mcc-mnc`, told in receipts.
    """

    slug: str
    name: str
    mode: str
    token: str = field(repr=False)
    currency: str
    prices: Mapping[str, Decimal]
    lag: float = 0.0
    receipts: tuple[str, ...] = ("delivered",)
    receipt_after: float = 0.3
    prices_delivered: Mapping[str, Decimal] = field(default_factory=dict)
    tells_prices: bool = True
    balance: Decimal | None = None
    networks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    seed: int
    carriers: tuple[CarrierConfig, ...]


def load(path: Path = DEFAULT) -> SimulatorConfig:
    """Raises ConfigError for a missing file, bad TOML and bad values."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return parse(data)


def parse(data: Mapping[str, Any]) -> SimulatorConfig:
    """Raises ConfigError."""
    tables = data.get("carriers")
    if not isinstance(tables, list) or not tables:
        raise ConfigError("at least one [[carriers]] table is needed")
    seed = data.get("seed", 1)
    if not isinstance(seed, int):
        raise ConfigError(f"seed must be a whole number, it is {seed!r}")
    carriers = tuple(_carrier(table, f"carrier {number}") for number, table in enumerate(tables, 1))
    slugs = [carrier.slug for carrier in carriers]
    if len(set(slugs)) < len(slugs):
        raise ConfigError(f"slugs must differ, they are {', '.join(slugs)}")
    return SimulatorConfig(seed, carriers)


def _carrier(table: Mapping[str, Any], where: str) -> CarrierConfig:
    unknown = sorted(set(table) - _KNOWN)
    if unknown:
        raise ConfigError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(_KNOWN))}")
    slug = _text(table, "slug", where)
    if not _SLUG.fullmatch(slug):
        raise ConfigError(f"{where}: slug must be lower-case letters, digits and hyphens, it is {slug!r}")
    mode = table.get("mode", "none")
    if mode not in MODES:
        raise ConfigError(f"{slug}: mode must be one of {', '.join(MODES)}, it is {mode!r}")
    receipts = table.get("receipts", ["delivered"])
    if not isinstance(receipts, list) or any(status not in RECEIPT_STATUSES for status in receipts):
        raise ConfigError(f"{slug}: receipts must be a list of {', '.join(RECEIPT_STATUSES)}")
    return CarrierConfig(
        slug=slug,
        name=table.get("name", slug),
        mode=mode,
        token=_text(table, "token", slug),
        currency=_text(table, "currency", slug),
        prices=_prices(table.get("prices"), slug),
        lag=_seconds(table, "lag", 0.0, slug),
        receipts=tuple(receipts),
        receipt_after=_seconds(table, "receipt_after", 0.3, slug),
        prices_delivered=_prices(table["prices_delivered"], slug) if "prices_delivered" in table else {},
        tells_prices=_flag(table, "tells_prices", slug),
        balance=_prices({"balance": table["balance"]}, slug)["balance"] if "balance" in table else None,
        networks=_networks(table.get("networks", {}), slug),
    )


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, True)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {key} must be true or false, it is {value!r}")
    return value


def _networks(table: object, where: str) -> dict[str, str]:
    if not isinstance(table, dict) or not all(
        isinstance(name, str) and _NETWORK.fullmatch(name) and prefix.isdigit() for prefix, name in table.items()
    ):
        raise ConfigError(f'{where}: networks must be a table of prefix = "mcc-mnc"')
    return dict(table)


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key} is missing or not a text")
    return value


def _seconds(table: Mapping[str, Any], key: str, default: float, where: str) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ConfigError(f"{where}: {key} must be seconds, zero or more, it is {value!r}")
    return float(value)


def _prices(table: object, where: str) -> dict[str, Decimal]:
    if not isinstance(table, dict) or not table:
        raise ConfigError(f'{where}: prices must be a table of country = "price"')
    prices = {}
    for country, text in table.items():
        try:
            price = Decimal(text) if isinstance(text, str) else Decimal("NaN")
        except InvalidOperation:
            price = Decimal("NaN")
        if not price.is_finite() or price < 0:
            raise ConfigError(f'{where}: the price of {country} must be a decimal in quotes like "0.0450"')
        prices[country] = price
    return prices
