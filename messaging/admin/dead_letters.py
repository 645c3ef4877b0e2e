"""Commands from Kafka that were not carried out, and their second chance.

What such a record says is shown to nobody: it may hold a number, a text or a code, whoever may see which of them.
"""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import action

from messaging import commands
from messaging.admin.logs import Log
from messaging.errors import Refusal
from messaging.models import DeadLetter
from providers.pages import badge, change_url, confirmed


@admin.register(DeadLetter)
class DeadLetterAdmin(Log):
    list_display = ("received_at", "reason", "client", "state", "topic", "partition", "offset")
    list_filter = (("replayed_at", admin.EmptyFieldListFilter), "reason", ("client", RelatedDropdownFilter))
    list_select_related = ("client",)
    search_help_text = "The partition and the offset: 3/1024"
    actions_detail = ("replay",)
    fields = (
        "state",
        "reason",
        "detail",
        "client",
        "topic",
        "partition",
        "offset",
        "produced_at",
        "received_at",
        "published_at",
        "refusal",
        "replayed_at",
        "content",
    )
    readonly_fields = ("state", "content")

    def found_by(self, queryset: Any, term: str) -> Any:
        partition, _, offset = term.partition("/")
        if not (partition.isdecimal() and offset.isdecimal()):
            return queryset.none()
        place = {"partition": min(int(partition), 2**31 - 1), "offset": min(int(offset), 2**63 - 1)}
        return queryset.filter(topic=settings.KAFKA_COMMANDS_TOPIC, **place)

    def has_replay_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("messaging.change_deadletter")

    @action(description="Replay", permissions=["replay"])
    def replay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        letter = get_object_or_404(DeadLetter, pk=object_id)
        text = "It is carried out as if it came now. One whose id was carried out meanwhile changes nothing."
        page = confirmed(request, self, letter, title=f"Replay {letter}?", text=text, button="Replay")
        if page:
            return page
        try:
            commands.replay(letter)
        except Refusal as refusal:
            messages.error(request, f"It is refused again: {refusal.code}. {refusal.title}.")
        else:
            self.log_change(request, letter, "Replayed.")
            messages.success(request, "It was carried out.")
        return HttpResponseRedirect(change_url(self, letter))

    @admin.display(description="State")
    def state(self, letter: DeadLetter) -> SafeString:
        return badge("replayed", "success") if letter.replayed_at else badge("buried", "warning")

    @admin.display(description="Content")
    def content(self, letter: DeadLetter) -> str:
        return "no value" if letter.raw is None else f"{len(letter.raw)} bytes{' kept' if letter.truncated else ''}"
