"""What the admin pages of all apps share: logs that only show, lists that never count, a question or a form before
an action."""

from typing import Any

from django import forms
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from unfold import paginator
from unfold.admin import ModelAdmin

COLOURS = {
    "success": ("delivered", "accepted", "active", "closed", "enabled", "live", "verified"),
    "info": ("sent", "queued", "sending", "scheduled", "intent", "half_open", "draft", "pending", "proposed"),
    "warning": ("unknown", "held", "not_sent", "superseded"),
    "danger": (
        *("failed", "undelivered", "rejected", "expired", "locked"),
        *("open", "disabled", "revoked", "unreadable", "missing"),
    ),
}
COLOUR_OF = {word: colour for colour, words in COLOURS.items() for word in words}


class InfinitePaginator(paginator.InfinitePaginator):
    """Pages without COUNT(*); the last one there can be bounds how far OFFSET may be driven.

    Named as its base: unfold's header shows a number of results unless the paginator has this name.
    """

    LAST_PAGE = 1000

    @property
    def count(self) -> int:
        return int(self.per_page) * self.LAST_PAGE


class LongList(ModelAdmin):
    """A table of millions of rows: newest first, a page at a time, nothing selected at once."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = 50
    list_filter_submit = True
    actions = None
    show_facets = ShowFacets.NEVER  # they count every choice of every filter
    sortable_by = ()  # any other order would sort the whole table
    ordering: tuple[str, ...] = ("-pk",)


class ReadOnly(ModelAdmin):
    """Rows that are written by the service alone."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def badge(word: str, colour: str = "") -> SafeString:
    """A status as a coloured label."""
    context = {"text": word.replace("_", " "), "variant": colour or COLOUR_OF.get(word.partition(":")[0], "")}
    return mark_safe(render_to_string("unfold/helpers/label.html", context).strip())  # noqa: S308  the template escapes


def confirmed(
    request: HttpRequest, admin: ModelAdmin, row: Any, *, title: str, text: str, button: str, danger: bool = False
) -> HttpResponse | None:
    """None once the question was answered with yes (POST), else the page that asks it."""
    if request.method == "POST":
        return None
    context = {
        **admin.admin_site.each_context(request),
        "title": title,
        "text": text,
        "button": button,
        "variant": "danger" if danger else "primary",
        "opts": admin.opts,
        "back": change_url(admin, row),
    }
    return TemplateResponse(request, "admin/confirm.html", context)


def asked(
    request: HttpRequest,
    admin: ModelAdmin,
    form: forms.Form | None,
    *,
    title: str,
    back: str,
    button: str = "",
    text: str = "",
    secret: str = "",
) -> HttpResponse:
    """The page of a form, or without one what there is to say: a secret is in this answer alone, and kept nowhere."""
    context = {
        **admin.admin_site.each_context(request),
        "title": title,
        "form": form,
        "button": button,
        "text": text,
        "secret": secret,
        "opts": admin.opts,
        "back": back,
    }
    return TemplateResponse(request, "admin/form.html", context)


def change_url(admin: ModelAdmin, row: Any) -> str:
    return reverse(f"admin:{admin.opts.app_label}_{admin.opts.model_name}_change", args=[quote(row.pk)])
