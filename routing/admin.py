"""Price lists, their prices, and exchange rates. A list can be edited while it is a draft."""

from collections.abc import Callable
from functools import partial
from typing import Any

import phonenumbers
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, FieldTextFilter, RelatedDropdownFilter
from unfold.decorators import action

from providers.pages import LongList, badge, change_url, confirmed
from routing import books, import_admin, order_admin, rates
from routing.models import ExchangeRate, Price, PriceList
from routing.price_pages import PricePages
from routing.snapshot import tables

__all__ = ["import_admin", "order_admin"]  # which register their pages


@admin.register(PriceList)
class PriceListAdmin(PricePages):
    list_display = ("name", "provider", "state", "valid_from", "created_at")
    list_filter = (("provider", RelatedDropdownFilter), ("status", ChoicesDropdownFilter))
    list_filter_submit = True
    list_select_related = ("provider",)
    search_fields = ("name", "provider__slug")
    ordering = ("-created_at",)
    actions = None
    actions_detail = ("activate", "copy", "export", "retire")

    def get_fields(self, request: HttpRequest, obj: PriceList | None = None) -> tuple[str, ...]:
        imported = obj is not None and obj.price_imports.exists()
        return ("provider", "name", "valid_from", "state", "prices", *(["origin"] if imported else []))

    def get_readonly_fields(self, request: HttpRequest, obj: PriceList | None = None) -> tuple[str, ...]:
        return ("state", "prices", "origin", "provider") if obj else ("state", "prices")

    def has_change_permission(self, request: HttpRequest, obj: PriceList | None = None) -> bool:
        fixed = isinstance(obj, PriceList) and obj.status != PriceList.Status.DRAFT
        return not fixed and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: PriceList | None = None) -> bool:
        return False  # the decisions of a year refer to what was in force: it is retired instead

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        book = self.get_object(request, str(object_id))
        status = book.status if book else ""
        hidden = {
            "proposed": {"activate", "copy", "retire"},  # its import decides
            "active": {"activate"},
            "retired": {"activate", "retire"},
        }.get(status, set())
        found = super().get_actions_detail(request, object_id)
        return [entry for entry in found if entry.action_name.removeprefix("routing_pricelist_") not in hidden]

    # Not a dotted permission: unfold's system check would ask the database for it, also before the first migration.
    def has_publish_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("routing.approve_pricelist")

    def has_copy_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("routing.add_pricelist")

    @action(description="Activate", permissions=["publish"])
    def activate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = "From its start on it replaces the list in force, as a whole. Its prices can not be changed any more."
        return self._do(request, object_id, "Activate", text, partial(books.activate, by=request.user))

    @action(description="Retire", permissions=["publish"])
    def retire(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = (
            "The active list before it is in force again; without one the provider has no prices and carries nothing."
        )
        return self._do(request, object_id, "Retire", text, books.retire, danger=True)

    @action(description="Copy as draft", permissions=["copy"])
    def copy(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = "A new list with the same prices, to be changed and then activated."
        return self._do(request, object_id, "Copy", text, partial(books.copy_as_draft, by=request.user))

    @action(description="Export", permissions=["export"])
    def export(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:routing_pricelist_export", args=[object_id]))

    def has_export_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return bool(self.has_view_permission(request))

    def save_model(self, request: HttpRequest, obj: PriceList, form: Any, change: bool) -> None:
        if change:  # it may have changed since the form was shown
            _hold(obj.pk, request)
            obj.save(update_fields=form.changed_data)
        else:
            obj.editors = [request.user.pk]
            obj.save()

    def _do(
        self,
        request: HttpRequest,
        object_id: str,
        verb: str,
        text: str,
        act: Callable[[int], PriceList],
        danger: bool = False,
    ) -> HttpResponse:
        book = get_object_or_404(PriceList, pk=object_id)
        if verb != "Copy":
            text = f"{text} {books.coming(book.provider_id, max(book.valid_from, timezone.now()))}"
        page = confirmed(request, self, book, title=f"{verb} {book}?", text=text, button=verb, danger=danger)
        if page:
            return page
        try:
            result = act(book.pk)
        except books.Refused as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(change_url(self, book))
        self.log_change(request, result, f"{verb}: {book}.")
        messages.success(request, f"{result} is {result.status}.")
        return HttpResponseRedirect(change_url(self, result))

    @admin.display(description="State", ordering="status")
    def state(self, book: PriceList) -> SafeString:
        return badge(book.status or "draft")

    @admin.display(description="Prices")
    def prices(self, book: PriceList) -> SafeString | str:
        if book.pk is None:
            return "Save it first, then add prices."
        url = f"{reverse('admin:routing_price_changelist')}?price_list__id__exact={book.pk}"
        return format_html(
            '<a class="font-medium text-primary-600 dark:text-primary-500" href="{}">{} prices</a>',
            url,
            book.prices.count(),
        )

    @admin.display(description="Import")
    def origin(self, book: PriceList) -> SafeString:
        found = book.price_imports.order_by("-pk")[0]
        words = f"{found.file_name} ({found.get_status_display().lower()})"
        return format_html(
            '<a class="font-medium text-primary-600 dark:text-primary-500" href="{}">{}</a>',
            reverse("admin:routing_priceimport_change", args=[found.pk]),
            words,
        )


class PriceForm(forms.ModelForm):
    def clean_country(self) -> str:
        country: str = self.cleaned_data["country"]
        if country not in phonenumbers.SUPPORTED_REGIONS:
            raise forms.ValidationError("No country with phone numbers: ISO 3166-1 alpha-2, like UA or GB.")
        return country


class PriceListFilter(RelatedDropdownFilter):
    """Without a query for each list's provider."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[int, str]]:
        lists = PriceList.objects.select_related("provider").order_by("provider__slug", "-valid_from")
        return [(book.pk, str(book)) for book in lists]


@admin.register(Price)
class PriceAdmin(LongList):
    form = PriceForm
    list_display = ("country", "network", "prefix", "price", "price_delivered", "currency", "valid", "book")
    list_display_links = ("country",)
    list_filter = (("price_list", PriceListFilter), ("country", FieldTextFilter))
    list_select_related = ("price_list__provider",)
    ordering = ("price_list", "country", "mcc", "mnc", "prefix")
    fields = (
        "price_list",
        "country",
        "mcc",
        "mnc",
        "prefix",
        "price",
        "price_delivered",
        "currency",
        "valid_from",
        "valid_to",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> tuple[str, ...]:
        return ("price_list",) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return _editable(obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return _editable(obj) and bool(super().has_delete_permission(request, obj))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        return super().get_queryset(request).select_related("price_list__provider")

    def formfield_for_foreignkey(self, db_field: ForeignKey, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = PriceList.objects.filter(status=PriceList.Status.DRAFT).select_related("provider")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """ "Add price" from a filtered list means: to that list."""
        found = super().get_changeform_initial_data(request)
        filters = request.GET.get("_changelist_filters", "")
        _, _, wanted = filters.partition("price_list__id__exact=")
        return {"price_list": wanted.partition("&")[0], **found} if wanted else found

    def save_model(self, request: HttpRequest, obj: Price, form: Any, change: bool) -> None:
        _hold(obj.price_list_id, request)
        super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: Price) -> None:
        _hold(obj.price_list_id, request)
        super().delete_model(request, obj)

    @admin.display(description="Network")
    def network(self, price: Price) -> str:
        return "-".join(filter(None, (price.mcc, price.mnc))) or "all"

    @admin.display(description="Valid")
    def valid(self, price: Price) -> str:
        begin = f"from {price.valid_from:%Y-%m-%d %H:%M}" if price.valid_from else ""
        end = f"until {price.valid_to:%Y-%m-%d %H:%M}" if price.valid_to else ""
        return f"{begin} {end}".strip() or "always"

    @admin.display(description="Price list")
    def book(self, price: Price) -> SafeString:
        return format_html("{} {}", price.price_list, badge(price.price_list.status))


@admin.register(ExchangeRate)
class ExchangeRateAdmin(ModelAdmin):
    list_display = ("currency", "rate", "valid_from")
    search_fields = ("currency",)
    ordering = ("currency", "-valid_from")
    actions = None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        for text in rates.stale(tables.get(), timezone.now()):
            messages.warning(request, f"{text[0].upper()}{text[1:]}.")
        return super().changelist_view(request, extra_context)


def _editable(price: Price | None) -> bool:
    return not isinstance(price, Price) or price.price_list.status == PriceList.Status.DRAFT


def _hold(price_list_id: int, request: HttpRequest) -> None:
    try:
        books.lock_draft(price_list_id, by=request.user)
    except books.Refused as error:
        raise PermissionDenied(str(error)) from None
