"""Attempts, receipts and events as they were written."""

import uuid
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from messaging.admin import timeline
from messaging.admin.filters import Since
from messaging.models import Attempt, Event, Receipt
from providers.pages import LongList, ReadOnly, badge


def link(message_id: Any) -> SafeString:
    url = reverse("admin:messaging_message_change", args=[message_id])
    return format_html(
        '<a class="font-medium text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, message_id
    )


def as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


class Log(ReadOnly, LongList):
    """Search by indexed columns only: `found_by` gives what a term stands for."""

    search_fields = ("pk",)  # without it there is no search box

    def found_by(self, queryset: Any, term: str) -> Any:
        raise NotImplementedError

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Model], search_term: str
    ) -> tuple[QuerySet[Model], bool]:
        term = search_term.strip()
        return (self.found_by(queryset, term) if term else queryset), False

    @admin.display(description="Status", ordering="status")
    def state(self, row: Any) -> SafeString:
        return badge(row.status)


@admin.register(Attempt)
class AttemptAdmin(Log):
    list_display = ("started_at", "message_link", "seq", "provider", "state", "error_code", "paid")
    list_filter = (Since, ("status", ChoicesDropdownFilter), ("provider", RelatedDropdownFilter))
    list_select_related = ("provider",)
    search_help_text = "Id of the attempt or its message, our reference, or the provider's reference"
    fields = (
        "message_link",
        "seq",
        "provider",
        "state",
        "error_code",
        "error_detail",
        "our_reference",
        "provider_reference",
        "sender",
        "segments",
        "price",
        "cost",
        "currency",
        "started_at",
        "finished_at",
        "receipt_status",
        "receipt_at",
        "resolve_at",
        "not_found",
    )
    readonly_fields = ("message_link", "state")

    def found_by(self, queryset: Any, term: str) -> Any:
        terms: list[dict[str, Any]] = [{"provider_reference": term}]
        if wanted := as_uuid(term):
            terms += [{"pk": wanted}, {"our_reference": wanted}, {"message_id": wanted}]
        # One look-up after the other: joined by OR the planner may prefer to walk the whole table.
        return queryset.filter(
            pk__in=[pk for by in terms for pk in Attempt.objects.filter(**by).values_list("pk", flat=True)[:200]]
        )

    @admin.display(description="Cost")
    def paid(self, row: Attempt) -> str:
        return timeline.cost(row)

    @admin.display(description="Message")
    def message_link(self, row: Attempt) -> SafeString:
        return link(row.message_id)


@admin.register(Receipt)
class ReceiptAdmin(Log):
    list_display = ("received_at", "message_link", "provider", "state", "provider_status", "error_code", "applied_at")
    list_filter = (("provider", RelatedDropdownFilter),)
    list_select_related = ("provider", "attempt")
    search_help_text = "Id of the attempt or its message"
    fields = (
        "message_link",
        "provider",
        "state",
        "provider_status",
        "error_code",
        "opted_out",
        "our_reference",
        "provider_reference",
        "cost",
        "currency",
        "segments",
        "occurred_at",
        "received_at",
        "applied_at",
        "tries",
        "raw",
    )
    readonly_fields = ("message_link", "state")

    def found_by(self, queryset: Any, term: str) -> Any:
        if not (wanted := as_uuid(term)):
            return queryset.none()
        attempts = Attempt.objects.filter(message_id=wanted).values_list("pk", flat=True)
        return queryset.filter(attempt_id__in=[wanted, *attempts])

    @admin.display(description="Message")
    def message_link(self, row: Receipt) -> SafeString | str:
        return link(row.attempt.message_id) if row.attempt else "none yet"


@admin.register(Event)
class EventAdmin(Log):
    list_display = ("created_at", "type", "subject", "sequence", "client", "published_at", "refused")
    list_filter = (("refusal", admin.EmptyFieldListFilter),)
    list_select_related = ("client",)
    search_help_text = "The subject: a message's id or a provider's slug"

    def found_by(self, queryset: Any, term: str) -> Any:
        return queryset.filter(subject=term)

    @admin.display(description="Kafka's refusal")
    def refused(self, row: Event) -> SafeString | str:
        return badge(row.refusal, "danger") if row.refusal else ""
