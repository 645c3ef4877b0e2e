"""The figures of the home page as tables, cards and a chart."""

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString

from messaging import figures
from messaging.figures import Costs, Span
from messaging.states import FINAL, MessageClass, Status
from providers.models import ProviderHealth

COLOURS = {
    Status.DELIVERED: "var(--color-green-500)",
    Status.UNDELIVERED: "var(--color-orange-500)",
    Status.FAILED: "var(--color-red-600)",
    Status.EXPIRED: "var(--color-base-500)",
    Status.CANCELLED: "var(--color-base-300)",
}
LABELS = {ProviderHealth.State.CLOSED: "success", ProviderHealth.State.HALF_OPEN: "warning"}
NOTHING = "-"
SHARES = (0.5, 0.95, 0.99)

Table = dict[str, Any]


def messages(now: datetime) -> dict[str, Any]:
    lanes, providers = figures.spans(now)
    return {"states": _states(), "lanes": _lanes(lanes), "chart": _chart(now), "spans": providers}


def _states() -> Table:
    """Open states first; the closed ones count from the beginning."""
    found = figures.states()
    body = []
    for status in (*(s for s in Status if s not in FINAL), *(s for s in Status if s in FINAL)):
        counts = [found[lane, status] for lane in MessageClass]
        body.append([status.capitalize(), *map(number, counts), number(sum(counts))])
    return {"headers": ["State", *MessageClass, "all"], "rows": body}


def _lanes(spans: dict[str, figures.Spans]) -> Table:
    waits = figures.waits()
    names = ["Longest wait, now", "Accepted", "Sent", "Delivery rate", "Delivery rate, 24 h"]
    names += [f"{what} within, {share:.0%}" for what in ("Sent", "Delivered") for share in SHARES]
    columns = []
    for lane in MessageClass:
        hour, day = spans[lane].hour, spans[lane].day
        cells = [duration(waits[lane] or None), number(hour.accepted), number(hour.sent), rate(hour), rate(day)]
        columns.append([*cells, *_shares(hour.submits), *_shares(hour.deliveries)])
    body = [[name, *cells] for name, *cells in zip(names, *columns, strict=True)]
    return {"headers": ["Last hour", *MessageClass], "rows": body}


def _shares(buckets: Counter[int]) -> list[str]:
    return [duration(figures.percentile(buckets, share)) for share in SHARES]


def _chart(now: datetime) -> dict[str, Any]:
    found = figures.hours(now)
    bars = [
        {
            "label": outcome.capitalize(),
            "data": [counts[outcome] for _, _, counts in found],
            "backgroundColor": COLOURS[outcome],
            "stack": "outcomes",
            "maxBarThickness": 28,
            "borderRadius": 0,
        }
        for outcome in figures.OUTCOMES
    ]
    line = {
        "label": "Accepted",
        "type": "line",
        "data": [accepted for _, accepted, _ in found],
        "borderColor": "var(--color-primary-600)",
        "displayYAxis": True,
        "maxTicksXLimit": 12,
    }
    labels = [hour.astimezone(UTC).strftime("%H:00") for hour, _, _ in found]
    return {
        "empty": not any(accepted or any(counts.values()) for _, accepted, counts in found),
        "data": json.dumps({"labels": labels, "datasets": [line, *bars]}),
        "legend": ["accepted", *figures.OUTCOMES],
    }


def providers(now: datetime, spans: dict[int, figures.Spans] | None) -> Table:
    """`spans` where one may see messages: who may not, sees the breakers alone."""
    found = figures.breakers()
    headers = ["Provider", "Breaker"]
    if spans is None:
        return {"headers": headers, "rows": [[p.slug, _breaker(p.enabled, state, c)] for p, state, c in found]}
    calls = figures.call_latencies(now)
    everything = sum(spans[provider.pk].day.sent for provider, _, _ in found if provider.pk in spans)
    body = []
    for provider, state, countries in found:
        mine = spans.get(provider.pk, figures.Spans())
        share = f"{mine.day.sent / everything:.0%}" if everything else NOTHING
        quick = calls.get(provider.pk, Counter())
        body.append(
            [
                provider.slug,
                _breaker(provider.enabled, state, countries),
                number(mine.day.sent),
                share,
                rate(mine.hour),
                rate(mine.day),
                f"{duration(figures.percentile(quick, 0.5))} / {duration(figures.percentile(quick, 0.95))}",
            ]
        )
    headers += ["Sent, 24 h", "Share", "Delivery rate, 1 h", "24 h", "Call, 1 h: 50 % / 95 %"]
    return {"headers": headers, "rows": body}


def _breaker(enabled: bool, state: str, countries: list[str]) -> SafeString:
    word, variant = (state.replace("_", " "), LABELS.get(state, "danger")) if enabled else ("disabled", "")  # type: ignore[call-overload]
    where = f"open in {', '.join(countries[:5])}{'…' if countries[5:] else ''}" if countries and enabled else ""
    return format_html('<span class="figure-state" data-colour="{}">{}</span> {}', variant, word, where)


def money(now: datetime) -> Table:
    found = figures.costs(now)
    body = [[currency, *_costs(cost)] for currency, cost in found.items()]
    together = figures.in_reporting(found, now)
    if len(found) > 1:
        name = f"All in {settings.REPORTING_CURRENCY}"
        body.append([name, *(_costs(together) if together else ["no exchange rate", *[NOTHING] * 3])])
    return {"headers": ["Currency", "Today", "Yesterday by now", "Change", "Yesterday"], "rows": body}


def _costs(cost: Costs) -> list[str]:
    change = f"{(cost.today - cost.so_far) / cost.so_far:+.0%}" if cost.so_far > 0 else NOTHING
    return [amount(cost.today), amount(cost.so_far), change, amount(cost.yesterday)]


# --- words ----------------------------------------------------------------------------------------


def number(value: int) -> str:
    return f"{value:,}"


def amount(value: Decimal) -> str:
    return f"{value:,.2f}"


def rate(span: Span) -> str:
    return NOTHING if span.delivery_rate is None else f"{span.delivery_rate:.1%}"


def duration(seconds: float | None) -> str:
    """In the unit a person would choose."""
    if seconds is None:
        return NOTHING
    if seconds == float("inf"):
        return "> 12 h"
    for limit, divisor, unit in ((1, 0.001, "ms"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            value = seconds / divisor
            return f"{value:.0f} {unit}" if value >= 10 or not value else f"{value:.1f} {unit}"
    return f"{seconds / 86_400:.0f} days"
