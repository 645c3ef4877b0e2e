"""Where clients' events go: endpoints with their health, deliveries, every attempt; what staff do with them.

A secret is on one page, once: the answer to the form that made it.
"""

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RelatedDropdownFilter
from unfold.decorators import action
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from messaging import tasks
from messaging.admin.dashboard import NOTHING
from messaging.admin.logs import Log, as_uuid
from messaging.clients import as_caller
from messaging.errors import IdempotencyMismatch, Refusal
from messaging.idempotency import Answer
from messaging.models import Client
from messaging.states import EVENTS
from messaging.webhook_models import (
    BY_STAFF,
    DELIVERED,
    FAILED,
    FAILING,
    GONE,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from messaging.webhooks import drafts, endpoints, replays, signatures
from providers.pages import ReadOnly, asked, badge, change_url, confirmed

SHOWN = 20  # attempts on the page of an endpoint
SHOWN_BEFORE = "This page was sent before: the secret was shown then. If nobody has it, rotate it."
COLOURS = {"working": "success", "failing": "warning", "new": "info", "pending": "info", DELIVERED: "success"}
ADD, CHANGE, DELETE = (f"messaging.{verb}_webhookendpoint" for verb in ("add", "change", "delete"))
LIST = "admin:messaging_webhookendpoint"


class Health(DropdownFilter):
    title = "health"
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("failing", "failing"), ("lost", "disabled: gone or failing"), ("disabled", "disabled")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        found = {
            "failing": Q(enabled=True, failing_since__isnull=False),
            "lost": Q(enabled=False, disabled_reason__in=(GONE, FAILING)),
            "disabled": Q(enabled=False),
        }
        return queryset.filter(found.get(self.value() or "", Q()))


class AskingForm(forms.Form):
    """What it asks for is read by the reader of the API, whose words it shows."""

    def asked(self) -> dict[str, Any]:
        """As the body of a call."""
        return {name: value for name, value in self.cleaned_data.items() if name not in ("key", "client")}

    def told(self, refusal: Refusal) -> None:
        for error in refusal.errors:
            self.add_error(error.field if error.field in self.fields else None, error.message)
        if not refusal.errors:
            self.add_error(None, f"{refusal.title}. {refusal.detail}")


class OnceForm(AskingForm):
    """A page that is sent twice acts once."""

    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    def idempotency_key(self) -> str:
        return f"admin-{self.cleaned_data['key']}"

    def told(self, refusal: Refusal) -> None:
        if isinstance(refusal, IdempotencyMismatch):
            # Back from the answer, in a page that the browser kept: with other values it is another request.
            data = cast(QueryDict, self.data).copy()
            data["key"] = str(uuid.uuid4())
            self.data = data
            self.add_error(None, "This page was sent before, with other values. Send it once more.")
            return
        super().told(refusal)


class EditForm(AskingForm):
    url = forms.CharField(
        label="URL",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="https://, without user name and fragment. Where its name leads is checked at every connection.",
    )
    events = forms.MultipleChoiceField(
        choices=[(word, word) for word in drafts.WANTED],
        required=False,
        initial=["*"],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="* stands for all.",
    )
    description = forms.CharField(required=False, widget=UnfoldAdminTextInputWidget, help_text="For people.")


class EndpointForm(OnceForm, EditForm):
    client = forms.ModelChoiceField(Client.objects.order_by("slug"), widget=UnfoldAdminSelectWidget)
    field_order = ("client",)


class RotateForm(OnceForm):
    overlap_seconds = forms.TypedChoiceField(
        label="The secret before",
        coerce=int,
        choices=[
            (0, "ends at once: it has leaked"),
            (3600, "signs as well for an hour"),
            (signatures.OVERLAP, "signs as well for a day"),
            (signatures.LONGEST_OVERLAP, "signs as well for a week"),
        ],
        initial=signatures.OVERLAP,
        widget=UnfoldAdminSelectWidget,
        help_text="Until then the receiver may be changed over at any moment.",
    )


class ReplayForm(forms.Form):
    since = forms.DateTimeField(
        widget=UnfoldAdminTextInputWidget({"type": "datetime-local"}),
        help_text="UTC. Every event from then on that the endpoint wants.",
    )
    failed_only = forms.BooleanField(
        required=False,
        initial=True,
        label="Only what failed",
        widget=UnfoldBooleanSwitchWidget,
        help_text="Only what was given up or never tried; else all of it arrives once more.",
    )

    def clean_since(self) -> datetime:
        since: datetime = self.cleaned_data["since"]
        if since < datetime.now(UTC) - drafts.LONGEST_REPLAY:
            raise forms.ValidationError(f"At most {drafts.LONGEST_REPLAY.days} days ago.")
        return since


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnly):
    list_display = ("address", "client", "health", "wanted", "last_success_at", "last_error")
    list_filter = (Health, ("client", RelatedDropdownFilter))
    list_select_related = ("client",)
    search_fields = ("url", "client__slug", "description")
    search_help_text = "Address, client or description"
    ordering = ("client__slug", "id")
    actions_detail = ("edit", "send_test", "replay_since", "rotate_secret", "switch_off", "switch_on", "remove")
    fields = (
        *(
            "client",
            "address",
            "description",
            "wanted",
            "health",
            "failing_since",
            "last_success_at",
            "last_failure_at",
        ),
        *("last_error", "disabled_at", "created_at", "waiting", "running_replays", "attempt_table"),
    )
    readonly_fields = ("address", "health", "wanted", "waiting", "running_replays", "attempt_table")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        return super().get_queryset(request).filter(deleted_at=None)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        row = self.get_object(request, str(object_id))
        hidden = {"switch_on"} if row and row.enabled else {"send_test", "replay_since", "switch_off"}
        return [one for one in super().get_actions_detail(request, object_id) if one.method.__name__ not in hidden]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(ADD)

    def has_act_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm(CHANGE)

    def has_remove_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm(DELETE)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = EndpointForm(self._posted(request))

        def create() -> Answer:
            caller = as_caller(form.cleaned_data["client"])
            return endpoints.create(caller, form.asked(), idempotency_key=form.idempotency_key())

        page = {"title": "New webhook endpoint", "button": "Create", "back": reverse(f"{LIST}_changelist")}
        return self._shown_once(request, form, create, lambda row: self.log_addition(request, row, "Created."), page)

    @action(description="Edit", permissions=["act"])
    def edit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(self.get_queryset(request), pk=object_id)
        form = EditForm(self._posted(request), initial=endpoints.body(row))
        if form.is_valid():
            moved = f" {row.url} is {form.cleaned_data['url']} now." if "url" in form.changed_data else ""
            done = f"Changed {', '.join(form.changed_data) or 'nothing'}.{moved}"
            update = partial(endpoints.update, as_caller(row.client), row.pk, form.asked())
            try:
                with transaction.atomic():
                    return self._done(request, row, update, done)
            except Refusal as refusal:
                form.told(refusal)
        return asked(request, self, form, title=f"Edit {row.url}", button="Save", back=change_url(self, row))

    @action(description="Delete", permissions=["remove"])
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(self.get_queryset(request), pk=object_id)
        text = "Its secret is gone at once, and what waits for it is not sent. A new endpoint has another secret."
        page = confirmed(request, self, row, title=f"Delete {row.url}?", text=text, button="Delete", danger=True)
        if page:
            return page
        with transaction.atomic():
            endpoints.delete(as_caller(row.client), row.pk)
            self.log_deletions(request, [row])
        messages.success(request, f"Deleted {row.url}.")
        return HttpResponseRedirect(reverse(f"{LIST}_changelist"))

    @action(description="Rotate the secret", permissions=["act"])
    def rotate_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(self.get_queryset(request), pk=object_id)
        form = RotateForm(self._posted(request))

        def rotate() -> Answer:
            return endpoints.rotate(as_caller(row.client), row.pk, form.asked(), idempotency_key=form.idempotency_key())

        page = {"title": f"New secret of {row.url}", "button": "Rotate the secret", "back": change_url(self, row)}
        return self._shown_once(
            request, form, rotate, lambda row: self.log_change(request, row, "Rotated the secret."), page
        )

    def _shown_once(
        self,
        request: HttpRequest,
        form: OnceForm,
        act: Callable[[], Answer],
        log: Callable[[WebhookEndpoint], Any],
        page: dict[str, str],
    ) -> HttpResponse:
        if not form.is_valid():
            return asked(request, self, form, **page)
        try:
            with transaction.atomic():
                answer = act()
                row = WebhookEndpoint.objects.get(pk=answer.body["id"])
                if not answer.replayed:
                    log(row)
        except Refusal as refusal:
            form.told(refusal)
            return asked(request, self, form, **page)
        page = {"title": page["title"], "back": change_url(self, row)}
        if answer.replayed:
            return asked(request, self, None, text=SHOWN_BEFORE, **page)
        text = "This secret is shown now and never again. The receiver verifies signatures with it: copy it to there."
        return asked(request, self, None, text=text, secret=answer.body["secret"], **page)

    @action(description="Send a test", permissions=["act"])
    def send_test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(self.get_queryset(request), pk=object_id)
        text = "It gets one event of the type webhook.test, signed like every other."
        page = confirmed(request, self, row, title=f"Send a test to {row.url}?", text=text, button="Send a test")
        return page or self._done(request, row, lambda: endpoints.test(row), "Sent a test.")

    @action(description="Replay", permissions=["act"])
    def replay_since(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(self.get_queryset(request), pk=object_id)
        begin = {"since": f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M}", "failed_only": True}
        form = ReplayForm(self._posted(request), initial=begin)
        if form.is_valid():
            given = form.cleaned_data
            if replays.since(row, given["since"], failed_only=given["failed_only"]):
                return self._done(request, row, lambda: None, f"Replayed since {given['since']:%Y-%m-%d %H:%M} UTC.")
            form.add_error(None, "Earlier replays of this endpoint are still running.")
        return asked(request, self, form, title=f"Replay to {row.url}", button="Replay", back=change_url(self, row))

    @action(description="Disable", permissions=["act"])
    def switch_off(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(self.get_queryset(request), pk=object_id)
        text = "It gets nothing until it is enabled again. What waits for it goes on then; the rest can be replayed."
        page = confirmed(request, self, row, title=f"Disable {row.url}?", text=text, button="Disable", danger=True)
        return page or self._done(request, row, lambda: endpoints.disable(row.pk, BY_STAFF), "Disabled.")

    @action(description="Enable", permissions=["act"])
    def switch_on(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(self.get_queryset(request), pk=object_id)
        text = "What waits for it goes on at once. What happened meanwhile can be replayed."
        page = confirmed(request, self, row, title=f"Enable {row.url}?", text=text, button="Enable")
        return page or self._done(request, row, lambda: endpoints.enable(row.pk), "Enabled.")

    @staticmethod
    def _posted(request: HttpRequest) -> QueryDict | None:
        return request.POST if request.method == "POST" else None

    def _done(self, request: HttpRequest, row: WebhookEndpoint, act: Any, done: str) -> HttpResponse:
        act()
        tasks.hint(EVENTS)
        self.log_change(request, row, done)
        messages.success(request, done)
        return HttpResponseRedirect(change_url(self, row))

    @admin.display(description="URL")
    def address(self, row: WebhookEndpoint) -> SafeString:
        return format_html('<span class="address">{}</span>', row.url)

    @admin.display(description="Health")
    def health(self, row: WebhookEndpoint) -> SafeString:
        if not row.enabled:
            return badge(f"disabled: {row.disabled_reason}", "danger")
        word = "failing" if row.failing_since else "working" if row.last_success_at else "new"
        return badge(word, COLOURS[word])

    @admin.display(description="Events")
    def wanted(self, row: WebhookEndpoint) -> str:
        return ", ".join(row.events)

    @admin.display(description="Waiting")
    def waiting(self, row: WebhookEndpoint) -> SafeString:
        count = row.deliveries.filter(status="pending")[:1001].count()
        url = reverse("admin:messaging_webhookdelivery_changelist")
        link = f"{url}?endpoint__id__exact={row.pk}&status__exact=pending"
        return _link(link, f"{'1000+' if count > 1000 else count} deliveries")

    @admin.display(description="Replays")
    def running_replays(self, row: WebhookEndpoint) -> str:
        found = row.replays.order_by("-id")[:3]
        told = [
            f"since {replay.since:%Y-%m-%d %H:%M} UTC: {replay.found} events{'' if replay.finished_at else ', running'}"
            for replay in found
        ]
        return "; ".join(told) or "none"

    @admin.display(description="Last attempts")
    def attempt_table(self, row: WebhookEndpoint) -> SafeString | str:
        found = WebhookAttempt.objects.filter(endpoint=row).select_related("delivery__event").order_by("-id")[:SHOWN]
        return attempt_table(found)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(Log):
    list_display = ("created_at", "event_type", "subject", "receiver", "state", "tries", "next_try", "finished_at")
    list_filter = (("status", ChoicesDropdownFilter), ("endpoint__client", RelatedDropdownFilter))
    list_select_related = ("event", "endpoint__client")
    search_help_text = "Id of event or endpoint, or the subject"
    actions_detail = ("replay",)
    fields = (
        *("event_id_", "event_type", "subject", "client", "endpoint_link", "state", "tries", "next_try", "created_at"),
        *("replayed_at", "finished_at", "attempt_table"),
    )
    readonly_fields = ("event_id_", "event_type", "subject", "client", "endpoint_link", "state", "next_try")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "attempt_table")

    def found_by(self, queryset: Any, term: str) -> Any:
        if wanted := as_uuid(term):
            for by in ({"event_id": wanted}, {"endpoint_id": wanted}):
                if WebhookDelivery.objects.filter(**by).exists():
                    return queryset.filter(**by)
        return queryset.filter(event__subject=term)

    def has_act_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm(CHANGE)

    @action(description="Send again", permissions=["act"])
    def replay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(WebhookDelivery.objects.select_related("endpoint", "event"), pk=object_id)
        text = "It begins anew with all its tries, under the same id: a receiver that keeps ids does nothing twice."
        page = confirmed(request, self, row, title=f"Send {row.event.type} again?", text=text, button="Send again")
        if page:
            return page
        if not row.endpoint.enabled:
            messages.error(request, "Its endpoint is disabled: enable that first.")
        else:
            replays.one(row.endpoint, row.event_id)
            tasks.hint(EVENTS)
            self.log_change(request, row, "Sent again.")
            messages.success(request, "It is sent again.")
        return HttpResponseRedirect(change_url(self, row))

    @admin.display(description="Event")
    def event_id_(self, row: WebhookDelivery) -> str:
        return str(row.event_id)

    @admin.display(description="Type")
    def event_type(self, row: WebhookDelivery) -> str:
        return row.event.type

    @admin.display(description="Subject")
    def subject(self, row: WebhookDelivery) -> str:
        return row.event.subject

    @admin.display(description="Client")
    def client(self, row: WebhookDelivery) -> str:
        return str(row.endpoint.client)

    @admin.display(description="Receiver")
    def receiver(self, row: WebhookDelivery) -> str:
        return urlsplit(row.endpoint.url).netloc

    @admin.display(description="Endpoint")
    def endpoint_link(self, row: WebhookDelivery) -> SafeString:
        return _link(reverse(f"{LIST}_change", args=[row.endpoint_id]), row.endpoint)

    @admin.display(description="Status")
    def state(self, row: WebhookDelivery) -> SafeString:
        return badge(row.status, COLOURS.get(row.status, "danger" if row.status == FAILED else ""))

    @admin.display(description="Next try")
    def next_try(self, row: WebhookDelivery) -> str:
        return f"{row.next_at:%Y-%m-%d %H:%M:%S}" if row.status == "pending" else NOTHING

    @admin.display(description="Attempts")
    def attempt_table(self, row: WebhookDelivery) -> SafeString | str:
        return attempt_table(row.attempts.select_related("delivery__event").order_by("-id")[:SHOWN])


def attempt_table(found: Iterable[WebhookAttempt]) -> SafeString | str:
    rows = [
        (
            f"{one.started_at:%Y-%m-%d %H:%M:%S} UTC",
            _link(reverse("admin:messaging_webhookdelivery_change", args=[one.delivery_id]), one.delivery.event.type),
            one.number,
            badge(one.error_code or "delivered", "danger" if one.error_code else "success"),
            f"{one.seconds * 1000:.0f} ms",
        )
        for one in found
    ]
    table = {"headers": ["Started", "Event", "Try", "Outcome", "Took"], "rows": rows}
    return SafeString(render_to_string("unfold/components/table.html", {"table": table})) if rows else "none"


def _link(url: str, text: Any) -> SafeString:
    return format_html('<a class="font-medium text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, text)
