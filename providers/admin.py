"""Provider accounts: credentials go in and never come out; health is shown with its reason."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminURLInputWidget

from providers import health
from providers.adapters import ADAPTERS, adapter_class
from providers.credentials import CredentialsError
from providers.models import Provider, ProviderHealth, ProviderThroughput
from providers.pages import badge, change_url, confirmed

PREFIX = "credential_"


class ProviderForm(forms.ModelForm):
    """Base of the forms that `form_for` makes."""

    base_url = forms.URLField(
        label="Base URL",
        required=False,
        assume_scheme="https",
        max_length=200,
        widget=UnfoldAdminURLInputWidget,
        help_text=Provider._meta.get_field("base_url").help_text,
    )

    def entered(self) -> dict[str, str]:
        """The credentials that were typed in; an empty field keeps what is stored."""
        found = {name: self.cleaned_data[name] for name in self.fields if name.startswith(PREFIX)}
        return {name.removeprefix(PREFIX): value for name, value in found.items() if value}


def form_for(provider: Provider) -> type[ProviderForm]:
    """The form of one provider, with a write-only field for each credential of its adapter."""
    stored, _ = stored_credentials(provider)
    return type("CredentialsForm", (ProviderForm,), {
        PREFIX + name: forms.CharField(
            label=name.replace("_", " ").capitalize(),
            required=False,
            widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"}),
            help_text="Set. Leave it empty to keep it." if name in stored else f"Not set{optional}.",
        )
        for name, optional in credential_names(provider).items()
    })  # fmt: skip


def credential_names(provider: Provider) -> dict[str, str]:
    """Every credential of the adapter; the optional ones with a remark."""
    if provider.adapter not in ADAPTERS:
        return {}
    cls = adapter_class(provider.adapter)
    return dict.fromkeys(cls.credential_fields, "") | dict.fromkeys(cls.optional_credential_fields, ", optional")


def stored_credentials(provider: Provider) -> tuple[Mapping[str, str], str]:
    """What is stored, and why it cannot be read."""
    try:
        return provider.read_credentials(), ""
    except CredentialsError as error:
        return {}, str(error)


def credentials_fault(provider: Provider) -> str:
    """Why this provider cannot be used with the credentials it has; "" when it can."""
    if provider.adapter not in ADAPTERS:
        return f"there is no adapter {provider.adapter}"
    stored, fault = stored_credentials(provider)
    missing = [name for name in adapter_class(provider.adapter).credential_fields if not stored.get(name)]
    return fault or (f"missing: {', '.join(missing)}" if missing else "")


@admin.register(Provider)
class ProviderAdmin(ModelAdmin):
    list_display = ("slug", "name", "adapter", "state", "breakers", "rate", "balance_now", "credentials_status")
    list_filter = ("enabled", "adapter")
    search_fields = ("slug", "name")
    actions = None
    actions_detail = ("enable", "disable", "close_breaker")
    account = ("slug", "name", "adapter", "base_url", "sender")
    capability = ("rate", "resolve", "lag")
    money = ("balance_floor", "balance_warning")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        troubled = ProviderHealth.objects.exclude(state="closed", failures=0, window_failed=0).order_by("country")
        return (
            super()
            .get_queryset(request)
            .select_related("balance")
            .prefetch_related(Prefetch("health", troubled, "troubled"))
        )

    def get_form(self, request: HttpRequest, obj: Provider | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, form=form_for(obj) if obj else ProviderForm, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> list[Any]:
        if obj is None:
            return [(None, {"fields": self.account}), ("Throughput and certainty", {"fields": self.capability})]
        names = [PREFIX + name for name in credential_names(obj)] if self.has_change_permission(request, obj) else []
        return [
            (None, {"fields": ("state", *self.account)}),
            ("Credentials (written, never shown)", {"fields": ("credentials_status", *names)}),
            ("Throughput and certainty", {"fields": self.capability}),
            ("Balance", {"fields": ("balance_now", *self.money)}),
            ("Health", {"fields": ("health_table", "throughput_now")}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Provider | None = None) -> tuple[str, ...]:
        shown = ("state", "credentials_status", "balance_now", "health_table", "throughput_now")
        return (*shown, "slug", "adapter") if obj else shown

    def has_delete_permission(self, request: HttpRequest, obj: Provider | None = None) -> bool:
        return False  # attempts refer to it for good: it is disabled instead

    def save_model(self, request: HttpRequest, obj: Provider, form: ProviderForm, change: bool) -> None:
        if not change:
            obj.enabled = False
        entered = form.entered()
        if entered:
            stored, _ = stored_credentials(obj)
            obj.set_credentials({**stored, **entered})
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: Provider, post_url_continue: str | None = None) -> HttpResponse:
        messages.info(request, f"{obj} is there, disabled. Enter its credentials, then enable it.")
        return HttpResponseRedirect(change_url(self, obj))

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        provider = self.get_object(request, str(object_id))
        hidden = {"enable" if provider and provider.enabled else "disable"}
        if not provider or not any(row.state != "closed" for row in provider.troubled):
            hidden.add("close_breaker")
        found = super().get_actions_detail(request, object_id)
        return [entry for entry in found if entry.action_name.removeprefix("providers_provider_") not in hidden]

    # Not a dotted permission: unfold's system check would ask the database for it, also before the first migration.
    def has_operate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("providers.change_provider")

    @action(description="Enable", permissions=["operate"])
    def enable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = get_object_or_404(Provider, pk=object_id)
        if fault := credentials_fault(provider):
            messages.error(request, f"{provider} cannot be enabled: {fault}.")
            return HttpResponseRedirect(change_url(self, provider))
        return self._switch(request, provider, True, "New messages may go out by it at once.")

    @action(description="Disable", permissions=["operate"])
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = get_object_or_404(Provider, pk=object_id)
        return self._switch(request, provider, False, "Messages go by other providers. Its receipts are still taken.")

    def _switch(self, request: HttpRequest, provider: Provider, enabled: bool, text: str) -> HttpResponse:
        verb = "Enable" if enabled else "Disable"
        page = confirmed(
            request, self, provider, title=f"{verb} {provider}?", text=text, button=verb, danger=not enabled
        )
        if page:
            return page
        Provider.objects.filter(pk=provider.pk).update(enabled=enabled)
        self.log_change(request, provider, f"{verb}d.")
        messages.success(request, f"{provider} is {verb.lower()}d.")
        return HttpResponseRedirect(change_url(self, provider))

    @action(description="Close breaker", permissions=["operate"])
    def close_breaker(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider = get_object_or_404(Provider, pk=object_id)
        text = "Messages are offered to it again at once, in all countries. If it still fails, the breaker opens again."
        page = confirmed(
            request, self, provider, title=f"Close the breaker of {provider}?", text=text, button="Close it"
        )
        if page:
            return page
        health.close(provider.pk)
        self.log_change(request, provider, "Closed the breaker.")
        messages.success(request, f"The breaker of {provider} is closed.")
        return HttpResponseRedirect(change_url(self, provider))

    @admin.display(description="State", ordering="enabled")
    def state(self, provider: Provider) -> SafeString:
        return badge("enabled" if provider.enabled else "disabled")

    @admin.display(description="Breaker")
    def breakers(self, provider: Any) -> SafeString:
        opened = [row for row in provider.troubled if row.state != "closed"]
        if not opened:
            return badge("closed")
        where = ", ".join(row.country or "all countries" for row in opened[:5]) + (" …" if len(opened) > 5 else "")
        return badge(f"{opened[0].state}: {where}")

    @admin.display(description="Balance")
    def balance_now(self, provider: Provider) -> SafeString | str:
        balance = getattr(provider, "balance", None)
        if balance is None or balance.amount is None:
            return f"not known: {balance.fault}" if balance and balance.fault else "-"
        told = f"{balance.amount:,.2f} {balance.currency}"
        if balance.closes:
            return badge(f"{told}: nothing is sent", "danger")
        if balance.warns:
            return badge(f"{told}: low", "warning")
        return f"{told}, at {_moment(balance.fetched_at)}"

    @admin.display(description="Credentials")
    def credentials_status(self, provider: Provider) -> SafeString:
        fault = credentials_fault(provider)
        return (
            badge(f"unreadable: {fault}" if stored_credentials(provider)[1] else fault)
            if fault
            else badge("set, readable", "success")
        )

    @admin.display(description="Breakers")
    def health_table(self, provider: Any) -> SafeString:
        rows = [
            (
                row.country or "all",
                badge(row.state),
                row.failures,
                row.reason,
                _moment(row.opened_at),
                _moment(row.probe_at),
            )
            for row in provider.troubled[:50]
        ]
        headers = ["Country", "State", "Failures in a row", "Reason", "Open since", "Next probe"]
        table = {"headers": headers, "rows": rows}
        if not rows:
            return badge("closed")
        return SafeString(render_to_string("unfold/components/table.html", {"table": table}))

    @admin.display(description="Rate now")
    def throughput_now(self, provider: Provider) -> str:
        row = ProviderThroughput.objects.filter(pk=provider.pk).first()
        if row is None or (not row.slowdown and not row.paused_until):
            return "as configured"
        slow = f"1/{2**row.slowdown} of the rate" if row.slowdown else "full rate"
        return slow + (f", paused until {_moment(row.paused_until)} by the provider" if row.paused_until else "")


def _moment(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "-"
