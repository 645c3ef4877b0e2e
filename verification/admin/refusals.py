"""What was refused, and what is used up."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, RelatedDropdownFilter
from unfold.decorators import action

from messaging.admin.filters import WINDOWS, Country, Since
from providers.pages import ReadOnly, badge, confirmed
from routing.numbers import mask
from verification import guard
from verification.admin.numbers import NumberSearch, masked
from verification.fraud_models import Refused
from verification.limits import prefix
from verification.models import Bucket, Profile
from verification.profiles import DEFAULTS


class When(Since):
    """By the time of the row: its id has none."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all" or request.GET.get("q"):
            return queryset
        return queryset.filter(created_at__gte=datetime.now(UTC) - WINDOWS[self.value()])


class ByRule(DropdownFilter):
    title = "rule"
    parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(rule, rule.replace("_", " ")) for rule in guard.RULES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(rule=self.value()) if self.value() else queryset


@admin.register(Refused)
class RefusedAdmin(ReadOnly, NumberSearch):
    list_display = ("created_at", "shown", "country", "client", "purpose", "rule", "outcome")
    list_filter = (When, ByRule, Country, ("client", RelatedDropdownFilter), "monitored")
    list_select_related = ("client",)
    fields = ("created_at", "shown", "country", "client", "purpose", "rule", "detail", "outcome", "reference")
    readonly_fields = ("shown", "outcome")

    def of_number(self, queryset: Any, msisdn: str) -> Any:
        return queryset.filter(to=msisdn)

    @admin.display(description="Number")
    def shown(self, row: Refused) -> str:
        return mask(row.to)

    @admin.display(description="Outcome")
    def outcome(self, row: Refused) -> SafeString:
        return badge("noted", "warning") if row.monitored else badge("refused", "danger")


class ByKind(DropdownFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        kinds = ("number", "prefix", "ip", "device", "failed", "failed_row", "spend")
        return [(kind, kind.replace("_", " ")) for kind in kinds]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class Used(DropdownFilter):
    title = "use"
    parameter_name = "use"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("up", "used up"), ("most", "four fifths or more")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        full = {"up": F("most"), "most": F("most") * 4 / 5}.get(self.value() or "")
        return queryset.filter(n__gte=full, until__gt=datetime.now(UTC)) if full is not None else queryset


@admin.register(Bucket)
class BucketAdmin(ReadOnly, NumberSearch):
    list_display = ("kind", "shown", "used", "until")
    list_filter = (Used, ByKind)
    fields = ("kind", "shown", "used", "span", "until")
    readonly_fields = ("shown", "used")
    actions_detail = ("reset",)

    def has_reset_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("verification.delete_bucket")

    def of_number(self, queryset: Any, msisdn: str) -> Any:
        purposes = {*DEFAULTS, *Profile.objects.values_list("purpose", flat=True)}
        names = [msisdn, prefix(msisdn), *(f"{purpose} {msisdn}" for purpose in purposes)]
        return queryset.filter(kind__in=["number", "prefix", "failed", "failed_row"], value__in=names)

    @action(description="Reset", permissions=["reset"])
    def reset(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bucket = get_object_or_404(Bucket, pk=object_id)
        text = "It counts from nothing again. What it has stopped is not sent by itself."
        if page := confirmed(request, self, bucket, title=f"Reset {bucket}?", text=text, button="Reset"):
            return page
        self.log_deletions(request, [bucket])
        bucket.delete()
        messages.success(request, "It begins anew.")
        return HttpResponseRedirect(reverse("admin:verification_bucket_changelist"))

    @admin.display(description="Of")
    def shown(self, bucket: Bucket) -> str:
        return masked(bucket.kind, bucket.value)

    @admin.display(description="Used")
    def used(self, bucket: Bucket) -> str:
        over = bucket.until <= datetime.now(UTC)
        return "begins anew" if over else f"{bucket.n.normalize():f} of {bucket.most.normalize():f}"
