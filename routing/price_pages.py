"""Pages beside the price lists: where who has prices, what changes next week, and a list as a file."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.text import slugify
from unfold.admin import ModelAdmin

from routing import coverage, exports
from routing.import_pages import amount
from routing.models import PriceList


class PricePages(ModelAdmin):
    """What the admin of price lists shows besides them."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("coverage/", wrap(self.coverage_view), name="routing_coverage"),
            path("next-week/", wrap(self.next_week_view), name="routing_next_week"),
            path("<int:pk>/prices.csv", wrap(self.export_view), name="routing_pricelist_export"),
            *super().get_urls(),
        ]

    def coverage_view(self, request: HttpRequest) -> HttpResponse:
        self._allowed(request)
        providers, countries = coverage.coverage()
        table = [
            (
                country,
                [_shown(cell) if cell else None for cell in cells],
                sum(cell is not None and cell.enabled for cell in cells),
            )
            for country, cells in countries
        ]
        context = {"title": "Coverage: prices in force now", "providers": providers.items(), "countries": table}
        return TemplateResponse(request, "admin/routing/coverage.html", {**self._frame(request), **context})

    def next_week_view(self, request: HttpRequest) -> HttpResponse:
        self._allowed(request)
        prices, sums = coverage.prices_soon()
        context = {
            "title": f"What changes in the next {coverage.DAYS} days",
            "lists": coverage.lists_soon(),
            "prices": [(one, amount(one.amount)) for one in prices],
            "sums": sums,
            "most": coverage.MOST,
            "cut": len(prices) == coverage.MOST,
            "waiting": coverage.waiting_soon(),
        }
        return TemplateResponse(request, "admin/routing/next_week.html", {**self._frame(request), **context})

    def export_view(self, request: HttpRequest, pk: int) -> StreamingHttpResponse:
        self._allowed(request)
        book = get_object_or_404(PriceList.objects.select_related("provider"), pk=pk)
        name = slugify(f"{book.provider.slug}-{book.name}") or "prices"
        headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        return StreamingHttpResponse(exports.prices(book), content_type="text/csv; charset=utf-8", headers=headers)

    def _allowed(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _frame(self, request: HttpRequest) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts}


def _shown(cell: coverage.Cell) -> dict[str, Any]:
    low, high = amount(cell.cheapest), amount(cell.dearest)
    return {
        "span": low if low == high else f"{low} – {high}",  # noqa: RUF001  a span of numbers
        "currency": cell.currency,
        "prices": cell.prices,
        "best": cell.best,
    }
