"""Routing rules, sender registrations, and the networks that are known."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, FieldTextFilter, RelatedDropdownFilter

from providers.pages import LongList, badge
from routing.order_models import Network, NetworkPrefix, Rule, SenderRegistration
from routing.prices import plain

SOON = timedelta(days=30)  # a registration that ends sooner is marked
NEEDS = {Rule.Action.WEIGHT: "weight", Rule.Action.CEILING: "ceiling"}


class RuleForm(forms.ModelForm):
    def clean(self) -> dict[str, Any] | None:
        found = super().clean()
        needed = NEEDS.get(self.cleaned_data.get("action", ""))
        for name in NEEDS.values():
            if name != needed and self.cleaned_data.get(name) is not None:
                self.add_error(name, "Not for this action.")
        return found


@admin.register(Rule)
class RuleAdmin(ModelAdmin):
    form = RuleForm
    list_display = ("name", "state", "does", "provider", "conditions")
    list_filter = (("provider", RelatedDropdownFilter), ("action", ChoicesDropdownFilter), "enabled")
    list_filter_submit = True
    list_select_related = ("provider",)
    search_fields = ("name", "client", "country", "sender")
    actions = None
    fieldsets = (
        (None, {"fields": ("name", "enabled", "action", "provider", "weight", "ceiling")}),
        (
            "Conditions (any where empty)",
            {"fields": ("client", "message_class", "country", ("mcc", "mnc"), "sender", ("begins", "ends"))},
        ),
    )

    @admin.display(description="State", ordering="enabled")
    def state(self, rule: Rule) -> SafeString:
        return badge("enabled" if rule.enabled else "disabled")

    @admin.display(description="Does")
    def does(self, rule: Rule) -> str:
        if rule.action == Rule.Action.CEILING and rule.ceiling is not None:
            return f"{rule.action} {plain(rule.ceiling)}"
        return f"{rule.action} {rule.weight}" if rule.action == Rule.Action.WEIGHT else rule.action

    @admin.display(description="Conditions")
    def conditions(self, rule: Rule) -> str:
        words = [rule.client, rule.message_class, rule.country, "-".join(filter(None, (rule.mcc, rule.mnc)))]
        hours = f"{rule.begins:%H:%M} to {rule.ends:%H:%M} UTC" if rule.begins and rule.ends else ""
        return ", ".join(filter(None, (*words, rule.sender, hours))) or "always"


@admin.register(SenderRegistration)
class SenderRegistrationAdmin(ModelAdmin):
    list_display = ("sender", "country", "provider", "status", "expires_at", "note")
    list_filter = (
        ("provider", RelatedDropdownFilter),
        ("state", ChoicesDropdownFilter),
        ("country", FieldTextFilter),
    )
    list_filter_submit = True
    list_select_related = ("provider",)
    search_fields = ("sender", "country")
    ordering = ("country", "sender")
    actions = None
    fields = ("provider", "country", "sender", "state", "expires_at", "note")

    @admin.display(description="State", ordering="state")
    def status(self, row: SenderRegistration) -> SafeString:
        now = timezone.now()
        if row.state == SenderRegistration.State.APPROVED and row.expires_at:
            if row.expires_at <= now:
                return badge("expired")
            if row.expires_at <= now + SOON:
                return badge(f"ends in {(row.expires_at - now).days} days", "warning")
        return badge(row.state, "success" if row.state == SenderRegistration.State.APPROVED else "")


@admin.register(Network)
class NetworkAdmin(LongList):
    list_display = ("mcc", "mnc", "name", "country")
    list_filter = (("country", FieldTextFilter), ("mcc", FieldTextFilter))
    search_fields = ("name",)
    ordering = ("mcc", "mnc", "country")


@admin.register(NetworkPrefix)
class NetworkPrefixAdmin(LongList):
    list_display = ("prefix", "mcc", "mnc", "source")
    list_filter = (("mcc", FieldTextFilter), ("source", FieldTextFilter))
    search_fields = ("prefix__startswith",)
    search_help_text = "Digits that the prefix begins with"
    ordering = ("prefix",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **{"fields": ("prefix", "mcc", "mnc", "source"), **kwargs})
