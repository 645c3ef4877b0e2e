"""Profiles: how a client verifies for a purpose. What is typed is previewed, and refused where it is not safe."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.postgres.forms import SimpleArrayField
from django.core.exceptions import PermissionDenied
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from phonenumbers import SUPPORTED_REGIONS
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from messaging.drafts import LOCALE, SENDER
from providers.pages import badge
from routing.numbers import NumberType
from verification import codes
from verification.admin import odds, preview
from verification.admin.numbers import NO_COUNTRY
from verification.models import CONTEXT_FIELDS, Profile, default_cooldowns, default_number_types
from verification.profiles import policy_of


def _several(words: Iterable[str], *, required: bool, initial: Any, help_text: str) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        choices=[(str(word), str(word).replace("_", " ")) for word in words],
        required=required,
        initial=initial,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=help_text,
    )


class ProfileForm(forms.ModelForm):
    # A field that is declared here does not know the default of the model's.
    number_types = _several(
        tuple(NumberType),
        required=True,
        initial=default_number_types,
        help_text="Kinds of numbers that may be sent to.",
    )
    context_fields = _several(
        CONTEXT_FIELDS,
        required=False,
        initial=list,
        help_text="What a start must name, a check must repeat and the text shows (PSD2 RTS, article 5).",
    )
    cooldowns = SimpleArrayField(
        forms.IntegerField(min_value=1, max_value=600),
        min_length=1,
        max_length=10,
        initial=default_cooldowns,
        widget=UnfoldAdminTextInputWidget,
        help_text="Seconds from one send to the next, with commas: 30,60,120. The last one repeats.",
    )
    countries = SimpleArrayField(
        forms.CharField(max_length=2),
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="With commas: UA,PL. Every country with a price, when empty.",
    )

    class Meta:
        help_texts = {
            "client": "Its own profiles win over the defaults that stand above the list.",
            "code_length": f"{codes.SHORTEST} to {codes.LONGEST} digits. The chance to guess one is shown below.",
            "max_sends": "The first message, and those that are asked for again.",
            "webotp_host": "Browsers offer the code on this site: the last line is @host #code.",
            "app_hash": "Android hands the text to the app with this hash (SMS Retriever).",
        }

    def clean_locale(self) -> str:
        locale: str = self.cleaned_data["locale"]
        if locale and not LOCALE.fullmatch(locale):
            raise forms.ValidationError("A language tag like en or pt-BR.")
        return locale

    def clean_sender(self) -> str:
        sender: str = self.cleaned_data["sender"]
        if sender and not SENDER.fullmatch(sender):
            raise forms.ValidationError("At most 11 letters and digits with a letter among them, or 3 to 15 digits.")
        return sender

    def clean_countries(self) -> list[str]:
        countries = list(dict.fromkeys(country.strip().upper() for country in self.cleaned_data["countries"]))
        if not SUPPORTED_REGIONS.issuperset(countries):
            raise forms.ValidationError(NO_COUNTRY)
        return countries

    def clean(self) -> None:
        """What one field alone cannot tell: the odds, and whether the text can be written."""
        super().clean()
        if self.errors:
            return
        policy = preview.policy_from(self.cleaned_data)
        if policy.odds > codes.ODDS_LIMIT and not policy.accept_risk:
            text = f"One code is guessed with a chance of {odds.words(policy)}. Above {codes.ODDS_LIMIT} in a million"
            self.add_error("accept_risk", f"{text} it must be accepted here, or made longer.")
        client = self.cleaned_data["client"]
        for fault in dict.fromkeys(one.fault for one in preview.previews(client, policy) if one.fault):
            self.add_error("template", f"The text cannot be written. {fault}")
        if policy.locale and policy.locale.lower().replace("_", "-") not in preview.locales(client, policy):
            self.add_error("locale", f"There is a text in {', '.join(preview.locales(client, policy))} only.")


@admin.register(Profile)
class ProfileAdmin(ModelAdmin):
    form = ProfileForm
    list_display = ("__str__", "client", "state", "code_length", "max_checks", "lifetime", "guessed", "monitor_only")
    list_display_links = ("__str__",)
    list_filter = (("client", RelatedDropdownFilter), "enabled")
    list_filter_submit = True
    list_select_related = ("client",)
    search_fields = ("purpose", "name", "client__slug")
    list_before_template = "admin/verification/defaults.html"
    change_form_after_template = "admin/verification/preview_box.html"
    fieldsets = (
        (None, {"fields": ("client", "purpose", "name", "enabled", "monitor_only")}),
        ("Code", {"fields": ("code_length", "ttl_seconds", "max_checks", "code_per_attempt", "accept_risk")}),
        ("Sending", {"fields": ("max_sends", "cooldowns", "receipt_wait_seconds", "sender")}),
        ("Text", {"fields": ("template", "locale", "context_fields", "webotp_host", "app_hash")}),
        ("Where to", {"fields": ("countries", "number_types")}),
    )

    class Media:
        js = (Script("messaging/preview.js", defer=True),)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.preview_view)
        return [path("preview/", view, name="verification_profile_preview"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"defaults": odds.default_table(), **(extra_context or {})})

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """A fragment of the form's page: what is typed there, as it would be sent. Nothing is saved."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        form = self.get_form(request)(request.POST)
        form.is_valid()  # whatever is wrong is told when it is saved
        policy = preview.policy_from(form.cleaned_data)
        found = preview.context(form.cleaned_data.get("client"), policy)
        return TemplateResponse(request, "admin/verification/preview.html", found)

    @admin.display(description="State")
    def state(self, profile: Profile) -> str:
        return badge("enabled" if profile.enabled else "disabled")

    @admin.display(description="Lifetime")
    def lifetime(self, profile: Profile) -> str:
        return f"{profile.ttl_seconds} s"

    @admin.display(description="Guessed")
    def guessed(self, profile: Profile) -> str:
        return odds.words(policy_of(profile))
