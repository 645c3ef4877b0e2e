"""Messages: found fast, never changed, told as a story. Held ones wait here for a person."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from messaging import staff
from messaging.admin import explain, timeline
from messaging.admin.filters import Country, Since, TriedBy
from messaging.admin.logs import as_uuid
from messaging.models import Attempt, Message
from messaging.states import MessageClass, Status
from providers.pages import LongList, ReadOnly, badge, change_url, confirmed
from routing import numbers

DECIDE = "messaging.decide_held"
FOUND = 200  # rows that a search shows at most
#: Label and address of a page that a message belongs to. Apps above this one add theirs.
LINKS: list[Callable[[Message], tuple[str, str] | None]] = [explain.link]


@dataclass(frozen=True)
class Verb:
    """What staff may do with a held message."""

    name: str
    label: str
    text: str
    act: Callable[[Collection[UUID]], set[UUID]]
    done: str
    danger: bool = False


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "send-again",
            "Send again",
            "It goes out by the cheapest provider that works and has not refused it. If the first attempt arrived as "
            "well, the person gets it twice; it is marked as a possible duplicate. Not possible once its validity is "
            "over.",
            staff.send_again,
            "is queued again",
            danger=True,
        ),
        Verb(
            "confirm-sent",
            "Confirm as sent",
            "Use this when the provider has told you that it has the message. Its receipt is awaited as usual.",
            staff.confirm_sent,
            "counts as sent",
        ),
        Verb(
            "close-as-failed",
            "Close as failed",
            "It is not sent again, and its client is told that it failed. It may have gone out all the same, so it is "
            "marked as a possible duplicate.",
            staff.close_as_failed,
            "is closed as failed",
            danger=True,
        ),
    )
}


@admin.register(Message)
class MessageAdmin(ReadOnly, LongList):
    list_filter = (
        Since,
        ("status", ChoicesDropdownFilter),
        ("message_class", ChoicesDropdownFilter),
        Country,
        ("client", RelatedDropdownFilter),
        TriedBy,
    )
    list_select_related = ("client",)
    search_fields = ("pk",)  # without it there is no search box
    search_help_text = "Id, the client's reference, or the whole number in E.164 form"

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        number = "to" if request.user.has_perm("messaging.view_full_number") else "masked"
        return ("created", number, "state", "message_class", "country", "client", "way", "reference", "error_code")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        attempts = (
            Attempt.objects.select_related("provider").order_by("seq").only("message_id", "provider__slug", "status")
        )
        # A list has no use for texts; a page of them is the larger part of its bytes.
        return super().get_queryset(request).defer("text", "decision").prefetch_related(Prefetch("attempts", attempts))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Message], search_term: str
    ) -> tuple[QuerySet[Message], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        # One look-up after the other: joined by OR the planner may prefer to walk the whole table.
        ids = list(Message.objects.filter(reference=term).values_list("pk", flat=True)[:FOUND])
        if wanted := as_uuid(term):
            ids.append(wanted)
        try:
            number = numbers.parse(term)
        except numbers.InvalidNumber:
            pass
        else:
            ids += Message.objects.filter(to=number.msisdn).order_by("-pk").values_list("pk", flat=True)[:FOUND]
        return queryset.filter(pk__in=ids), False

    def get_urls(self) -> list[URLPattern]:
        decide = self.admin_site.admin_view(self.decide_view)
        explained = self.admin_site.admin_view(explain.explain_view)
        return [
            path("explain/", explained, name="messaging_explain"),
            path("<uuid:message_id>/decide/<slug:verb>/", decide, name="messaging_message_decide"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        message = self._get(request, as_uuid(object_id))
        full = request.user.has_perm("messaging.view_full_number")
        number = message.to if full else numbers.mask(message.to)
        decides = message.status == Status.HELD and request.user.has_perm(DECIDE)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Message to {number}",
            "opts": self.opts,
            "original": message,
            "number": number,
            "text": self._text(request, message),
            "status": badge(message.status),
            "entries": timeline.build(message),
            "verbs": [
                (verb, reverse("admin:messaging_message_decide", args=[message.pk, verb.name]))
                for verb in VERBS.values()
                if decides
            ],
            "links": [found for link in LINKS if (found := link(message))],
            "attempts_url": f"{reverse('admin:messaging_attempt_changelist')}?q={message.pk}",
            "receipts_url": f"{reverse('admin:messaging_receipt_changelist')}?q={message.pk}",
            "history_url": reverse("admin:messaging_message_history", args=[message.pk]),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/messaging/message.html", context)

    def decide_view(self, request: HttpRequest, message_id: UUID, verb: str) -> HttpResponse:
        message = self._get(request, message_id)
        wish = VERBS.get(verb)
        if wish is None:
            raise Http404
        if not request.user.has_perm(DECIDE):
            raise PermissionDenied
        back = HttpResponseRedirect(change_url(self, message))
        if message.status != Status.HELD:
            messages.error(request, f"It is {message.status} now, no longer held.")
            return back
        page = confirmed(
            request, self, message, title=f"{wish.label}?", text=wish.text, button=wish.label, danger=wish.danger
        )
        if page:
            return page
        with transaction.atomic():
            moved = wish.act({message.pk})
            if moved:
                self.log_change(request, message, f"{wish.label}.")
        if moved:
            messages.success(request, f"The message {wish.done}.")
        else:
            messages.error(request, "Nothing was changed: it is no longer held, or its validity is over.")
        return back

    def _get(self, request: HttpRequest, message_id: UUID | None) -> Message:
        found = Message.objects.select_related("client").filter(pk=message_id).first() if message_id else None
        if found is None:
            raise Http404
        if not self.has_view_permission(request, found):
            raise PermissionDenied
        return found

    def _text(self, request: HttpRequest, message: Message) -> str | None:
        """None where this person may not see it. A one-time code is for its receiver alone."""
        if message.message_class == MessageClass.OTP or not request.user.has_perm("messaging.view_text"):
            return None
        return message.text

    @admin.display(description="Accepted (UTC)", ordering="pk")
    def created(self, message: Message) -> str:
        return f"{message.created_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="To")
    def masked(self, message: Message) -> str:
        return numbers.mask(message.to)

    @admin.display(description="Status")
    def state(self, message: Message) -> SafeString:
        return badge(message.status)

    @admin.display(description="Providers")
    def way(self, message: Message) -> str:
        tried = [attempt.provider.slug for attempt in message.attempts.all()]
        return " → ".join(tried if len(tried) <= 3 else [*tried[:1], "…", *tried[-2:]])
