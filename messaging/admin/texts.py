"""Templates, measured while they are edited, and numbers that must not be written to."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from messaging.admin.logs import as_uuid
from messaging.drafts import LOCALE
from messaging.explain import examples, transliteration
from messaging.models import Client, Suppression, Template
from messaging.texts import PARAMETER, STRAY_BRACE, has_stray_brace
from providers.pages import LongList
from routing import numbers
from routing.encoding import BASIC, EXTENSION, measure

SAMPLE = "1234567890"  # what stands for a parameter while a text is measured


def as_sent(text: str) -> str:
    """Browsers send a line break as two characters, of which an SMS needs one."""
    return text.replace("\r\n", "\n")


class TemplateForm(forms.ModelForm):
    def clean_locale(self) -> str:
        locale: str = self.cleaned_data["locale"]
        if not LOCALE.fullmatch(locale):
            raise forms.ValidationError("A language tag like en or pt-BR.")
        return locale

    def clean_text(self) -> str:
        text = as_sent(self.cleaned_data["text"])
        if has_stray_brace(text):
            raise forms.ValidationError(STRAY_BRACE)
        return text


@admin.register(Template)
class TemplateAdmin(ModelAdmin):
    form = TemplateForm
    list_display = ("name", "locale", "client")
    list_filter = (("client", RelatedDropdownFilter),)
    list_filter_submit = True
    list_select_related = ("client",)
    search_fields = ("name",)
    ordering = ("name", "locale")
    change_form_after_template = "admin/messaging/template_size.html"

    class Media:
        js = (Script("messaging/preview.js", defer=True),)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.size_view)
        return [path("size/", view, name="messaging_template_size"), *super().get_urls()]

    def size_view(self, request: HttpRequest) -> HttpResponse:
        """A fragment of the form's page: how the text that is typed there would be billed. Nothing is saved."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        text = as_sent(request.POST.get("text", ""))
        level = _level(request.POST.get("client", ""))
        filled = PARAMETER.sub(SAMPLE, text)
        encoding = measure(filled)
        context = {
            "encoding": {"gsm7": "GSM-7", "ucs2": "UCS-2"}[encoding.name],
            "units": encoding.units,
            "segments": encoding.segments,
            "parameters": list(dict.fromkeys(PARAMETER.findall(text))),
            "sample": len(SAMPLE),
            "odd": list(dict.fromkeys(character for character in filled if character not in BASIC + EXTENSION))[:20],
            "stray": STRAY_BRACE if has_stray_brace(text) else "",
            "saves": transliteration(filled, level),
            "costs": examples(filled, level) if filled.strip() and request.user.has_perm("routing.view_price") else [],
        }
        return TemplateResponse(request, "admin/messaging/template_size.fragment.html", context)


def _level(client: str) -> str:
    """The transliteration of the client that the template is for; for everybody's, what a new client has."""
    row = Client.objects.filter(pk=wanted).first() if (wanted := as_uuid(client)) else None
    return row.transliteration if row else "typographic"


class SuppressionForm(forms.ModelForm):
    msisdn = forms.CharField(
        label="Number", max_length=32, widget=UnfoldAdminTextInputWidget, help_text="With the plus."
    )

    def clean_msisdn(self) -> str:
        try:
            return numbers.parse(self.cleaned_data["msisdn"]).msisdn
        except numbers.InvalidNumber:
            raise forms.ValidationError("Not a phone number that can be reached: E.164 with the plus.") from None


@admin.register(Suppression)
class SuppressionAdmin(LongList):
    form = SuppressionForm
    search_help_text = "The whole number in E.164 form"
    search_fields = ("msisdn",)
    list_filter = (("client", RelatedDropdownFilter),)
    list_select_related = ("client",)

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        number = "msisdn" if request.user.has_perm("messaging.view_full_number") else "masked"
        return (number, "client", "reason", "source", "created_at")

    def get_fields(self, request: HttpRequest, obj: Suppression | None = None) -> tuple[str, ...]:
        full = obj is None or request.user.has_perm("messaging.view_full_number")
        return ("msisdn" if full else "masked", "client", "reason", "source")

    def get_readonly_fields(self, request: HttpRequest, obj: Suppression | None = None) -> tuple[str, ...]:
        return ("masked", "msisdn") if obj else ("masked",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Suppression], search_term: str
    ) -> tuple[QuerySet[Suppression], bool]:
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(msisdn=numbers.parse(search_term.strip()).msisdn), False
        except numbers.InvalidNumber:
            return queryset.none(), False

    @admin.display(description="Number")
    def masked(self, row: Any) -> str:
        return numbers.mask(row.msisdn)
