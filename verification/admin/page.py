"""The page of figures, and the entries of verification in the navigation."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from messaging.admin import home
from messaging.admin.dashboard import NOTHING, Table, duration, number
from verification import figures
from verification.admin.odds import odds_table
from verification.figures import COUNTED, RANGES, Carried, Range, Sums

LARGEST = 20  # countries by name; the others are added up
IN_CHART = 10
ENDS = {
    "verified": "var(--color-green-500)",
    "expired": "var(--color-base-500)",
    "locked": "var(--color-red-600)",
    "cancelled": "var(--color-base-300)",
    "superseded": "var(--color-orange-500)",
}
STEPS = ("var(--color-primary-300)", "var(--color-primary-600)", "var(--color-green-500)")

home.GROUPS.insert(
    1,
    (
        "Verification",
        [
            ("Figures", "monitoring", "verification.challenge", "admin:verification_figures"),
            ("Challenges", "verified_user", "verification.challenge"),
            ("Profiles", "tune", "verification.profile"),
        ],
    ),
)


def figures_context(request: HttpRequest) -> dict[str, Any]:
    """`?range=` picks one of RANGES. Money is for those who may see what an attempt costs."""
    chosen = request.GET.get("range", "")
    name = chosen if chosen in RANGES else "24h"
    since = RANGES[name].since(datetime.now(UTC))
    countries, providers = figures.countries(since), figures.providers(since)
    total = figures.together(sums for _, sums in countries)
    money = request.user.has_perm("messaging.view_attempt")
    found = {
        "ranges": [(key, one.label, key == name) for key, one in RANGES.items()],
        "label": RANGES[name].label,
        "total": total,
        "cards": _cards(total, money),
        "over_time": _over_time(RANGES[name], since),
        "by_country": _country_table(countries, money),
        "country_chart": _steps([(c, s.starts, s.delivered, s.verified) for c, s in countries], "Starts", "Verified"),
        "by_provider": _provider_table(providers),
        "provider_chart": _steps(
            [(p.provider, p.attempts, p.delivered, p.converted) for p in providers], "Handed over", "Converted"
        ),
    }
    if request.user.has_perm("verification.view_profile") or request.user.has_perm("verification.change_profile"):
        found["odds"] = odds_table()
    return found


def _cards(total: Sums, money: bool) -> list[dict[str, str]]:
    open_now = figures.pending()
    wrong = f"Of all guesses {_share(total.wrong_share or 0)} were wrong."
    cards = [
        ("starts", number(total.starts), f"{number(total.superseded)} of them by people who asked again."),
        ("verified", number(total.verified), f"{_share(total.conversion or 0)} of those who were asked. {wrong}"),
        ("median time", duration(total.median), "From the start to the right code."),
        ("pending", f"{COUNTED}+" if open_now > COUNTED else number(open_now), "Open now, in no figure here yet."),
    ]
    if money:
        text = f"For each verified person, of {_money(total.cost)} {settings.REPORTING_CURRENCY}."
        if total.unpriced:
            text += f" {number(total.unpriced)} attempts have no exchange rate."
        cards.append(("cost per verified", _price(total.cost_per_verified), text))
    return [{"title": title, "count": count, "text": text} for title, count, text in cards]


def _over_time(wanted: Range, since: datetime) -> dict[str, Any]:
    found = figures.bars(wanted, since)
    datasets = [
        {
            "label": end.capitalize(),
            "data": [getattr(sums, end) for _, sums in found],
            "backgroundColor": colour,
            "stack": "ends",
            "maxBarThickness": 28,
            "borderRadius": 0,
            "displayYAxis": True,
            "maxTicksXLimit": 12,
        }
        for end, colour in ENDS.items()
    ]
    labels = [begun.strftime(wanted.form) for begun, _ in found]
    return {
        "empty": not any(sums.starts for _, sums in found),
        "data": json.dumps({"labels": labels, "datasets": datasets}),
        "legend": list(ENDS),
    }


def _steps(found: Sequence[tuple[str, int, int, int]], first: str, last: str) -> dict[str, Any]:
    """Three bars beside each other: asked, arrived, done."""
    shown = found[:IN_CHART]
    names = (first, "Delivered", last)
    datasets = [
        {
            "label": name,
            "data": [row[place] for row in shown],
            "backgroundColor": colour,
            "grouped": True,
            "barPercentage": 0.9,
            "maxBarThickness": 28,
            "borderRadius": 0,
            "displayYAxis": True,
        }
        for place, (name, colour) in enumerate(zip(names, STEPS, strict=True), start=1)
    ]
    data = json.dumps({"labels": [row[0] for row in shown], "datasets": datasets})
    return {"empty": not shown, "data": data, "legend": list(zip(("asked", "arrived", "done"), names, strict=True))}


def _country_table(countries: Sequence[tuple[str, Sums]], money: bool) -> Table:
    headers = ["Country", "Starts", "Asked again", "Delivered", "Verified", "Conversion", "Median time"]
    body = [[country, *_country(sums, money)] for country, sums in countries[:LARGEST]]
    if others := countries[LARGEST:]:
        sums = figures.together(sums for _, sums in others)
        body.append([f"{len(others)} others", *_country(sums, money)])
    if money:
        headers += [f"Cost, {settings.REPORTING_CURRENCY}", "Per verified"]
    return {"headers": headers, "rows": body}


def _country(sums: Sums, money: bool) -> list[str]:
    counts = [number(n) for n in (sums.starts, sums.superseded, sums.delivered, sums.verified)]
    found = [*counts, _share(sums.conversion), duration(sums.median)]
    return [*found, _money(sums.cost), _price(sums.cost_per_verified)] if money else found


def _provider_table(providers: Sequence[Carried]) -> Table:
    body = [
        [
            one.provider,
            number(one.attempts),
            number(one.delivered),
            _share(one.delivered / one.attempts if one.attempts else None),
            number(one.attributed),
            number(one.converted),
            _share(one.conversion),
        ]
        for one in providers
    ]
    headers = ["Provider", "Handed over", "Delivered", "Rate", "Attributed", "Converted", "Conversion"]
    return {"headers": headers, "rows": body}


def _share(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.1%}"


def _money(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _price(amount: Decimal | None) -> str:
    return NOTHING if amount is None else f"{amount:,.4f}"
