"""What staff decide about destinations: countries, blocks, trusted numbers."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_interface
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils.safestring import SafeString
from phonenumbers import SUPPORTED_REGIONS
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RelatedDropdownFilter
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from providers.pages import badge, change_url, confirmed
from routing.numbers import mask
from routing.snapshot import tables
from verification import guard
from verification.admin.numbers import NO_COUNTRY, NumberSearch, masked, number_of
from verification.drafts import LONGEST_DEVICE
from verification.fraud_models import Block, BlockKind, CountryRule, TrustedNumber
from verification.limits import network, prefix

LAST_FOUR = re.compile(r"[*xX]{4}\Z")  # of a prefix, as people write them


class CountryRuleForm(forms.ModelForm):
    def clean_country(self) -> str:
        country: str = self.cleaned_data["country"]
        if country not in SUPPORTED_REGIONS:  # UK for GB would be a rule that never holds
            raise forms.ValidationError(NO_COUNTRY)
        return country

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        cap, currency = found.get("daily_cap"), found.get("currency")
        if cap is not None and currency and tables.get().reporting(cap, currency, datetime.now(UTC)) is None:
            self.add_error("currency", "There is no exchange rate for it: nobody could tell when the cap is used up.")
        return found


@admin.register(CountryRule)
class CountryRuleAdmin(ModelAdmin):
    form = CountryRuleForm
    list_display = ("country", "client", "shown_mode", "daily_cap", "currency")
    list_filter = (("mode", ChoicesDropdownFilter), ("client", RelatedDropdownFilter))
    list_filter_submit = True
    list_select_related = ("client",)
    search_fields = ("country",)
    actions = None

    @admin.display(description="Mode", ordering="mode")
    def shown_mode(self, rule: CountryRule) -> SafeString:
        return badge(rule.mode, {"block": "danger", "monitor": "warning", "allow": "success"}.get(rule.mode, "info"))


class BlockForm(forms.ModelForm):
    value = forms.CharField(
        label="Number, address or device",
        max_length=LONGEST_DEVICE,
        widget=UnfoldAdminTextInputWidget,
        help_text="A number; for its ten thousand neighbours any of them, or +38067123xxxx; an IP address, of which "
        "the /24 or /64 is blocked; a device as its client names it.",
    )

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        if found.get("value") and found.get("kind"):
            try:
                found["value"] = self._named(found["kind"], found["value"], found.get("client"))
            except forms.ValidationError as error:
                self.add_error("value", error)
        expires_at = found.get("expires_at")
        if expires_at and expires_at <= datetime.now(UTC):
            self.add_error("expires_at", "That is over.")
        return found

    def _named(self, kind: str, text: str, client: Any) -> str:
        """As a start is named by (rules.Start.names)."""
        if kind == BlockKind.NUMBER:
            return number_of(text)
        if kind == BlockKind.PREFIX:
            return prefix(number_of(LAST_FOUR.sub("0000", text)))
        if kind == BlockKind.IP:
            return _network(text)
        if client is None:
            raise forms.ValidationError("A device belongs to a client: choose it too.")
        return f"{client.slug} {text}"


def _network(text: str) -> str:
    try:
        given = ip_interface(text.strip())
    except ValueError:
        raise forms.ValidationError("An IPv4 or IPv6 address is expected.") from None
    found = network(str(given.ip))
    if "/" in text and str(given.network) != found:
        raise forms.ValidationError("Networks are blocked as a /24, or a /64 of IPv6.")
    return found


class Holds(DropdownFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("holds", "holds"), ("over", "over or lifted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        holds = guard.holding()
        return queryset.filter(holds if self.value() == "holds" else ~holds)


@admin.register(Block)
class BlockAdmin(NumberSearch):
    form = BlockForm
    list_display = ("created_at", "kind", "shown", "client", "state", "reason", "made_by", "expires_at")
    list_filter = (Holds, ("kind", ChoicesDropdownFilter), "by_rule", ("client", RelatedDropdownFilter))
    list_select_related = ("client", "created_by")
    actions_detail = ("lift",)
    added = ("kind", "value", "client", "reason", "expires_at")
    kept = ("kind", "shown", "client", "state", "reason", "made_by", "created_at")
    ended = ("expires_at", "lifted_at", "lifted_by")

    def get_fields(self, request: HttpRequest, obj: Block | None = None) -> tuple[str, ...]:
        return self.kept + self.ended if obj else self.added

    def has_change_permission(self, request: HttpRequest, obj: Block | None = None) -> bool:
        return False  # it is lifted, and another one is added

    def has_delete_permission(self, request: HttpRequest, obj: Block | None = None) -> bool:
        return False

    def has_lift_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("verification.change_block")

    def of_number(self, queryset: Any, msisdn: str) -> Any:
        return queryset.filter(Q(kind="number", value=msisdn) | Q(kind="prefix", value=prefix(msisdn)))

    def save_model(self, request: HttpRequest, obj: Block, form: Any, change: bool) -> None:
        obj.created_by_id = request.user.pk
        super().save_model(request, obj, form, change)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        block = self.get_object(request, str(object_id))
        return super().get_actions_detail(request, object_id) if block and _holds(block) else []

    @action(description="Lift", permissions=["lift"])
    def lift(self, request: HttpRequest, object_id: str) -> HttpResponse:
        block = get_object_or_404(Block, pk=object_id)
        text = "Codes are sent again from the next start on. What a rule counted before is forgiven."
        if page := confirmed(request, self, block, title="Lift this block?", text=text, button="Lift"):
            return page
        if guard.lift([block.pk], request.user.pk):
            self.log_change(request, block, "Lifted.")
            messages.success(request, "The block is lifted.")
        else:
            messages.info(request, "It was over before.")
        return HttpResponseRedirect(change_url(self, block))

    @admin.display(description="Blocked")
    def shown(self, block: Block) -> str:
        return masked(block.kind, block.value)

    @admin.display(description="State")
    def state(self, block: Block) -> SafeString:
        if _holds(block):
            return badge("holds", "danger")
        return badge("lifted" if block.lifted_at else "over", "success")

    @admin.display(description="By")
    def made_by(self, block: Block) -> str:
        return f"rule, level {block.level}" if block.by_rule else str(block.created_by or "-")


def _holds(block: Block) -> bool:
    return block.lifted_at is None and (block.expires_at is None or block.expires_at > datetime.now(UTC))


class TrustedNumberForm(forms.ModelForm):
    msisdn = forms.CharField(
        label="Number", max_length=32, widget=UnfoldAdminTextInputWidget, help_text="With the plus."
    )

    def clean_msisdn(self) -> str:
        return number_of(self.cleaned_data["msisdn"])


@admin.register(TrustedNumber)
class TrustedNumberAdmin(NumberSearch):
    form = TrustedNumberForm
    list_display = ("created_at", "shown", "client", "reason", "created_by", "expires_at")
    list_filter = (("client", RelatedDropdownFilter),)
    list_select_related = ("client", "created_by")

    def get_fields(self, request: HttpRequest, obj: TrustedNumber | None = None) -> tuple[str, ...]:
        return ("shown" if obj else "msisdn", "client", "reason", "expires_at")

    def get_readonly_fields(self, request: HttpRequest, obj: TrustedNumber | None = None) -> tuple[str, ...]:
        return ("shown", "msisdn", "client") if obj else ("shown",)

    def of_number(self, queryset: Any, msisdn: str) -> Any:
        return queryset.filter(msisdn=msisdn)

    def save_model(self, request: HttpRequest, obj: TrustedNumber, form: Any, change: bool) -> None:
        if not change:
            obj.created_by_id = request.user.pk
        super().save_model(request, obj, form, change)

    @admin.display(description="Number")
    def shown(self, row: TrustedNumber) -> str:
        return mask(row.msisdn)
