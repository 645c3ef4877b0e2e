"""The price valid now: one provider's book, resolved most specific first."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

LONGEST_PREFIX = 15


@dataclass(frozen=True, slots=True)
class Quote:
    """What one segment costs. `total` is submit + delivery, in `currency`, added once when the book is read."""

    on_submit: Decimal
    on_delivery: Decimal
    currency: str
    total: Decimal = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.on_submit + self.on_delivery)


@dataclass(frozen=True, slots=True)
class Entry:
    quote: Quote
    valid_from: datetime | None
    valid_to: datetime | None

    def holds(self, at: datetime) -> bool:
        return (self.valid_from is None or self.valid_from <= at) and (self.valid_to is None or at < self.valid_to)


# (kind, key): ("network", mcc+"-"+mnc), ("prefix", digits), ("mcc", mcc), ("country", iso2)
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Book:
    """The prices of one list. Entries of one place do not overlap in time (the database excludes it)."""

    entries: dict[Place, tuple[Entry, ...]] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()  # of the prefixes that occur, longest first

    def price(self, *, msisdn: str, country: str, at: datetime, mcc: str = "", mnc: str = "") -> Quote | None:
        """MCC and MNC, then the longest dial prefix, then the MCC alone, then the country."""
        digits = msisdn[1:]
        places: list[Place] = []
        if mcc and mnc:
            places.append(("network", f"{mcc}-{mnc}"))
        places += [("prefix", digits[:length]) for length in self.lengths]
        if mcc:
            places.append(("mcc", mcc))
        places.append(("country", country))
        for place in places:
            for entry in self.entries.get(place, ()):
                if entry.holds(at):
                    return entry.quote
        return None


def place(*, country: str, mcc: str, mnc: str, prefix: str) -> Place:
    if mcc and mnc:
        return "network", f"{mcc}-{mnc}"
    if prefix:
        return "prefix", prefix
    if mcc:
        return "mcc", mcc
    return "country", country
