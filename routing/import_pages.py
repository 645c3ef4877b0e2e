"""What the page of an import shows: its steps, its progress, and its changes a page at a time."""

from collections.abc import Mapping as Dictionary
from datetime import UTC, datetime, timedelta
from typing import Any

from django.template.defaultfilters import filesizeformat

from routing import books
from routing.import_models import LeftOut, PriceImport, StagedPrice
from routing.imports import flow, work
from routing.imports.mapping import CHARGED, DECIMALS, Mapping
from routing.imports.sheets import DELIMITERS, ENCODINGS
from routing.models import PriceList

Status = PriceImport.Status
PER_PAGE = 50
LAST_PAGE = 1000
PATIENCE = timedelta(seconds=15)  # so long an import process needs to look, at most

STEPS = ("Upload", "Mapping", "Changes", "Approval", "In force")
_AT: dict[str, int] = {
    Status.UPLOADED: 0, Status.MAPPING: 1, Status.READING: 1, Status.READY: 2, Status.WRITING: 3, Status.SUBMITTED: 3,
    Status.APPLIED: 5, Status.ROLLED_BACK: 5,
}  # fmt: skip
#: Tiles above the changes: their name in the address, what they are called, and what they mean.
TILES = (
    ("all", "all", "Every change, the largest first"),
    ("new", "new", "Places that had no price"),
    ("up", "up", "Dearer than now"),
    ("down", "down", "Cheaper than now"),
    ("removed", "removed", "Places that lose their price"),
    ("terms", "other terms", "The same total, charged otherwise"),
    ("unchanged", "unchanged", ""),
    ("outlier", "look wrong", "To be confirmed"),
    ("error", "bad rows", "Not understood, left out"),
    ("skipped", "skipped", "Not meant for this list"),
    ("merged", "merged", "Another row of the place counts"),
)
LABELS = {name: label for name, label, _ in TILES}
WARN = {"outlier", "error", "removed"}


def steps(found: PriceImport | None) -> list[dict[str, Any]]:
    """done, now or to come."""
    here = _AT.get(found.status, -1) if found else 0
    if found and here < 0:  # failed or cancelled: where it was
        here = 2 if found.counts else 1
    words = ["done" if place < here else "now" if place == here else "next" for place in range(len(STEPS))]
    return [{"name": name, "state": word} for name, word in zip(STEPS, words, strict=True)]


def facts(found: PriceImport) -> list[tuple[str, Any]]:
    people = [("uploaded by", found.uploaded_by or "the shell")]
    decided = {"ready": "sent back by", "applied": "approved by", "rolled_back": "rolled back by"}
    if found.decided_by and found.status in decided:
        people.append((decided[found.status], found.decided_by))
    return [
        ("provider", found.provider),
        ("file", f"{found.file_name}, {filesizeformat(found.size)}"),
        ("rows read", f"{found.counts['rows']:,}" if found.counts else ""),
        ("extent", "some changes" if found.partial else "the whole list"),
        ("in force", when(found)),
        ("compared with", found.base or ("no list in force" if found.counts else "")),
        *people,
    ]


def when(found: PriceImport) -> str:
    """The start of its list, also before there is one."""
    if found.status in (Status.APPLIED, Status.ROLLED_BACK) and found.book:
        at = found.book.valid_from
    elif found.effective_at and found.effective_at > datetime.now(UTC):
        at = found.effective_at
    else:
        return "as soon as approved"
    return f"from {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def after_roll_back(found: PriceImport) -> str:
    """What rolling it back does, for people."""
    at = datetime.now(UTC)
    if found.book and found.book.valid_from > at:
        return "It will not begin."
    before = books.in_force(found.provider_id, at, but=found.book_id)
    if before is None:
        return "There is no list before: the provider has no prices then."
    return f"{PriceList.objects.select_related('provider').get(pk=before)} is in force again at once."


def stale(found: PriceImport) -> str:
    """Why an approval would be refused that it waits for, as the refusal says it."""
    return flow.stale(found, work.starts(found)) if found.status == Status.SUBMITTED else ""


def coming(found: PriceImport) -> str:
    """What is to be known of a list that begins after this one, while it can be decided on."""
    if found.status == Status.APPLIED and found.book:
        return books.coming(found.provider_id, found.book.valid_from)
    return books.coming(found.provider_id, work.starts(found)) if found.status in PriceImport.WAITING else ""


def bound(user: Any, found: PriceImport) -> str:
    """Why this person may not approve it; empty where they may."""
    try:
        books.four_eyes(user, found.editors)
    except books.Refused as error:
        return str(error)
    return ""


def progress(found: PriceImport) -> dict[str, Any] | None:
    """None where nobody is working on it."""
    if found.status not in PriceImport.WORK:
        return None
    percent = min(100, found.done * 100 // found.total) if found.total else 0
    since = {Status.UPLOADED: found.created_at, Status.WRITING: found.submitted_at}.get(Status(found.status))
    return {
        "step": found.step or "waiting",
        "done": f"{found.done:,}",
        "total": f"{found.total:,}" if found.total else "",
        "percent": percent,
        "nobody": since is not None and not found.step and datetime.now(UTC) - since > PATIENCE,
    }


def written(known: Mapping) -> str:
    parts = [
        {"csv": "CSV", "excel": "Excel", "json": "JSON"}.get(known.kind, known.kind),
        ENCODINGS.get(known.encoding, known.encoding) if known.kind != "excel" else "",
        f"cells by {DELIMITERS.get(known.delimiter, known.delimiter)}" if known.kind == "csv" else "",
        f"header in line {known.header}" if known.header else "",
        f"decimal sign {DECIMALS.get(known.decimal, '')}",
        f"charged {CHARGED.get(known.charged, '')}",
    ]
    return ", ".join(part for part in parts if part)


def changes(found: PriceImport, query: Dictionary[str, str]) -> dict[str, Any]:
    """One page of what the file does. `?show=` picks a tile, `?page=` a page, `?country=` a country."""
    chosen = query.get("show", "all")
    if chosen not in {name for name, *_ in TILES}:
        chosen = "all"
    page = query.get("page", "1")
    number = min(max(int(page) if page.isdecimal() else 1, 1), LAST_PAGE)
    start = (number - 1) * PER_PAGE
    country = query.get("country", "").strip().upper()[:2]
    left_out = chosen in LeftOut.Kind.values
    rows = _left_out(found, chosen) if left_out else _staged(found, chosen, country)
    some = list(rows[start : start + PER_PAGE + 1])
    return {
        "tiles": [
            {"name": name, "label": label, "hint": hint, "count": f"{_count(found, name):,}", "chosen": name == chosen,
             "warn": name in WARN and bool(found.counts.get(name))}
            for name, label, hint in TILES
            if name in ("all", "new", "up", "down") or _count(found, name)
        ],
        "shown": chosen,
        "left_out": left_out,
        "country": country,
        "rows": some[:PER_PAGE] if left_out else [shown(price) for price in some[:PER_PAGE]],
        "page": number,
        "more": len(some) > PER_PAGE,
        "by_country": _countries(found),
    }  # fmt: skip


def _count(found: PriceImport, name: str) -> int:
    if name == "all":
        return int(found.counts.get("prices", 0)) + int(found.counts.get("removed", 0))
    return int(found.counts.get(name, 0))


def _staged(found: PriceImport, shown: str, country: str) -> Any:
    rows = StagedPrice.objects.filter(price_import=found).order_by("-weight", "pk")
    if shown == "outlier":
        rows = rows.exclude(outlier="")
    elif shown != "all":
        rows = rows.filter(change=shown)
    return rows.filter(country=country) if country else rows


def _left_out(found: PriceImport, kind: str) -> Any:
    return LeftOut.objects.filter(price_import=found, kind=kind).order_by("line", "pk")


def _countries(found: PriceImport) -> list[str]:
    return list(
        StagedPrice.objects.filter(price_import=found).values_list("country", flat=True).distinct().order_by("country")
    )


def shown(price: StagedPrice) -> dict[str, Any]:
    total = price.price + price.price_delivered
    removed = price.change == "removed"
    return {
        "change": LABELS[price.change],
        "colour": {"up": "danger", "down": "success", "removed": "danger", "new": "info"}.get(price.change, ""),
        "country": price.country,
        "place": "-".join(filter(None, (price.mcc, price.mnc))) or price.prefix or "whole country",
        "old": f"{amount(price.old_price)} {price.old_currency}" if price.old_price is not None else "",
        "new": "" if removed else f"{amount(total)} {price.currency}",
        "split": f"{amount(price.price)} + {amount(price.price_delivered)}" if price.price_delivered else "",
        "percent": f"{price.percent:+,.1f} %" if price.percent else "",
        "outlier": price.outlier,
        "valid": valid(price.valid_from, price.valid_to),
        "line": price.line or "",
    }


def amount(value: Any) -> str:
    """Without the zeros at its end, and at least two decimals."""
    text = f"{value:f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def valid(begin: datetime | None, end: datetime | None) -> str:
    words = [f"from {begin:%Y-%m-%d %H:%M}" if begin else "", f"until {end:%Y-%m-%d %H:%M}" if end else ""]
    return " ".join(word for word in words if word)
