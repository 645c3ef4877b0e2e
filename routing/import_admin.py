"""Imports of price lists as one guided page: upload, mapping, changes, approval, in force, roll back."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from providers.pages import LongList, badge, change_url
from routing import import_pages
from routing.exports import CHUNK, as_csv
from routing.forms import FormForm, MappingForm, SubmitForm, UploadForm
from routing.import_models import PriceImport, PriceMapping
from routing.imports import flow
from routing.imports.errors import Refused
from routing.imports.mapping import COLUMNS, Mapping

Status = PriceImport.Status
COLOURS: dict[str, str] = {
    Status.UPLOADED: "info", Status.MAPPING: "warning", Status.READING: "info", Status.READY: "warning",
    Status.WRITING: "info", Status.SUBMITTED: "warning", Status.APPLIED: "success", Status.ROLLED_BACK: "danger",
    Status.FAILED: "danger",
}  # fmt: skip


@admin.register(PriceImport)
class PriceImportAdmin(LongList):
    list_display = ("name", "provider", "state", "extent", "effective_at", "uploaded_by", "created_at")
    list_filter = (("provider", RelatedDropdownFilter), ("status", ChoicesDropdownFilter))
    list_select_related = ("provider", "uploaded_by")
    search_fields = ("file_name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceImport]:
        return super().get_queryset(request).defer("head", "mapping")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # who changed which price when: it is cancelled or rolled back instead

    def has_approve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routing.approve_pricelist")

    def get_urls(self) -> list[URLPattern]:
        def wrap(view: Callable[..., Any]) -> Any:
            return self.admin_site.admin_view(view)

        return [
            path("<int:pk>/progress/", wrap(self.progress_view), name="routing_priceimport_progress"),
            path("<int:pk>/left-out.csv", wrap(self.left_out_view), name="routing_priceimport_left_out"),
            path("<int:pk>/<slug:verb>/now/", wrap(self.act_view), name="routing_priceimport_act"),
            *super().get_urls(),
        ]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = UploadForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            given = form.cleaned_data
            try:
                found = flow.upload(
                    provider=given["provider"],
                    name=given["file"].name,
                    content=given["file"].read(),
                    user=request.user,
                    partial=given["extent"] == "partial",
                    mapping=Mapping.from_json(given["saved"].mapping) if given["saved"] else None,
                )
            except Refused as error:
                form.add_error("file", str(error))
            else:
                self.log_addition(request, found, "Uploaded.")
                return HttpResponseRedirect(change_url(self, found))
        context = {
            **self._frame(request),
            "title": "Upload a price list",
            "form": form,
            "steps": import_pages.steps(None),
        }
        return TemplateResponse(request, "admin/routing/upload.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        found = self._import(request, int(object_id) if object_id.isdecimal() else 0)
        return self._page(request, found)

    def _page(self, request: HttpRequest, found: PriceImport, **forms: Any) -> HttpResponse:
        status = found.status
        may_work = self.has_change_permission(request, found)
        context = {
            **self._frame(request),
            "title": f"{found.file_name} for {found.provider}",
            "found": found,
            "badge": self.state(found),
            "steps": import_pages.steps(found),
            "facts": import_pages.facts(found),
            "may_work": may_work,
            "may_approve": self.has_approve_permission(request),
            "bound": import_pages.bound(request.user, found),
            "stale": import_pages.stale(found),
            "coming": import_pages.coming(found),
            "sees_lists": request.user.has_perm("routing.view_pricelist"),
            "progress": import_pages.progress(found),
        }
        if status in (Status.MAPPING, Status.FAILED, Status.READY) and found.head.get("columns"):
            known = Mapping.from_json(found.mapping)
            # When its changes are there, they come first, and the mapping is folded away below them.
            name = "remap_form" if status == Status.READY else "mapping_form"
            context[name] = forms.get("mapping_form") or MappingForm(found)
            context["form_form"] = forms.get("form_form") or FormForm(initial=known.to_json())
            context["written"] = import_pages.written(known)
            context["sample"] = {"headers": found.head["columns"], "rows": found.head["rows"]}
        if found.counts:
            context |= import_pages.changes(found, request.GET)
        if status == Status.APPLIED:
            context["after_roll_back"] = import_pages.after_roll_back(found)
        if status == Status.READY:
            context["submit_form"] = forms.get("submit_form") or SubmitForm(found)
        return TemplateResponse(request, "admin/routing/import.html", context)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A fragment that the page asks for each second; when the step is done the page is asked for anew."""
        found = self._import(request, pk)
        context = {"found": found, "progress": import_pages.progress(found)}
        answer = TemplateResponse(request, "admin/routing/progress.fragment.html", context)
        if found.status not in PriceImport.WORK:
            answer.headers["HX-Refresh"] = "true"
        return answer

    def act_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        found = self._import(request, pk)
        act = {
            "map": self._map, "look-again": self._look_again, "compare-again": self._compare_again,
            "submit": self._submit, "cancel": self._cancel,
        }.get(verb)  # fmt: skip
        decide = {"approve": self._approve, "reject": self._reject, "roll-back": self._roll_back}.get(verb)
        allowed = self.has_change_permission(request, found) if act else self.has_approve_permission(request)
        if request.method != "POST" or not (act or decide) or not allowed:
            raise PermissionDenied
        try:
            page = (act or decide)(request, found)  # type: ignore[misc]
        except Refused as error:
            messages.error(request, str(error))
        else:
            if page:
                return page
            self.log_change(request, found, f"{verb.replace('-', ' ').capitalize()}.")
        return HttpResponseRedirect(change_url(self, found))

    def _map(self, request: HttpRequest, found: PriceImport) -> HttpResponse | None:
        form = MappingForm(found, request.POST)
        if not form.is_valid():
            return self._page(request, found, mapping_form=form)
        flow.choose_mapping(
            found.pk,
            form.mapping(),
            user=request.user,
            partial=form.cleaned_data["extent"] == "partial",
            effective_at=form.effective,
            outlier_percent=form.cleaned_data["outlier_percent"],
        )
        form.save_mapping(found.provider)
        return None

    def _look_again(self, request: HttpRequest, found: PriceImport) -> HttpResponse | None:
        form = FormForm(request.POST)
        if not form.is_valid():
            return self._page(request, found, form_form=form)
        flow.look_again(found.pk, form.form(Mapping.from_json(found.mapping).kind), user=request.user)
        return None

    def _compare_again(self, request: HttpRequest, found: PriceImport) -> None:
        flow.compare_again(found.pk)

    def _submit(self, request: HttpRequest, found: PriceImport) -> HttpResponse | None:
        form = SubmitForm(found, request.POST)
        form.is_valid()
        flow.submit(found.pk, user=request.user, accepted=form.accepted)
        messages.success(request, "The list is being written; then another person may approve it.")
        return None

    def _cancel(self, request: HttpRequest, found: PriceImport) -> None:
        flow.cancel(found.pk, user=request.user)

    def _approve(self, request: HttpRequest, found: PriceImport) -> None:
        book = request.POST.get("book", "")
        done = flow.approve(found.pk, user=request.user, book=int(book) if book.isdecimal() else 0)
        messages.success(request, f"Approved: in force {import_pages.when(done)}.")

    def _reject(self, request: HttpRequest, found: PriceImport) -> None:
        flow.reject(found.pk, user=request.user, reason=request.POST.get("reason", "").strip())
        messages.success(request, "It is sent back.")

    def _roll_back(self, request: HttpRequest, found: PriceImport) -> None:
        done = import_pages.after_roll_back(found)
        flow.roll_back(found.pk, user=request.user)
        messages.success(request, f"Rolled back. {done}")

    def left_out_view(self, request: HttpRequest, pk: int) -> StreamingHttpResponse:
        """What was not taken, as a file for whoever made the list."""
        found = self._import(request, pk)
        columns = ("line", "kind", "column", "value", "reason")
        rows = found.left_out.order_by("kind", "line").values_list(*columns).iterator(chunk_size=CHUNK)
        return StreamingHttpResponse(
            as_csv(columns, rows),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="left-out-{found.pk}.csv"'},
        )

    def _import(self, request: HttpRequest, pk: int) -> PriceImport:
        found = get_object_or_404(PriceImport.objects.select_related("provider", "uploaded_by", "decided_by"), pk=pk)
        if not self.has_view_permission(request, found):
            raise PermissionDenied
        return found

    def _frame(self, request: HttpRequest) -> dict[str, Any]:
        back = reverse("admin:routing_priceimport_changelist")
        return {**self.admin_site.each_context(request), "opts": self.opts, "back": back}

    @admin.display(description="File")
    def name(self, found: PriceImport) -> str:
        return found.file_name

    @admin.display(description="State")
    def state(self, found: PriceImport) -> SafeString:
        return badge(found.get_status_display().lower(), COLOURS.get(found.status, ""))

    @admin.display(description="Extent")
    def extent(self, found: PriceImport) -> str:
        return "some changes" if found.partial else "the whole list"


@admin.register(PriceMapping)
class PriceMappingAdmin(ModelAdmin):
    """Made on the page of an import; here it gets another name, or goes."""

    list_display = ("name", "provider", "created_at")
    list_filter = (("provider", RelatedDropdownFilter),)
    list_select_related = ("provider",)
    search_fields = ("name",)
    fields = ("name", "provider", "meaning")
    readonly_fields = ("meaning",)
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.display(description="Columns")
    def meaning(self, row: PriceMapping) -> str:
        known = Mapping.from_json(row.mapping)
        columns = [f"{label}: {name}" for field, (label, _) in COLUMNS.items() if (name := getattr(known, field))]
        return "; ".join([*columns, import_pages.written(known)])
