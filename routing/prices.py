"""The price of a number in one provider's book, most specific first. Whole numbers of 10^-6, and no clock of its own.

A book of 50,000 rows is one dictionary of text to number: both are kept once in the process however many books name
them, and neither is anything that the garbage collector has to look at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from sys import intern
from typing import Literal, NamedTuple

SCALE = 6  # places of a price in the database
MICRO = 10**SCALE
LONGEST_PREFIX = 15

Basis = Literal["network", "prefix", "mcc", "country", "dearest"]


@dataclass(frozen=True, slots=True)
class Quote:
    """What one segment costs, in millionths of `currency`."""

    on_submit: int
    on_delivery: int
    currency: str
    total: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.on_submit + self.on_delivery)


class Row(NamedTuple):
    """A price as the database has it. Its prices are in millionths."""

    country: str
    mcc: str
    mnc: str
    prefix: str
    on_submit: int
    on_delivery: int
    currency: str
    valid_from: datetime | None
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One of several prices of a place: of other times, or of another country."""

    country: str
    quote: Quote
    valid_from: datetime | None
    valid_to: datetime | None

    def holds(self, at: datetime) -> bool:
        return (self.valid_from is None or self.valid_from <= at) and (self.valid_to is None or at < self.valid_to)


def decimal(amount: int) -> Decimal:
    """Millionths as money."""
    return Decimal(amount).scaleb(-SCALE)


def plain(amount: Decimal) -> str:
    """Money as people write it: no zeros that say nothing, but cents."""
    text = f"{amount.normalize():f}"
    places = len(text.partition(".")[2])
    return text if places >= 2 else f"{amount:.2f}"


def micros(amount: Decimal) -> int:
    """Money as millionths. Exact: the database keeps six places."""
    return int(amount * MICRO)


def place(*, country: str, mcc: str, mnc: str, prefix: str) -> str:
    """What a price is for, as one word: `255-01`, `38067`, `255-` or `UA`."""
    return prefix or (f"{mcc}-{mnc}" if mcc else country)


def basis(key: str) -> Basis:
    if key[0].isdigit():
        return "prefix" if "-" not in key else "mcc" if key[-1] == "-" else "network"
    return "country"


@dataclass(frozen=True, slots=True)
class Book:
    """The prices of one list. Entries of one country and place do not overlap in time (the database excludes it).

    `places` maps a place to what it costs: an index of `quotes`, or -1 - an index of `special`, where the price
    depends on the time or on the country. `by_network` has by country the prices of which the dearest counts where the
    network is not known.
    """

    places: dict[str, int] = field(default_factory=dict)
    quotes: tuple[Quote, ...] = ()
    special: tuple[tuple[Entry, ...], ...] = ()
    by_network: dict[str, tuple[int, ...]] = field(default_factory=dict)
    moments: frozenset[datetime] = frozenset()  # at which a price begins or ends

    def price(self, keys: Sequence[str], country: str, at: datetime) -> tuple[Quote, str] | None:
        """The price of the first of these places that has one then, and that place."""
        places = self.places
        for key in keys:
            index = places.get(key)
            if index is None:
                continue
            if index >= 0:
                return self.quotes[index], key
            quote = _then(self.special[-1 - index], country, at)
            if quote is not None:
                return quote, key
        return None

    def network_prices(self, country: str, at: datetime) -> list[Quote]:
        """The prices of which a number of this country may have the dearest, depending on its network."""
        found = []
        for index in self.by_network.get(country, ()):
            if index >= 0:
                found.append(self.quotes[index])
            else:
                found += [e.quote for e in self.special[-1 - index] if e.country == country and e.holds(at)]
        return found


def _then(entries: Iterable[Entry], country: str, at: datetime) -> Quote | None:
    """Of the number's own country, else the dearest: suppliers name countries differently in shared codes."""
    valid = [entry for entry in entries if entry.holds(at)]
    own = [entry for entry in valid if entry.country == country]
    if own:
        return own[0].quote
    return max((entry.quote for entry in valid), key=lambda quote: quote.total, default=None)


#: Every dial prefix that a book of this process has had a price for. It only grows: a prefix that no book has any
#: more costs a look-up and changes no answer. `_lengths` are those that occur, the longest first.
_known: set[str] = set()
_lengths: tuple[int, ...] = ()


def prefixes(msisdn: str) -> tuple[str, ...]:
    """The known prefixes that this number begins with, the longest first. Numbers with the same ones cost the same."""
    digits = msisdn[1:]
    return tuple([prefix for length in _lengths if (prefix := digits[:length]) in _known])


def _know(prefix: str) -> None:
    global _lengths
    if prefix not in _known:
        if len(prefix) not in _lengths:
            _lengths = tuple(sorted({*_lengths, len(prefix)}, reverse=True))
        _known.add(prefix)


class Binding:
    """Makes a book of rows that come a few at a time."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._quotes: dict[tuple[int, int, str], int] = {}
        self._countries: dict[str, str] = {}  # place -> the one country that it has so far
        self._special: list[list[Entry]] = []
        self._networks: dict[str, dict[int, None]] = {}
        self._moments: set[datetime] = set()
        self._all: list[Quote] = []

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._add(Row(*row))

    def book(self) -> Book:
        return Book(
            places=self._places,
            quotes=tuple(self._all),
            special=tuple(map(tuple, self._special)),
            by_network={country: self._dearest(found) for country, found in self._networks.items()},
            moments=frozenset(self._moments),
        )

    def _dearest(self, indexes: Iterable[int]) -> tuple[int, ...]:
        """Of the prices that always hold, the dearest of each currency; all that do not."""
        best: dict[str, int] = {}
        for index in indexes:
            if index >= 0:
                quote = self._all[index]
                if quote.currency not in best or quote.total > self._all[best[quote.currency]].total:
                    best[quote.currency] = index
        return (*best.values(), *(index for index in indexes if index < 0))

    def _add(self, row: Row) -> None:
        key = intern(place(country=row.country, mcc=row.mcc, mnc=row.mnc, prefix=row.prefix))
        if row.prefix:
            _know(key)
        number = self._number(row)
        timed = row.valid_from is not None or row.valid_to is not None
        there = self._places.get(key)
        if there is None and not timed:
            self._places[key] = number
            self._countries[key] = row.country
        else:
            index = self._timed(key, there)
            self._special[-1 - index].append(Entry(row.country, self._all[number], row.valid_from, row.valid_to))
            self._moments.update(filter(None, (row.valid_from, row.valid_to)))
        if row.mcc:
            self._networks.setdefault(row.country, {})[self._places[key]] = None

    def _timed(self, key: str, there: int | None) -> int:
        """The place's entry among the special ones; a plain price that it had becomes the first of them."""
        if there is not None and there < 0:
            return there
        entries = [] if there is None else [Entry(self._countries.pop(key), self._all[there], None, None)]
        self._special.append(entries)
        index = self._places[key] = -len(self._special)
        for country in {entry.country for entry in entries} if "-" in key else ():
            self._networks[country][index] = None
        return index

    def _number(self, row: Row) -> int:
        what = (row.on_submit, row.on_delivery, row.currency)
        number = self._quotes.get(what)
        if number is None:
            number = self._quotes[what] = len(self._all)
            self._all.append(Quote(row.on_submit, row.on_delivery, intern(row.currency)))
        return number
