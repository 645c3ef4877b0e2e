"""JSON that price services answer with, as rows of text: the first row has the names of the columns.

A shape is known by its keys. One document or a list of them; anything else is a list of flat objects. No entry is lost:
what has no price is a row without one, and what is not for sending says so.
"""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import chain
from typing import Any

from routing.imports.errors import Unreadable

Entry = dict[str, Any]
LONGEST = 30  # digits: 1e999999 would be a megabyte of zeros
DEEPEST = 4  # levels of objects that become columns, like prices.sms.rate
INBOUND = "an inbound price, not for sending"


class Aside(Entry):
    """An entry that is not meant for a list of prices for sending."""

    def __init__(self, entry: Entry, reason: str) -> None:
        super().__init__(entry)
        self.reason = reason


def rows(text: str) -> Iterator[tuple[list[str], str]]:
    """Each with the reason why it is skipped, if it is. Raises Unreadable."""
    try:
        document = json.loads(text, parse_float=Decimal, parse_int=str)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(f"This is no JSON{where}.") from None
    try:
        entries = list(_entries(document))
    except (AttributeError, KeyError, TypeError):
        raise Unreadable("This JSON begins like a known price list and goes on otherwise.") from None
    columns = list(dict.fromkeys(chain.from_iterable(entries)))
    if not columns:
        raise Unreadable("There is no list of prices in this JSON.")
    yield columns, ""
    for entry in entries:
        reason = entry.reason if isinstance(entry, Aside) else ""
        yield [_text(entry.get(column)) for column in columns], reason


def _entries(document: Any) -> Iterator[Entry]:
    documents = document if isinstance(document, list) else [document]
    if isinstance(document, dict) and isinstance(document.get("countries"), list):
        documents = document["countries"]  # Vonage: all countries in one
    for one in documents:
        shape = next((read for key, read in SHAPES.items() if isinstance(one, dict) and key in one), None)
        yield from shape(one) if shape else _plain(one, alone=one is document)


def _plain(document: Any, alone: bool) -> Iterator[Entry]:
    """An object of a list is a row; an object alone has the list somewhere in it: the longest one is meant."""
    if not isinstance(document, dict):
        yield {"value": document}
    elif alone:
        lists = sorted(_lists(document), key=lambda found: len(found[1]), reverse=True)
        for entry in lists[0][1] if lists else ():
            yield _flat(entry)
        for name, other in lists[1:]:
            yield Aside({}, f"another list, {name[-80:]} ({len(other)}): save it as a file of its own")
    else:
        yield _flat(document)


def _lists(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        yield name, value
    elif isinstance(value, dict) and depth < DEEPEST:
        for key, inner in value.items():
            yield from _lists(inner, _joined(name, key), depth + 1)


def _flat(value: Any, name: str = "", depth: int = 0) -> Entry:
    if not isinstance(value, dict) or depth >= DEEPEST:
        return {name or "value": value}
    found: Entry = {}
    for key, inner in value.items():
        found |= _flat(inner, _joined(name, key), depth + 1)
    return found


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _twilio(document: Entry) -> Iterator[Entry]:
    """Pricing API, one country. `current_price` is what is charged; types of sender differ in price."""
    base = {"iso_country": document.get("iso_country"), "price_unit": document.get("price_unit")}
    for network in document["outbound_sms_prices"] or [{}]:
        names = {key: network.get(key) for key in ("carrier", "mcc", "mnc")}
        for price in network.get("prices") or [{}]:
            yield {**base, **names, **price}
    for price in document.get("inbound_sms_prices") or []:
        yield Aside({**base, **price}, INBOUND)


def _vonage(document: Entry) -> Iterator[Entry]:
    """get-pricing, one country. `aliases` are further networks at the same price."""
    base = {"countryCode": document.get("countryCode"), "type": "", "networkCode": "", "mcc": "", "mnc": ""}
    default, networks = document.get("defaultPrice"), document.get("networks") or []
    if default is not None or not networks:
        yield {
            **base,
            "price": default,
            "currency": document.get("currency"),
            "networkName": "default",
            "type": "mobile",
        }
    for network in networks:
        known = {key: value for key, value in network.items() if key != "aliases"}
        yield {**base, **known}
        for alias in network.get("aliases") or []:
            yield {**base, **known, "networkCode": alias, "mcc": str(alias)[:3], "mnc": str(alias)[3:]}


def _plivo(document: Entry) -> Iterator[Entry]:
    """Pricing of one country: groups of networks, of which only the names are told. US dollars by its documents.

    Beside the messages it has what calls and numbers cost.
    """
    base = {"country_iso": document.get("country_iso"), "currency": "USD"}
    outbound = document["message"].get("outbound") or {}
    yield {**base, "group_name": "outbound", "rate": outbound.get("rate")}
    for group in document["message"].get("outbound_networks_list") or []:
        yield {**base, "group_name": group.get("group_name"), "rate": group.get("rate")}
    inbound = document["message"].get("inbound") or {}
    if inbound.get("rate") is not None:
        yield Aside({**base, "group_name": "inbound", "rate": inbound["rate"]}, INBOUND)
    for name, section in document.items():
        if name != "message" and isinstance(section, dict):
            yield Aside({**base, "group_name": name}, f"{name[:80]}: no prices of messages")


def _aws(document: Entry) -> Iterator[Entry]:
    """The public price file: classes of messages, and a carrier's fee beside the price. US dollars."""
    for country, found in document["SMS"]["countryPrices"].items():
        classes = {key: networks for key, networks in found.items() if isinstance(networks, list)}
        for kind, networks in (classes or {"": []}).items():
            for network in networks or [{}]:
                yield {"country": country, "class": kind, "currency": "USD", **network}


SHAPES: dict[str, Callable[[Entry], Iterator[Entry]]] = {
    "outbound_sms_prices": _twilio,
    "defaultPrice": _vonage,
    "networks": _vonage,
    "outbound_networks_list": _plivo,
    "message": _plivo,
    "SMS": _aws,
}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    plain = isinstance(value, Decimal) and abs(value.adjusted()) < LONGEST
    text = format(value, "f") if plain else str(value)
    return text.strip().replace("\0", "\ufffd")
