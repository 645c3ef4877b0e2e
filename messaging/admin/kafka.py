"""Relays and bridges: who is there, what they do, what waits. From the database alone: Kafka is asked nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from messaging import heartbeats, outbox
from messaging.admin.dashboard import NOTHING, duration, number
from messaging.heartbeats import BRIDGE, RELAY, Word
from messaging.models import Event, KafkaProcess
from providers.pages import LongList, ReadOnly, badge

LATE = 30  # seconds: an event that has waited for longer waits for somebody
COLOURS = {"leads": "success", "reads": "success", "stands by": "info", "waits": "warning"}


@admin.register(KafkaProcess)
class KafkaProcessAdmin(ReadOnly, LongList):
    list_display = ("role", "state_now", "detail", "partitions_now", "commands", "heard", "host", "pid", "started_at")
    fields = readonly_fields = list_display
    list_before_template = "admin/messaging/kafka.html"
    ordering = ("-role", "state", "-seen_at")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        found = {"title": "Relays and bridges", "cards": _cards(heartbeats.words())}
        return super().changelist_view(request, {**found, **(extra_context or {})})

    @admin.display(description="State")
    def state_now(self, row: KafkaProcess) -> SafeString:
        if not heartbeats.alive(_age(row)):
            return badge("gone", "danger")
        return badge(row.state, COLOURS.get(row.state, ""))

    @admin.display(description="Partitions")
    def partitions_now(self, row: KafkaProcess) -> str:
        return ", ".join(map(str, row.partitions)) or NOTHING

    @admin.display(description="Commands waiting")
    def commands(self, row: KafkaProcess) -> str:
        return NOTHING if row.waiting is None else number(row.waiting)

    @admin.display(description="Heard of")
    def heard(self, row: KafkaProcess) -> str:
        return f"{duration(max(0.0, _age(row)))} ago"


def _age(row: KafkaProcess) -> float:
    return (datetime.now(UTC) - row.seen_at).total_seconds()


def _cards(words: Sequence[Word]) -> list[dict[str, Any]]:
    late = outbox.lag()
    alive = [word for word in words if word.alive]
    leaders = sum(word.role == RELAY and word.state == "leads" for word in alive)
    standing = sum(word.role == RELAY for word in alive) - leaders
    bridges = [word for word in alive if word.role == BRIDGE]
    waiting = heartbeats.waiting(bridges)
    oldest = f"Not in Kafka yet, the oldest for {duration(late.seconds)}." if late.events else "None waits for Kafka."
    events = reverse("admin:messaging_event_changelist")
    refused = Event.objects.exclude(refusal="")[: outbox.COUNTED + 1].count()
    found = [
        _card("relays lead", number(leaders), f"{standing} more stand by.", alarm=leaders != 1),
        _card(
            "events waiting",
            _count(late.events),
            oldest,
            link=events,
            alarm=late.seconds > LATE,
        ),
        _card("bridges", number(len(bridges)), "They share the partitions.", alarm=not bridges),
        _card(
            "commands waiting",
            "?" if waiting is None else number(waiting),
            "In the partitions of these bridges, by their own word.",
        ),
    ]
    if refused:
        text = "For good, as too large: they are in no topic, and the rest went on."
        found.append(_card("events refused", _count(refused), text, link=f"{events}?refusal__isempty=0", alarm=True))
    return found


def _count(count: int) -> str:
    return f"{outbox.COUNTED}+" if count > outbox.COUNTED else number(count)


def _card(title: str, count: str, text: str, *, link: str = "", alarm: bool = False) -> dict[str, Any]:
    return {"title": title, "count": count, "text": text, "link": link, "alarm": alarm}
