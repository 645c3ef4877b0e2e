"""The frame around all pages: navigation by permission, and what needs a person."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from messaging import outbox
from messaging.admin import dashboard as figures
from messaging.models import DeadLetter, Message
from messaging.states import Status
from messaging.webhook_models import FAILING, GONE
from messaging.webhooks import figures as webhooks
from providers.models import Provider, ProviderHealth

admin.site.index_title = "Home"

LATE = 30  # seconds: an event that has waited for longer waits for somebody
COUNTED = 1000  # more than that is "1000+": the page costs the same on a full table

#: Group, and its entries: name, icon, the model that one must be allowed to see, and a page other than its list.
#: Apps above this one add their own groups.
GROUPS: list[tuple[str, list[tuple[str, ...]]]] = [
    (
        "Messages",
        [
            ("Messages", "sms", "messaging.message"),
            ("Attempts", "send", "messaging.attempt"),
            ("Receipts", "receipt_long", "messaging.receipt"),
            ("Events", "bolt", "messaging.event"),
            ("Dead letters", "unsubscribe", "messaging.deadletter"),
            ("Relays and bridges", "sync_alt", "messaging.kafkaprocess"),
            ("Templates", "description", "messaging.template"),
            ("Suppressions", "block", "messaging.suppression"),
        ],
    ),
    (
        "Webhooks",
        [
            ("Endpoints", "webhook", "messaging.webhookendpoint"),
            ("Deliveries", "outbox", "messaging.webhookdelivery"),
        ],
    ),
    (
        "Limits and fraud",
        [
            ("Country rules", "public", "verification.countryrule"),
            ("Blocks", "gpp_bad", "verification.block"),
            ("Trusted numbers", "verified_user", "verification.trustednumber"),
            ("Refusals", "do_not_disturb_on", "verification.refused"),
            ("Counters", "speed", "verification.bucket"),
        ],
    ),
    ("Clients", [("Clients", "hub", "messaging.client"), ("API keys", "key", "messaging.apikey")]),
    ("Providers", [("Providers", "cell_tower", "providers.provider")]),
    (
        "Prices",
        [
            ("Price lists", "menu_book", "routing.pricelist"),
            ("Imports", "upload_file", "routing.priceimport"),
            ("Coverage", "public", "routing.pricelist", "admin:routing_coverage"),
            ("Next week", "event_upcoming", "routing.pricelist", "admin:routing_next_week"),
            ("Prices", "sell", "routing.price"),
            ("Exchange rates", "currency_exchange", "routing.exchangerate"),
            ("Mappings", "schema", "routing.pricemapping"),
        ],
    ),
    (
        "Routing",
        [
            ("Explain", "alt_route", "routing.price", "admin:messaging_explain"),
            ("Routing rules", "rule", "routing.rule"),
            ("Sender registrations", "badge", "routing.senderregistration"),
            ("Networks", "lan", "routing.network"),
            ("Network prefixes", "dialpad", "routing.networkprefix"),
        ],
    ),
    ("Staff", [("Users", "person", "auth.user"), ("Groups", "group", "auth.group")]),
]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: groups with what this person may see."""
    found: list[dict[str, Any]] = [
        {"title": "", "items": [{"title": "Home", "icon": "home", "link": reverse("admin:index")}]}
    ]
    for title, entries in GROUPS:
        items: list[dict[str, Any]] = [
            {"title": name, "icon": icon, "link": reverse(view[0]) if view else _list(model)}
            for name, icon, model, *view in entries
            if _may_view(request, model)
        ]
        if items:
            found.append({"title": title, "separator": True, "items": items})
    # A page may lie below the list of its model: the closest entry alone is where one is.
    shown = [item for group in found[1:] for item in group["items"]]
    here = max((item["link"] for item in shown if request.path.startswith(item["link"])), key=len, default="")
    for item in shown:
        item["active"] = item["link"] == here
    return found


def favicon(request: HttpRequest) -> str:
    return static("messaging/favicon.svg")


def stylesheet(request: HttpRequest) -> str:
    return static("messaging/admin.css")


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Bounded counts, and figures that cost the same however many messages there are."""
    cards = []
    if _may_view(request, "messaging.message"):
        for status, text in (
            (Status.HELD, "May have gone out and nothing can tell: a person decides."),
            (Status.UNKNOWN, "May have gone out; the service is finding out."),
        ):
            count = Message.objects.filter(status=status)[: COUNTED + 1].count()
            cards.append(_card(status.value, count, text, f"{_list('messaging.message')}?status={status}&since=all"))
    cards += _webhook_cards(request)
    if settings.KAFKA_BOOTSTRAP_SERVERS:
        cards += _kafka_cards(request)
    if _may_view(request, "providers.provider"):
        # Few rows by nature: a breaker per provider and country.
        opened = ProviderHealth.objects.exclude(state=ProviderHealth.State.CLOSED)
        down = opened.aggregate(count=Count("provider", distinct=True))["count"]
        cards.append(
            _card("open breakers", down, "Providers that are left alone at the moment.", _list("providers.provider"))
        )
        disabled = Provider.objects.filter(enabled=False).count()
        cards.append(
            _card(
                "disabled",
                disabled,
                "Providers switched off by staff.",
                f"{_list('providers.provider')}?enabled__exact=0",
            )
        )
    return {
        **context,
        **_figures(request),
        "cards": cards,
        "link_groups": [{"title": group["title"], "entries": group["items"]} for group in navigation(request)[1:]],
    }


def _figures(request: HttpRequest) -> dict[str, Any]:
    now = datetime.now(UTC)
    found = figures.messages(now) if _may_view(request, "messaging.message") else {}
    if _may_view(request, "providers.provider"):
        found["providers"] = figures.providers(now, found.get("spans"))
    if _may_view(request, "messaging.attempt"):  # which tells what each has cost
        found["costs"] = figures.money(now)
    return {"figures": found}


def _webhook_cards(request: HttpRequest) -> list[dict[str, Any]]:
    """Only where somebody should look: what the client or staff have switched off is as it should be."""
    if not _may_view(request, "messaging.webhookendpoint"):
        return []
    disabled = webhooks.disabled()
    count = disabled[GONE] + disabled[FAILING]
    text = "Webhook endpoints that were disabled because they are gone or failed for days."
    return [_card("lost endpoints", count, text, f"{_list('messaging.webhookendpoint')}?health=lost")] if count else []


def _kafka_cards(request: HttpRequest) -> list[dict[str, Any]]:
    cards = []
    if _may_view(request, "messaging.event"):
        late = outbox.lag()
        text = f"Not in Kafka yet, the oldest for {late.seconds:.0f} s."
        card = _card("events waiting", late.events, text, _list("messaging.event"))
        cards.append({**card, "alarm": late.seconds > LATE})
    if _may_view(request, "messaging.deadletter"):
        count = DeadLetter.objects.filter(replayed_at=None)[: COUNTED + 1].count()
        link = f"{_list('messaging.deadletter')}?replayed_at__isempty=1"
        cards.append(_card("dead letters", count, "Commands from Kafka that were not carried out.", link))
    return cards


def _card(title: str, count: int, text: str, link: str) -> dict[str, Any]:
    shown = f"{COUNTED}+" if count > COUNTED else str(count)
    return {"title": title, "count": shown, "text": text, "link": link, "alarm": count > 0}


def _list(model: str) -> str:
    return reverse(f"admin:{model.replace('.', '_')}_changelist")


def _may_view(request: HttpRequest, model: str) -> bool:
    app, name = model.split(".")
    user = request.user
    return admin.site.has_permission(request) and any(
        user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change")
    )
