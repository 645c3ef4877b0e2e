"""Files of networks and of prefixes, and prefixes from the carrier names of the phonenumbers library."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import phonenumbers
from django.db import transaction
from phonenumbers.carrierdata import CARRIER_DATA

from providers.sql import records, rows
from routing.order_models import COUNTRY, MCC, MNC, PREFIX, Network
from routing.order_models import NetworkPrefix as Row

GROUP = 5000
LIVE = ("", "operational")  # what a column `status` says of a network that is there
LIBRARY = "phonenumbers"


@dataclass(slots=True)
class Loaded:
    """`skipped`: line number and reason of each row that is none."""

    count: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)


class BadFile(ValueError):
    """It has not the columns that are needed."""


def load_networks(lines: Iterable[str]) -> Loaded:
    """Names of networks, in place of all that were there. Raises BadFile."""
    loaded = Loaded()
    found: dict[tuple[str, str, str], str] = {}
    for number, row in _rows(lines, ("mcc", "mnc")):
        name = row.get("brand") or row.get("name") or row.get("operator") or ""
        if row.get("status", "").lower() not in LIVE:
            continue
        if not (_fits(MCC, row["mcc"]) and _fits(MNC, row["mnc"])):
            loaded.skipped.append((number, "no MCC of three and MNC of two or three digits"))
            continue
        for country in (row.get("country_iso2") or row.get("country") or "").split("/"):
            if _fits(COUNTRY, country):
                found.setdefault((row["mcc"], row["mnc"], country), name[:120])
            else:
                loaded.skipped.append((number, f"no country code: {country[:10]!r}"))
    with transaction.atomic():
        Network.objects.all().delete()
        Network.objects.bulk_create(
            [Network(mcc=mcc, mnc=mnc, country=country, name=name) for (mcc, mnc, country), name in found.items()],
            batch_size=GROUP,
        )
    loaded.count = len(found)
    return loaded


def load_prefixes(lines: Iterable[str], source: str) -> Loaded:
    """Prefixes, in place of those of the same source; one of another source is taken over. Raises BadFile."""
    loaded, found = Loaded(), {}
    for number, row in _rows(lines, ("prefix", "mcc", "mnc")):
        prefix = row["prefix"].removeprefix("+")
        if not (_fits(PREFIX, prefix) and _fits(MCC, row["mcc"]) and _fits(MNC, row["mnc"])):
            loaded.skipped.append((number, "no prefix of digits with an MCC and an MNC"))
        else:
            found[prefix] = (row["mcc"], row["mnc"])
    _store(found, source)
    loaded.count = len(found)
    return loaded


def derive_prefixes() -> Loaded:
    """Where the library's carrier name means exactly one of the networks that are loaded. It takes over no other's."""
    by_name: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for mcc, mnc, country, name in Network.objects.values_list("mcc", "mnc", "country", "name"):
        by_name[country, _plain(name)].add((mcc, mnc))
    others = set(Row.objects.exclude(source=LIBRARY).values_list("prefix", flat=True))
    found, counts = {}, Counter[str]()
    for prefix, names in CARRIER_DATA.items():
        networks = by_name.get((_country(prefix), _plain(names.get("en", ""))), set())
        counts["one" if len(networks) == 1 else "several" if networks else "none"] += 1
        if len(networks) == 1 and prefix not in others:
            found[prefix] = next(iter(networks))
    _store(found, LIBRARY)
    unclear = [(0, f"{counts[word]} carrier names mean {word} of the networks") for word in ("several", "none")]
    return Loaded(len(found), unclear)


def _store(found: dict[str, tuple[str, str]], source: str) -> None:
    values = [{"prefix": prefix, "mcc": mcc, "mnc": mnc} for prefix, (mcc, mnc) in found.items()]
    with transaction.atomic():
        Row.objects.filter(source=source).delete()
        for start in range(0, len(values), GROUP):
            rows(_STORE, {"rows": records(values[start : start + GROUP]), "source": source})


_STORE = """
INSERT INTO routing_networkprefix AS p (prefix, mcc, mnc, source)
SELECT r.prefix, r.mcc, r.mnc, %(source)s
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(prefix text, mcc text, mnc text)
ON CONFLICT (prefix) DO UPDATE SET mcc = excluded.mcc, mnc = excluded.mnc, source = excluded.source
"""


def _rows(lines: Iterable[str], needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    table = csv.DictReader(lines)
    missing = [name for name in needed if name not in (table.fieldnames or ())]
    if missing:
        raise BadFile(f"there is no column {', '.join(missing)}")
    for row in table:
        yield table.line_num, {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}


def _fits(validator: object, value: str) -> bool:
    return re.fullmatch(validator.regex.pattern.removesuffix("\\Z"), value) is not None  # type: ignore[attr-defined]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _country(prefix: str) -> str:
    """Of a code that one country has to itself, or of the main one of a shared code."""
    for length in (1, 2, 3):
        regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(prefix[:length]))
        if regions:
            return str(regions[0]) if len(regions) == 1 else ""
    return ""
