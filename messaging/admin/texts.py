"""Templates, and numbers that must not be written to."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from messaging.drafts import LOCALE
from messaging.models import Suppression, Template
from messaging.texts import STRAY_BRACE, has_stray_brace
from providers.pages import LongList
from routing import numbers


class TemplateForm(forms.ModelForm):
    def clean_locale(self) -> str:
        locale: str = self.cleaned_data["locale"]
        if not LOCALE.fullmatch(locale):
            raise forms.ValidationError("A language tag like en or pt-BR.")
        return locale

    def clean_text(self) -> str:
        text: str = self.cleaned_data["text"]
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
