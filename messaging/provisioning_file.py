"""The provisioning file: strict, all mistakes at once, each with its place. No database here."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import phonenumbers
from django.conf import settings
from django.utils.module_loading import import_string

from messaging.clients import split_key
from messaging.drafts import LOCALE, SENDER, TEMPLATE
from messaging.models import SCOPES
from messaging.states import MessageClass
from messaging.texts import STRAY_BRACE, has_stray_brace
from messaging.toml_table import SLUG, Table
from providers.adapters import ADAPTERS, adapter_class
from providers.adapters.base import Resolve
from routing.encoding import LEVELS
from routing.order_models import Rule, SenderRegistration

AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
BALANCE = re.compile(r"[0-9]{1,10}(\.[0-9]{1,4})?")
RATE = re.compile(r"[0-9]{1,10}(\.[0-9]{1,8})?")
PROVIDER_SENDER = re.compile(r"[A-Za-z0-9 ._&+-]{1,40}")  # also a vendor's own id of a pool of senders


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
    """`sections`: what the modules of PROVISION_SECTIONS read in it, by the name of the section."""

    slug: str
    fields: Mapping[str, Any]
    api_key: str = field(default="", repr=False)
    sections: Mapping[str, Any] = field(default_factory=dict)


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
class RuleEntry:
    """All of a rule: a condition that is not named is any."""

    name: str
    provider: str
    client: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RegistrationEntry:
    provider: str
    country: str
    sender: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.sender} in {self.country} by {self.provider}"


@dataclass(frozen=True, slots=True)
class Document:
    clients: list[ClientEntry]
    providers: list[ProviderEntry]
    rates: list[RateEntry]
    templates: list[TemplateEntry]
    rules: list[RuleEntry]
    registrations: list[RegistrationEntry]


def read(data: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> tuple[Document, list[str]]:
    """The document, and what is wrong with it: to be used only when that is nothing.

    Places count from 1: `providers[carrier-a].prices[3].country`.
    """
    problems: list[str] = []
    root = Table(dict(data), "", problems, environ)
    document = Document(
        clients=[_client(table) for table in root.tables("clients")],
        providers=[_provider(table) for table in root.tables("providers")],
        rates=[_rate(table) for table in root.tables("rates")],
        templates=[_template(table) for table in root.tables("templates")],
        rules=[_rule(table) for table in root.tables("rules")],
        registrations=[_registration(table) for table in root.tables("registrations")],
    )
    root.finish()
    for kind, names in (
        ("clients", [client.slug for client in document.clients]),
        ("providers", [provider.slug for provider in document.providers]),
        ("rates", [rate.currency for rate in document.rates]),
        ("templates", [f"{t.client or '*'} {t.name} {t.locale}" for t in document.templates]),
        ("rules", [rule.name for rule in document.rules]),
        ("registrations", [str(registration) for registration in document.registrations]),
    ):
        problems += [f"{kind}: {name} is there twice" for name in repeated(names)]
    return document, problems


def _client(table: Table) -> ClientEntry:
    slug = table.string("slug", SLUG, "letters, digits, - and _, at most 40", required=True)
    fields = named(
        name=table.string("name", longest=80),
        scopes=table.words("scopes", SCOPES.__contains__, f"one of {', '.join(SCOPES)}", required=True),
        sender=table.string("sender", SENDER, "at most 11 letters and digits, or 3 to 15 digits", blank=True),
        rate_limit=table.number("rate_limit", int, 1, 100_000),
        daily_quota=table.number("daily_quota", int, 1, 2_000_000_000),
        transliteration=table.choice("transliteration", LEVELS, blank=True),
        kafka_enabled=table.boolean("kafka_enabled"),
    )
    api_key = table.string("api_key", secret=True) or ""
    if api_key and split_key(api_key) is None:
        table.wrong("api_key", "is not in the form mx_live_<12 characters>_<43 characters>")
    sections = {
        name: import_string(f"{module}.read")(table.tables(name))
        for name, module in settings.PROVISION_SECTIONS.items()
    }
    table.finish()
    return ClientEntry(slug or "", fields, api_key, sections)


def _provider(table: Table) -> ProviderEntry:
    slug = table.string("slug", SLUG, "letters, digits, - and _, at most 40", required=True)
    adapter = table.choice("adapter", list(ADAPTERS), required=True)
    fields = named(
        name=table.string("name", longest=80),
        adapter=adapter,
        base_url=table.url("base_url"),
        sender=table.string("sender", PROVIDER_SENDER, "at most 40 letters, digits and signs", blank=True),
        enabled=table.boolean("enabled"),
        rate=table.number("rate", int, 1, 100_000),
        resolve=table.choice("resolve", [word.value for word in Resolve]),
        lag=table.number("lag", float, 0, 86_400),
        balance_floor=table.amount("balance_floor", BALANCE, "a number in quotes, at most four decimals"),
        balance_warning=table.amount("balance_warning", BALANCE, "a number in quotes, at most four decimals"),
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


def _credentials(table: Table, adapter: str | None) -> dict[str, str]:
    if adapter is None:  # told already, and nobody knows its fields
        return {}
    cls = adapter_class(adapter)
    found = {name: table.string(name, secret=True, required=True) for name in cls.credential_fields}
    found |= {name: table.string(name, secret=True) for name in cls.optional_credential_fields}
    table.finish()
    return {name: value for name, value in found.items() if value is not None}


def _price(table: Table) -> tuple[Place, Quote]:
    country = table.country("country")
    mcc, mnc = table.network()
    prefix = (
        table.string(
            "prefix", re.compile("[1-9][0-9]{0,14}"), "up to 15 digits as in E.164, without the plus", blank=True
        )
        or ""
    )
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


def _rate(table: Table) -> RateEntry:
    currency = table.currency()
    if currency == settings.REPORTING_CURRENCY:
        table.wrong("currency", "is the reporting currency itself")
    rate = table.amount("rate", RATE, "a number in quotes, at most eight decimals", required=True)
    if rate == 0:
        table.wrong("rate", "must be above zero")
    table.finish()
    return RateEntry(currency, rate or Decimal(1))


def _template(table: Table) -> TemplateEntry:
    entry = TemplateEntry(
        client=table.string("client", SLUG, "a client's slug") or "",
        name=table.string("name", TEMPLATE, "letters, digits, - and _, at most 60", required=True) or "",
        locale=table.string("locale", LOCALE, "a language tag like en or pt-BR") or "en",
        text=table.string("text", longest=1530, required=True) or "",
    )
    if has_stray_brace(entry.text):
        table.wrong("text", STRAY_BRACE)
    table.finish()
    return entry


def _rule(table: Table) -> RuleEntry:
    action = table.choice("action", Rule.Action.values, required=True)
    mcc, mnc = table.network()
    fields: dict[str, Any] = {
        "action": action,
        "weight": table.number("weight", int, 1, 32_767),
        "ceiling": table.amount("ceiling", AMOUNT, "a number in quotes, at most six decimals"),
        "message_class": table.choice("class", list(MessageClass)) or "",
        "country": table.country("country", required=False),
        "mcc": mcc,
        "mnc": mnc,
        "sender": table.string("sender", SENDER, "at most 11 letters and digits, or 3 to 15 digits") or "",
        "begins": table.time_of_day("begins"),
        "ends": table.time_of_day("ends"),
    }
    for key in ("weight", "ceiling"):
        if key == action and key not in table.data:
            table.wrong(key, "is missing")
        elif action and key != action and key in table.data:
            table.wrong(key, f"is for rules with the action {key}")
    if ("begins" in table.data) != ("ends" in table.data) or (fields["begins"] and fields["begins"] == fields["ends"]):
        table.wrong("ends", "a begin and another time as end are needed, or neither")
    entry = RuleEntry(
        name=table.string("name", longest=80, required=True) or "",
        provider=table.string("provider", SLUG, "a provider's slug", required=action != Rule.Action.CEILING) or "",
        client=table.string("client", SLUG, "a client's slug") or "",
        fields={**fields, **named(enabled=table.boolean("enabled"))},
    )
    table.finish()
    return entry


def _registration(table: Table) -> RegistrationEntry:
    entry = RegistrationEntry(
        provider=table.string("provider", SLUG, "a provider's slug", required=True) or "",
        country=table.country("country"),
        sender=table.string("sender", PROVIDER_SENDER, "at most 40 letters, digits and signs", required=True) or "",
        fields=named(
            state=table.choice("state", SenderRegistration.State.values, required=True),
            expires_at=table.moment("expires_at"),
            note=table.string("note", blank=True, longest=200),
        ),
    )
    table.finish()
    return entry


def named(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def repeated(names: Iterable[str]) -> list[str]:
    found = [name for name in names if name]
    return sorted({name for name in found if found.count(name) > 1})
