"""Filters that a table of millions of rows can bear."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import phonenumbers
from django.contrib.admin import ModelAdmin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from messaging.models import Attempt
from providers.models import Provider

WINDOWS = {"1h": timedelta(hours=1), "1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}


class Since(DropdownFilter):
    """How far back to look, by the time inside the ids: it bounds every scan, so it is on unless switched off."""

    title = "time"
    parameter_name = "since"
    all_option = None

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Iterable[tuple[str, str]]:
        return [
            ("1h", "the last hour"),
            ("1d", "the last day"),
            ("7d", "the last 7 days"),
            ("30d", "the last 30 days"),
            ("all", "all (may be slow)"),
        ]

    def value(self) -> str:
        found = super().value()
        return found if found in WINDOWS or found == "all" else "7d"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # A search names its rows by itself, whatever their age.
        if self.value() == "all" or request.GET.get("q"):
            return queryset
        return queryset.filter(pk__gte=first_id(datetime.now(UTC) - WINDOWS[self.value()]))


class Country(DropdownFilter):
    title = "country"
    parameter_name = "country"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Iterable[tuple[str, str]]:
        return [(country, country) for country in sorted(phonenumbers.SUPPORTED_REGIONS)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(country=self.value()) if self.value() else queryset


class TriedBy(DropdownFilter):
    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Iterable[tuple[str, str]]:
        return [(provider.slug, provider.slug) for provider in Provider.objects.all()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        attempts = Attempt.objects.filter(message=OuterRef("pk"), provider__slug=self.value())
        return queryset.filter(Exists(attempts))


def first_id(moment: datetime) -> uuid.UUID:
    """The smallest UUIDv7 of that millisecond (RFC 9562 5.7: 48 bits of Unix time come first)."""
    return uuid.UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)
