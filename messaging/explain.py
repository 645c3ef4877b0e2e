"""Who would carry this message, why, and at what price? For quotes, a command and a page; nothing is stored or sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from providers import health
from providers.health import Board
from routing import encoding, numbers, snapshot
from routing.encoding import LEVELS
from routing.lcr import Candidate, candidates
from routing.library import BEHIND
from routing.networks import Network, resolve
from routing.prices import plain

BREAKER = "breaker_open"
OTHER_TIME = (
    "Prices and exchange rates are of that time; rules, sender registrations, networks and balances have no history: "
    "they are of now. No breaker counts."
)
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Transliteration:
    """What writing the text otherwise would save, whether the client allows it (`applied`) or not."""

    level: str
    applied: bool
    before: int  # segments
    after: int


@dataclass(frozen=True, slots=True)
class Explained:
    country: str
    network: Network
    network_name: str
    encoding: str
    segments: int
    transliteration: Transliteration | None
    candidates: Sequence[Candidate]
    rules: Sequence[str]  # the names of those that match
    currency: str  # the reporting one, in which costs are compared
    note: str = ""

    @property
    def chosen(self) -> Candidate | None:
        """Who would carry it: the first that is not refused, though its breaker may be open."""
        return next((candidate for candidate in self.candidates if candidate.usable), None)


def explain(
    *,
    msisdn: str,
    country: str,
    text: str,
    message_class: str,
    client: str,
    sender: str,
    level: str,
    segments: int = 0,
    at: datetime | None = None,
    max_price: Decimal | None = None,
) -> Explained:
    """As delivery would decide now, or at another moment as far as that is known (OTHER_TIME).

    `sender` is the message's or its client's, `level` the client's transliteration; `segments` are counted where they
    are not given.
    """
    now = datetime.now(UTC)
    moment = at or now
    tables = snapshot.tables.get() if moment > now - BEHIND + timedelta(minutes=1) else snapshot.read(moment)
    board = Board() if at else health.board()
    network = resolve([msisdn])[msisdn]
    written = encoding.write(text, level)
    found = candidates(
        tables,
        board,
        msisdn=msisdn,
        country=country,
        segments=segments or written.encoding.segments,
        message_class=message_class,
        client=client,
        sender=sender,
        at=moment,
        network=network,
        max_price=max_price,
    )
    wishes = tables.wishes(
        client=client, message_class=message_class, country=country, sender=sender, network=network, at=moment
    )
    return Explained(
        country=country,
        network=network,
        network_name=tables.plan.name(network),
        encoding=written.encoding.name,
        segments=segments or written.encoding.segments,
        transliteration=transliteration(text, level),
        candidates=found,
        rules=wishes.names,
        currency=tables.currency,
        note=OTHER_TIME if at else "",
    )


def transliteration(text: str, level: str) -> Transliteration | None:
    """What it saves, or would; None where nothing can be saved."""
    for tried in LEVELS:
        written = encoding.write(text, tried)
        if written.saved:
            applied = level in LEVELS[LEVELS.index(tried) :]
            return Transliteration(tried, applied, written.before.segments, written.encoding.segments)
    return None


def reason(candidate: Candidate) -> str:
    """Why it is refused, or only tried when the others cannot be; "" for one that may carry it."""
    return candidate.reason or (BREAKER if candidate.blocked else "")


def examples(text: str, level: str) -> list[dict[str, str]]:
    """What a text costs now to a mobile of the countries that most price lists know, cheapest provider each."""
    tables = snapshot.tables.get()
    segments = encoding.write(text, level).encoding.segments
    found = []
    for country in tables.countries[:EXAMPLES]:
        number = numbers.example(country)
        offers = number and candidates(
            tables,
            Board(),
            msisdn=number,
            country=country,
            segments=segments,
            message_class="transactional",
            client="",
            sender="",
            at=datetime.now(UTC),
        )
        best = next((candidate for candidate in offers or () if candidate.usable), None)
        if best is not None and best.total is not None:
            found.append({"country": country, "slug": best.slug, "total": f"{plain(best.total)} {best.currency}"})
    return found
