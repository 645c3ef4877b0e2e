"""Clients and their keys. A key's secret is on one page, once: the answer to the form that made it."""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from messaging import quotas, staff
from messaging.clients import LIVE_KEYS, TooManyKeys, is_live, issue_key
from messaging.drafts import SENDER
from messaging.models import SCOPES, ApiKey, Client
from providers.pages import ReadOnly, asked, badge, change_url, confirmed

SCOPE_CHOICES = [(scope, scope) for scope in SCOPES]


class ClientForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=SCOPE_CHOICES,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What its keys may do at most. A key that has more loses it at once.",
    )

    def clean_sender(self) -> str:
        sender: str = self.cleaned_data["sender"]
        if sender and not SENDER.fullmatch(sender):
            raise forms.ValidationError("At most 11 letters and digits with a letter among them, or 3 to 15 digits.")
        return sender


class KeyForm(forms.Form):
    """`known` are the keys that were there when the form was shown: a page sent twice must not make two."""

    scopes = forms.MultipleChoiceField(widget=UnfoldAdminCheckboxSelectMultipleWidget)
    cidrs = forms.CharField(
        label="Networks",
        required=False,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Where it may be used from, one per line: 10.0.0.0/8 or 2001:db8::/32. Anywhere when empty.",
    )
    expires_on = forms.DateField(
        label="Expires on",
        required=False,
        widget=UnfoldAdminTextInputWidget({"type": "date"}),
        help_text="At 00:00 UTC. Never when empty.",
    )
    known = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, client: Client, data: QueryDict | None = None) -> None:
        self.there = " ".join(sorted(client.api_keys.values_list("pk", flat=True)))
        super().__init__(data, initial={"scopes": client.scopes, "known": self.there})
        scopes = self.fields["scopes"]
        assert isinstance(scopes, forms.MultipleChoiceField)  # noqa: S101  declared above
        scopes.choices = [(scope, scope) for scope in client.scopes]

    def clean_cidrs(self) -> list[str]:
        try:
            return [str(ip_network(line)) for line in self.cleaned_data["cidrs"].split()]
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None

    def clean_expires_on(self) -> datetime | None:
        day = self.cleaned_data["expires_on"]
        expires_at = datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None
        if expires_at and expires_at <= datetime.now(UTC):
            raise forms.ValidationError("A day in the future.")
        return expires_at

    def clean(self) -> None:
        if self.cleaned_data.get("known") != self.there:
            raise forms.ValidationError(
                "A key was created since this page was opened. Look at the keys, then begin anew."
            )


@admin.register(Client)
class ClientAdmin(ModelAdmin):
    form = ClientForm
    list_display = ("slug", "name", "state", "scope_list", "sender", "kafka_enabled", "created_at")
    list_filter = ("enabled", "kafka_enabled")
    search_fields = ("slug", "name")
    actions = None
    actions_detail = ("create_key",)
    limits = ("rate_limit", "daily_quota")
    fields = ("slug", "name", "enabled", "scopes", "sender", "transliteration", *limits, "kafka_enabled")

    def get_fields(self, request: HttpRequest, obj: Client | None = None) -> tuple[str, ...]:
        return (*self.fields, "usage", "key_table") if obj else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Client | None = None) -> tuple[str, ...]:
        return ("slug", "usage", "key_table") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        return False  # its messages and events stay: it is disabled instead

    # Not a dotted permission: unfold's system check would ask the database for it, also before the first migration.
    def has_issue_key_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("messaging.add_apikey")

    @action(description="Create API key", permissions=["issue_key"])
    def create_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        client = get_object_or_404(Client, pk=object_id)
        live = sum(map(is_live, client.api_keys.all()))
        form = KeyForm(client, request.POST or None) if live < LIVE_KEYS else None
        token = ""
        if form and form.is_valid():
            given = form.cleaned_data
            try:
                token = issue_key(client, scopes=given["scopes"], cidrs=given["cidrs"], expires_at=given["expires_on"])
            except TooManyKeys as error:
                form.add_error(None, str(error))
            else:
                self.log_change(request, client, f"Created {ApiKey.objects.filter(client=client).first()}.")
        page = {"title": f"New API key of {client}", "back": change_url(self, client)}
        if token:
            text = "This key is shown now and never again: only its hash is stored. Copy it to where it is used."
            return asked(request, self, None, text=text, secret=token, **page)
        if form:
            return asked(request, self, form, button="Create", **page)
        text = f"This client has {LIVE_KEYS} live keys already: the old one and its successor. Revoke one first."
        return asked(request, self, None, text=text, **page)

    @admin.display(description="State", ordering="enabled")
    def state(self, client: Client) -> SafeString:
        return badge("enabled" if client.enabled else "disabled")

    @admin.display(description="Scopes")
    def scope_list(self, client: Client) -> str:
        return ", ".join(client.scopes)

    @admin.display(description="Used today")
    def usage(self, client: Client) -> SafeString | str:
        if client.daily_quota is None:
            return "no quota"
        used = quotas.used_today(client.pk)
        bar = {
            "title": f"{used} of {client.daily_quota} since 00:00 UTC",
            "value": min(100, used * 100 // max(1, client.daily_quota)),
        }
        return SafeString(render_to_string("unfold/components/progress.html", bar))

    @admin.display(description="API keys")
    def key_table(self, client: Client) -> SafeString | str:
        rows = [
            (
                _link(key),
                key_state(key),
                ", ".join(key.scopes),
                ", ".join(key.cidrs) or "anywhere",
                _day(key.last_used_at),
            )
            for key in client.api_keys.all()[:20]
        ]
        table = {"headers": ["Key", "State", "Scopes", "Networks", "Last used"], "rows": rows}
        return SafeString(render_to_string("unfold/components/table.html", {"table": table})) if rows else "none"


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly):
    list_display = ("__str__", "client", "state", "scope_list", "expires_at", "last_used_at", "created_at")
    list_select_related = ("client",)
    search_fields = ("id", "client__slug")
    ordering = ("-created_at",)
    actions_detail = ("revoke",)
    fields = ("client", "state", "scope_list", "networks", "created_at", "last_used_at", "expires_at", "revoked_at")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        key = self.get_object(request, str(object_id))
        found: list[Any] = super().get_actions_detail(request, object_id)
        return found if key and is_live(key) else []

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("messaging.change_apikey")

    @action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = get_object_or_404(ApiKey, pk=object_id)
        text = "Requests with it are refused within a second. This cannot be undone."
        page = confirmed(request, self, key, title=f"Revoke {key}?", text=text, button="Revoke", danger=True)
        if page:
            return page
        if staff.revoke_key(key.pk):
            self.log_change(request, key, "Revoked.")
            messages.success(request, f"{key} is revoked.")
        return HttpResponseRedirect(change_url(self, key))

    @admin.display(description="State")
    def state(self, key: ApiKey) -> SafeString:
        return key_state(key)

    @admin.display(description="Scopes")
    def scope_list(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="Networks")
    def networks(self, key: ApiKey) -> str:
        return ", ".join(key.cidrs) or "anywhere"


def key_state(key: ApiKey) -> SafeString:
    return badge("live" if is_live(key) else "revoked" if key.revoked_at else "expired")


def _link(key: ApiKey) -> SafeString:
    url = reverse("admin:messaging_apikey_change", args=[key.pk])
    return format_html('<a class="font-medium text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, key)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "never"
