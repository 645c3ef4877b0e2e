"""The provisioning file: strict, all mistakes at once, each with its place. No database here."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import phonenumbers
from django.conf import settings

from messaging.clients import split_key
from messaging.drafts import LOCALE, SENDER, TEMPLATE
from messaging.models import SCOPES
from providers.adapters import ADAPTERS, adapter_class
from providers.adapters.base import Resolve

SLUG = re.compile(r"[A-Za-z0-9_-]{1,40}")
AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
RATE = re.compile(r"[0-9]{1,10}(\.[0-9]{1,8})?")
EVENTS = re.compile(r"\*|[a-z]+\.(\*|[a-z_]+)")

T = TypeVar("T")


class Place(NamedTuple):
    """Where a price holds."""

    country: str
    mcc: str
    mnc: str
    prefix: str

    def __str__(self) -> str:
        network = f"{self.mcc}-{self.mnc}" if self.mnc else self.mcc
        return " ".join(filter(None, (self.country, network, self.prefix and f"+{self.prefix}")))


class Quote(NamedTuple):
    """Per segment."""

    on_submit: Decimal
    on_delivery: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class ClientEntry:
    slug: str
    fields: Mapping[str, Any]
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """`prices` is None where the file says nothing about them."""

    slug: str
    fields: Mapping[str, Any]
    credentials: Mapping[str, str] = field(repr=False)
    prices: Mapping[Place, Quote] | None


@dataclass(frozen=True, slots=True)
class RateEntry:
    currency: str
    rate: Decimal


@dataclass(frozen=True, slots=True)
class TemplateEntry:
    client: str
    name: str
    locale: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    clients: list[ClientEntry]
    providers: list[ProviderEntry]
    rates: list[RateEntry]
    templates: list[TemplateEntry]


def read(data: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> tuple[Document, list[str]]:
    """The document, and what is wrong with it: to be used only when that is nothing.

    Places count from 1: `providers[carrier-a].prices[3].country`.
    """
    problems: list[str] = []
    root = _Table(dict(data), "", problems, environ)
    document = Document(
        clients=[_client(table) for table in root.tables("clients")],
        providers=[_provider(table) for table in root.tables("providers")],
        rates=[_rate(table) for table in root.tables("rates")],
        templates=[_template(table) for table in root.tables("templates")],
    )
    root.finish()
    for kind, names in (
        ("clients", [client.slug for client in document.clients]),
        ("providers", [provider.slug for provider in document.providers]),
        ("rates", [rate.currency for rate in document.rates]),
        ("templates", [f"{t.client or '*'} {t.name} {t.locale}" for t in document.templates]),
    ):
        problems += [f"{kind}: {name} is there twice" for name in _repeated(names)]
    return document, problems


def _client(table: "_Table") -> ClientEntry:
    slug = table.string("slug", SLUG, "letters, digits, - and _, at most 40", required=True)
    fields = _given(
        name=table.string("name", longest=80),
        scopes=table.words("scopes", SCOPES.__contains__, f"one of {', '.join(SCOPES)}", required=True),
        sender=table.string("sender", SENDER, "at most 11 letters and digits, or 3 to 15 digits", blank=True),
    )
    api_key = table.string("api_key", secret=True) or ""
    if api_key and split_key(api_key) is None:
        table.wrong("api_key", "is not in the form mx_live_<12 characters>_<43 characters>")
    for webhook in table.tables("webhooks"):
        webhook.url("url", required=True)
        webhook.words("events", EVENTS.fullmatch, "like message.* or message.delivered", required=True)
        webhook.finish()
    table.finish()
    return ClientEntry(slug or "", fields, api_key)


def _provider(table: "_Table") -> ProviderEntry:
    slug = table.string("slug", SLUG, "letters, digits, - and _, at most 40", required=True)
    adapter = table.choice("adapter", list(ADAPTERS), required=True)
    fields = _given(
        name=table.string("name", longest=80),
        adapter=adapter,
        base_url=table.url("base_url"),
        sender=table.string("sender", SENDER, "at most 11 letters and digits, or 3 to 15 digits", blank=True),
        enabled=table.boolean("enabled"),
        rate=table.number("rate", int, 1, 100_000),
        resolve=table.choice("resolve", [word.value for word in Resolve]),
        lag=table.number("lag", float, 0, 86_400),
    )
    credentials = _credentials(table.table("credentials"), adapter)
    given = "prices" in table.data
    prices: dict[Place, Quote] = {}
    for price in table.tables("prices"):
        place, quote = _price(price)
        if place in prices:
            price.wrong("", f"a price for {place} is there twice")
        prices[place] = quote
    table.finish()
    return ProviderEntry(slug or "", fields, credentials, prices if given else None)


def _credentials(table: "_Table", adapter: str | None) -> dict[str, str]:
    if adapter is None:  # told already, and nobody knows its fields
        return {}
    cls = adapter_class(adapter)
    found = {name: table.string(name, secret=True, required=True) for name in cls.credential_fields}
    found |= {name: table.string(name, secret=True) for name in cls.optional_credential_fields}
    table.finish()
    return {name: value for name, value in found.items() if value is not None}


def _price(table: "_Table") -> tuple[Place, Quote]:
    country = table.country("country")
    mcc = table.string("mcc", re.compile("[0-9]{3}"), "three digits", blank=True) or ""
    mnc = table.string("mnc", re.compile("[0-9]{2,3}"), "two or three digits", blank=True) or ""
    prefix = (
        table.string(
            "prefix", re.compile("[1-9][0-9]{0,14}"), "up to 15 digits as in E.164, without the plus", blank=True
        )
        or ""
    )
    if mnc and not mcc:
        table.wrong("mnc", "needs mcc beside it")
    if prefix and mcc:
        table.wrong("prefix", "excludes mcc")
    code = str(phonenumbers.country_code_for_region(country)) if country else ""
    if prefix and not prefix.startswith(code):
        table.wrong("prefix", f"must begin with {code}, the code of {country}")
    on_submit = table.amount("price", AMOUNT, "a number in quotes, at most six decimals", required=True)
    on_delivery = table.amount("price_delivered", AMOUNT, "a number in quotes, at most six decimals")
    currency = table.currency()
    table.finish()
    return Place(country, mcc, mnc, prefix), Quote(on_submit or Decimal(0), on_delivery or Decimal(0), currency)


def _rate(table: "_Table") -> RateEntry:
    currency = table.currency()
    if currency == settings.REPORTING_CURRENCY:
        table.wrong("currency", "is the reporting currency itself")
    rate = table.amount("rate", RATE, "a number in quotes, at most eight decimals", required=True)
    if rate == 0:
        table.wrong("rate", "must be above zero")
    table.finish()
    return RateEntry(currency, rate or Decimal(1))


def _template(table: "_Table") -> TemplateEntry:
    entry = TemplateEntry(
        client=table.string("client", SLUG, "a client's slug") or "",
        name=table.string("name", TEMPLATE, "letters, digits, - and _, at most 60", required=True) or "",
        locale=table.string("locale", LOCALE, "a language tag like en or pt-BR") or "en",
        text=table.string("text", longest=1530, required=True) or "",
    )
    table.finish()
    return entry


class _Table:
    """One TOML table. A read that fails is noted and gives None; what was never read is unknown."""

    def __init__(self, data: dict[str, Any], place: str, problems: list[str], environ: Mapping[str, str]) -> None:
        self.data = data
        self._place = place
        self._problems = problems
        self._environ = environ
        self._known: set[str] = set()

    def wrong(self, key: str, problem: str) -> None:
        self._problems.append(f"{'.'.join(filter(None, (self._place, key)))}: {problem}")

    def finish(self) -> None:
        for key in sorted(self.data.keys() - self._known):
            self.wrong(key, "there is no such key")

    def string(
        self,
        key: str,
        pattern: re.Pattern[str] | None = None,
        hint: str = "",
        *,
        required: bool = False,
        blank: bool = False,
        secret: bool = False,
        longest: int = 500,
    ) -> str | None:
        value = self._get(key, str, "a string in quotes", required)
        if value is None:
            return None
        shown = "" if secret else f", it is {value!r}"
        if value.startswith("env:"):
            name = value.removeprefix("env:")
            value = self._environ.get(name, "")
            if not value:
                self.wrong(key, f"the environment variable {name} is not set")
                return None
        if not value and not blank:
            self.wrong(key, "must not be empty")
        elif len(value) > longest:
            self.wrong(key, f"must have at most {longest} characters")
        elif not _storable(value):
            self.wrong(key, "has a character that cannot be stored")
        elif pattern and value and not pattern.fullmatch(value):
            self.wrong(key, f"must be {hint}{shown}")
        else:
            return value
        return None

    def choice(self, key: str, allowed: list[str], *, required: bool = False) -> str | None:
        pattern = re.compile("|".join(map(re.escape, allowed)))
        return self.string(key, pattern, f"one of {', '.join(allowed)}", required=required)

    def amount(self, key: str, pattern: re.Pattern[str], hint: str, *, required: bool = False) -> Decimal | None:
        value = self.string(key, pattern, hint, required=required)
        return None if value is None else Decimal(value)

    def country(self, key: str) -> str:
        value = self.string(key, required=True)
        if value is not None and value not in phonenumbers.SUPPORTED_REGIONS:
            self.wrong(key, "must be a country with phone numbers, by ISO 3166-1 alpha-2: UA, GB, ...")
            return ""
        return value or ""

    def currency(self) -> str:
        return self.string("currency", re.compile("[A-Z]{3}"), "three capital letters (ISO 4217)", required=True) or ""

    def url(self, key: str, *, required: bool = False) -> str | None:
        value = self.string(key, required=required, blank=not required, longest=200)
        if not value:
            return value
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            good = False
        if not good or any(character.isspace() for character in value):
            self.wrong(key, "must be an address with http:// or https://")
            return None
        return value

    def boolean(self, key: str) -> bool | None:
        return self._get(key, bool, "true or false")

    def number(self, key: str, kind: type[T], least: int, most: int) -> T | None:
        hint = f"a {'whole ' if kind is int else ''}number from {least} to {most}"
        value = self._get(key, (int, float) if kind is float else int, hint)
        if value is None or isinstance(value, bool) or not least <= value <= most:
            if value is not None:
                self.wrong(key, f"must be {hint}")
            return None
        return kind(value)  # type: ignore[call-arg]

    def words(self, key: str, allowed: Callable[[str], Any], hint: str, *, required: bool = False) -> list[str] | None:
        value = self._get(key, list, "a list of strings", required)
        if value is None:
            return None
        for word in value:
            if not isinstance(word, str) or not allowed(word):
                self.wrong(key, f"each must be {hint}")
                return None
        return list(dict.fromkeys(value))

    def table(self, key: str) -> "_Table":
        return self._child(self._get(key, dict, "a table") or {}, key)

    def tables(self, key: str) -> list["_Table"]:
        value = self._get(key, list, "a list of tables") or []
        found = []
        for number, data in enumerate(value, start=1):
            if not isinstance(data, dict):
                self.wrong(f"{key}[{number}]", "must be a table")
                continue
            slug = data.get("slug")
            name = slug if isinstance(slug, str) and SLUG.fullmatch(slug) else number
            found.append(self._child(data, f"{key}[{name}]"))
        return found

    def _child(self, data: dict[str, Any], key: str) -> "_Table":
        place = f"{self._place}.{key}" if self._place else key
        return _Table(data, place, self._problems, self._environ)

    def _get(self, key: str, kind: Any, hint: str, required: bool = False) -> Any:
        self._known.add(key)
        value = self.data.get(key)
        if value is None:
            if required:
                self.wrong(key, "is missing")
        elif not isinstance(value, kind):
            self.wrong(key, f"must be {hint}")
        else:
            return value
        return None


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _storable(value: str) -> bool:
    try:
        return b"\x00" not in value.encode()
    except UnicodeEncodeError:
        return False


def _repeated(names: Iterable[str]) -> list[str]:
    found = [name for name in names if name]
    return sorted({name for name in found if found.count(name) > 1})
