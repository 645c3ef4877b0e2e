"""Where each provider has prices, and what will change soon: each page is a fixed number of queries."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from providers.sql import rows

DAYS = 7
MOST = 200  # prices that are shown one by one

# Each provider's list at a moment.
_IN_FORCE = """
  SELECT DISTINCT ON (provider_id) id, provider_id FROM routing_pricelist
  WHERE status = 'active' AND valid_from <= {at} ORDER BY provider_id, valid_from DESC"""
_WORTH = """
  SELECT DISTINCT ON (currency) currency, 1 / rate AS worth FROM routing_exchangerate
  WHERE valid_from <= statement_timestamp() AND currency <> %(reporting)s ORDER BY currency, valid_from DESC"""


@dataclass(frozen=True, slots=True)
class Cell:
    """The prices of a provider in a country, of one segment. `best`: nobody who is enabled has a cheaper one there."""

    cheapest: Decimal
    dearest: Decimal
    currency: str
    prices: int
    best: bool
    enabled: bool


def coverage() -> tuple[dict[str, bool], list[tuple[str, list[Cell | None]]]]:
    """Providers by slug and whether they are enabled; for each country one cell per provider, None without a price.

    Where a provider has several currencies in a country, both ends are in the reporting currency.
    """
    providers = dict(rows("SELECT slug, enabled FROM providers_provider ORDER BY NOT enabled, slug"))
    found = rows(
        f"""
        WITH in_force AS ({_IN_FORCE.format(at="statement_timestamp()")}), money AS ({_WORTH}),
        priced AS (
          SELECT v.slug, v.enabled, p.country, p.currency, p.price + p.price_delivered AS total,
            (p.price + p.price_delivered) * CASE WHEN p.currency = %(reporting)s THEN 1 ELSE m.worth END AS comparable
          FROM in_force b JOIN providers_provider v ON v.id = b.provider_id
            JOIN routing_price p ON p.price_list_id = b.id LEFT JOIN money m ON m.currency = p.currency
          WHERE (p.valid_from IS NULL OR p.valid_from <= statement_timestamp())
            AND (p.valid_to IS NULL OR p.valid_to > statement_timestamp())
        )
        SELECT country, slug, min(currency), min(currency) = max(currency), min(total), max(total),
          min(comparable), max(comparable), count(*), enabled,
          enabled AND min(comparable) <= min(min(comparable)) FILTER (WHERE enabled) OVER (PARTITION BY country)
        FROM priced GROUP BY country, slug, enabled ORDER BY country""",  # noqa: S608  literals of this module
        {"reporting": settings.REPORTING_CURRENCY},
    )
    cells: dict[str, dict[str, Cell]] = {}
    for country, slug, currency, alone, low, high, compared_low, compared_high, count, enabled, best in found:
        if not alone and compared_low is not None:
            low, high, currency = compared_low, compared_high, settings.REPORTING_CURRENCY
        cells.setdefault(country, {})[slug] = Cell(low, high, currency, count, bool(best), enabled)
    return providers, [(country, [of.get(slug) for slug in providers]) for country, of in cells.items()]


@dataclass(frozen=True, slots=True)
class Soon:
    """One thing that happens by itself in the coming days."""

    at: datetime
    provider: str
    what: str
    where: str
    amount: Decimal | None = None
    currency: str = ""
    list_id: int = 0


def lists_soon() -> list[Soon]:
    """Whole lists that begin."""
    found = rows(
        """
        SELECT l.valid_from, v.slug, l.name, (SELECT count(*) FROM routing_price p WHERE p.price_list_id = l.id), l.id
        FROM routing_pricelist l JOIN providers_provider v ON v.id = l.provider_id
        WHERE l.status = 'active' AND l.valid_from > statement_timestamp()
          AND l.valid_from <= statement_timestamp() + %(days)s * interval '1 day'
        ORDER BY l.valid_from, v.slug LIMIT %(most)s""",
        {"days": DAYS, "most": MOST},
    )
    return [Soon(at, slug, "begins", f"{name} ({count:,} prices)", list_id=key) for at, slug, name, count, key in found]


def prices_soon() -> tuple[list[Soon], list[tuple[str, int, int]]]:
    """Prices that begin or end within the lists in force, and how many of each by provider."""
    statement = f"""
        WITH in_force AS ({_IN_FORCE.format(at="statement_timestamp()")}), soon AS (
          SELECT e.at, v.slug, e.what, p.country, p.mcc, p.mnc, p.prefix, p.price + p.price_delivered AS total,
            p.currency
          FROM in_force b JOIN providers_provider v ON v.id = b.provider_id
            JOIN routing_price p ON p.price_list_id = b.id
            CROSS JOIN LATERAL (VALUES (p.valid_from, 'begins'), (p.valid_to, 'ends')) AS e (at, what)
          WHERE e.at > statement_timestamp() AND e.at <= statement_timestamp() + %(days)s * interval '1 day')"""  # noqa: S608
    values = {"days": DAYS, "most": MOST}
    ordered = "SELECT * FROM soon ORDER BY at, slug, country, mcc, mnc, prefix LIMIT %(most)s"
    found = rows(f"{statement} {ordered}", values)
    sums = rows(
        f"""{statement}
        SELECT slug, count(*) FILTER (WHERE what = 'begins'), count(*) FILTER (WHERE what = 'ends')
        FROM soon GROUP BY slug ORDER BY slug""",  # noqa: S608
        values,
    )
    return [_price(row) for row in found], [(slug, begin, end) for slug, begin, end in sums]


def _price(row: tuple[Any, ...]) -> Soon:
    at, slug, what, country, mcc, mnc, prefix, total, currency = row
    place = "-".join(part for part in (mcc, mnc) if part) or prefix or "whole country"
    return Soon(at, slug, what, f"{country} {place}", total, currency)


def waiting_soon() -> list[Soon]:
    """Imports that wait for a person although their time comes."""
    found = rows(
        """
        SELECT i.effective_at, v.slug, i.status, i.file_name, i.id
        FROM routing_priceimport i JOIN providers_provider v ON v.id = i.provider_id
        WHERE i.status IN ('mapping', 'ready', 'submitted', 'failed') AND i.effective_at IS NOT NULL
          AND i.effective_at <= statement_timestamp() + %(days)s * interval '1 day'
        ORDER BY i.effective_at LIMIT %(most)s""",
        {"days": DAYS, "most": MOST},
    )
    words = {
        "mapping": "waits for its mapping",
        "ready": "is not submitted",
        "submitted": "waits for approval",
        "failed": "has failed",
    }
    return [Soon(at, slug, words[status], name, list_id=key) for at, slug, status, name, key in found]
