"""Configuration as code: what a provisioning file asks for is compared with the database and applied.

Only what the file names is touched. Prices go into a new active book, since books are immutable.
"""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.utils.module_loading import import_string

from messaging.clients import TooManyKeys, hash_secret, is_live, issue_key, split_key
from messaging.models import ApiKey, Client, Template
from messaging.provisioning_file import (
    ClientEntry,
    Document,
    Place,
    ProviderEntry,
    Quote,
    RateEntry,
    RegistrationEntry,
    RuleEntry,
    TemplateEntry,
    read,
)
from providers.credentials import CredentialsError
from providers.models import Provider
from providers.sql import now, rows
from routing import books
from routing.models import ExchangeRate, Price, PriceList
from routing.order_models import Rule, SenderRegistration

BOOK = "provisioned"
#: Stores a row where the fields differ from the database, and tells the difference under a label.
Save = Callable[[str, models.Model, Mapping[str, Any]], None]
Row = TypeVar("Row", Client, Provider)


class ProvisioningError(Exception):
    """`problems` has one line per mistake, each with its place; nothing was written."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def provision(data: Mapping[str, Any], *, dry_run: bool = False, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Applies a parsed file and returns what changed, line by line; a dry run rolls back.

    A generated API key is in its line, and nowhere else. Raises ProvisioningError.
    """
    document, problems = read(data, environ)
    if problems:
        raise ProvisioningError(problems)
    with transaction.atomic():
        # Two processes that start at the same time must not both make a book or a key.
        rows("SELECT pg_advisory_xact_lock(hashtext('messaging.provision'))")
        run = _Run(dry_run)
        run.apply(document)
        if run.problems:
            raise ProvisioningError(run.problems)
        transaction.set_rollback(dry_run)
    return run.changes


class _Run:
    """One comparison with the database: `changes` for people, `problems` that only the database can tell."""

    def __init__(self, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.changes: list[str] = []
        self.problems: list[str] = []
        self.now: datetime

    def apply(self, document: Document) -> None:
        slugs = [entry.slug for entry in document.providers]
        for provider_id in Provider.objects.filter(slug__in=slugs).order_by("pk").values_list("pk", flat=True):
            books.hold(provider_id)  # all before the first change, so that nobody waits for us with what we wait for
        self.now = now()
        for client in document.clients:
            self.client(client)
        for provider in document.providers:
            self.provider(provider)
        for rate in document.rates:
            self.rate(rate)
        for template in document.templates:
            self.template(template)
        for rule in document.rules:
            self.rule(rule)
        for registration in document.registrations:
            self.registration(registration)

    def client(self, entry: ClientEntry) -> None:
        row = Client.objects.filter(slug=entry.slug).first() or Client(slug=entry.slug, name=entry.slug)
        self._save(f"client {entry.slug}", row, entry.fields)
        for name, found in entry.sections.items():
            self.problems += import_string(f"{settings.PROVISION_SECTIONS[name]}.apply")(row, found, self._save)
        if entry.api_key:
            self._known_key(row, entry.api_key)
        elif not any(is_live(key) for key in row.api_keys.all()):
            token = "would be generated" if self.dry_run else issue_key(row)
            self.changes.append(f"+ API key of {entry.slug}, shown this once: {token}")

    def _known_key(self, client: Client, token: str) -> None:
        place = f"clients[{client.slug}].api_key"
        key_id, secret = split_key(token) or ("", "")
        key = ApiKey.objects.filter(pk=key_id).first()
        if key is None:
            try:
                issue_key(client, token=token)
            except TooManyKeys as error:
                self.problems.append(f"{place}: {error}")
            else:
                self.changes.append(f"+ API key of {client.slug}: mx_live_{key_id}_…")
        elif key.client_id != client.pk or bytes(key.secret_hash) != hash_secret(secret):
            self.problems.append(f"{place}: another key has the same id")
        elif not is_live(key):
            self.problems.append(f"{place}: this key was revoked or has expired")
        else:
            self._save(f"API key of {client.slug}", key, {"scopes": client.scopes})

    def provider(self, entry: ProviderEntry) -> None:
        row = Provider.objects.filter(slug=entry.slug).first() or Provider(slug=entry.slug, name=entry.slug)
        label = f"provider {entry.slug}"
        created = row.pk is None
        self._save(label, row, entry.fields)
        if entry.credentials != _credentials(row):
            row.set_credentials(entry.credentials)
            row.save(update_fields=["credentials", "updated_at"])
            if not created:
                self.changes.append(f"~ {label}: new credentials")
        if entry.prices is not None:
            self._prices(row, entry.prices)

    def _prices(self, provider: Provider, wanted: Mapping[Place, Quote]) -> None:
        current = _quotes(provider, self.now)
        if current == wanted:
            return
        book = PriceList.objects.create(
            provider=provider, name=BOOK, status=PriceList.Status.ACTIVE, valid_from=self.now
        )
        prices = [
            Price(price_list=book, **place._asdict(), price=price, price_delivered=delivered, currency=currency)
            for place, (price, delivered, currency) in wanted.items()
        ]
        Price.objects.bulk_create(prices, batch_size=1000)
        if current is None:  # a first book may have thousands of prices, all of them in the file
            self.changes.append(f"+ {len(wanted)} {'price' if len(wanted) == 1 else 'prices'} of {provider.slug}")
            return
        for place in sorted(current.keys() | wanted.keys()):
            label = f"price {provider.slug} {place}"
            before, after = current.get(place), wanted.get(place)
            if before is None and after is not None:
                self.changes.append(f"+ {label}: {_money(after)}")
            elif before is not None and after is None:
                self.changes.append(f"- {label}: {_money(before)}")
            elif before is not None and after is not None and before != after:
                self.changes.append(f"~ {label}: {_money(before)} -> {_money(after)}")

    def rate(self, entry: RateEntry) -> None:
        known = ExchangeRate.objects.filter(currency=entry.currency, valid_from__lte=self.now)
        latest = known.order_by("-valid_from").first()
        if latest and latest.rate == entry.rate:
            return
        ExchangeRate.objects.create(currency=entry.currency, rate=entry.rate, valid_from=self.now)
        label = f"exchange rate {entry.currency}"
        if latest:
            self.changes.append(f"~ {label}: {_plain(latest.rate)} -> {_plain(entry.rate)}")
        else:
            self.changes.append(f"+ {label}: {_plain(entry.rate)}")

    def template(self, entry: TemplateEntry) -> None:
        label = f"template {entry.name} ({entry.locale})" + (f" of {entry.client}" if entry.client else "")
        client = self._named(Client, entry.client, label)
        if client or not entry.client:
            where = {"client": client, "name": entry.name, "locale": entry.locale}
            row = Template.objects.filter(**where).first() or Template(**where)
            self._save(label, row, {"text": entry.text})

    def rule(self, entry: RuleEntry) -> None:
        label = f"rule {entry.name}"
        provider = self._named(Provider, entry.provider, label)
        self._named(Client, entry.client, label)
        if provider or not entry.provider:
            row = Rule.objects.filter(name=entry.name).first() or Rule(name=entry.name)
            self._save(label, row, {"provider": provider, "client": entry.client, **entry.fields})

    def registration(self, entry: RegistrationEntry) -> None:
        label = f"registration of {entry}"
        if provider := self._named(Provider, entry.provider, label):
            where = {"provider": provider, "country": entry.country, "sender": entry.sender}
            row = SenderRegistration.objects.filter(**where).first() or SenderRegistration(**where)
            self._save(label, row, entry.fields)

    def _named(self, model: type[Row], slug: str, label: str) -> Row | None:
        """The row with that slug, if `label` has one; that it is missing is a problem."""
        found = model._default_manager.filter(slug=slug).first() if slug else None
        if slug and found is None:
            self.problems.append(f"{label}: there is no {model._meta.verbose_name} {slug}")
        return found

    def _save(self, label: str, row: models.Model, fields: Mapping[str, Any]) -> None:
        if row._state.adding:
            self.changes.append(f"+ {label}")
            changed = dict(fields)
        else:
            changed = {name: value for name, value in fields.items() if getattr(row, name) != value}
            for name, value in changed.items():
                self.changes.append(f"~ {label}: {name}: {_shown(getattr(row, name))} -> {_shown(value)}")
        for name, value in changed.items():
            setattr(row, name, value)
        if changed or row._state.adding:
            row.save()


def _credentials(provider: Provider) -> Mapping[str, str] | None:
    """None where they cannot be read: the file's are then written anew."""
    try:
        return provider.read_credentials()
    except CredentialsError:
        return None


def _quotes(provider: Provider, at: datetime) -> dict[Place, Quote] | None:
    """The prices in force, whoever made their book; None where no book is."""
    book_id = books.in_force(provider.pk, at)
    if book_id is None:
        return None
    begun, not_over = Q(valid_from=None) | Q(valid_from__lte=at), Q(valid_to=None) | Q(valid_to__gt=at)
    found = Price.objects.filter(begun, not_over, price_list=book_id).values_list(
        "country", "mcc", "mnc", "prefix", "price", "price_delivered", "currency"
    )
    return {Place(*row[:4]): Quote(*row[4:]) for row in found}


def _money(quote: Quote) -> str:
    on_delivery = f" + {_plain(quote.on_delivery)} on delivery" if quote.on_delivery else ""
    return f"{_plain(quote.on_submit)}{on_delivery} {quote.currency}"


def _plain(number: Decimal) -> str:
    """At least two decimals, no zeros behind them."""
    text = f"{number:f}".rstrip("0") if number.as_tuple().exponent else f"{number:f}."
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return repr(value) if isinstance(value, str) else str(value)
