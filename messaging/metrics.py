"""What `/metrics` shows, in the exposition formats of Prometheus. `docs/metrics.md` explains each.

Everything is read from the database at the scrape, so every web process gives the same answer. No label
ever holds a number, a code, a reference or a text of a client.
"""

import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from messaging import figures, heartbeats, tally
from messaging.states import MessageClass, Status
from messaging.tally import ATTEMPT, BOUNDS, MESSAGE, UNTIMED, WEBHOOK, Counted
from messaging.webhooks import figures as webhooks
from providers.models import Provider, ProviderBalance, ProviderHealth
from providers.sql import rows
from routing import rates
from routing.snapshot import tables

COUNTED = 10_000  # more than that is shown as one more: a scrape costs the same when something piles up
State = ProviderHealth.State
BREAKER: dict[str, int] = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}

Labels = Callable[[Counted], tuple[str, ...] | None]


class Collector:
    def collect(self) -> Iterator[Metric]:
        providers = {provider.pk: provider for provider in Provider.objects.only("slug", "enabled")}
        slugs = {pk: provider.slug for pk, provider in providers.items()} | {0: ""}
        counts = tally.totals()
        yield from _messages(counts, slugs)
        yield from _attempts(counts, slugs)
        yield from _latencies(counts, slugs)
        yield from _providers(providers)
        yield from _waiting()
        yield from _kafka()
        yield from _webhooks(counts)
        build = {"version": settings.VERSION, "python": platform.python_version()}
        yield InfoMetricFamily("messaging_build", "The version that answers.", value=build)


registry = CollectorRegistry()
registry.register(Collector())


# --- from the tally -------------------------------------------------------------------------------


def _messages(counts: Iterable[Counted], slugs: dict[int, str]) -> Iterator[Metric]:
    standing = tally.standing(counts, MESSAGE)
    state = GaugeMetricFamily(
        "messaging_messages_in_state", "Messages that are in this state now.", labels=("class", "state")
    )
    for lane in MessageClass:
        for status in Status:
            state.add_metric((lane, status), standing[lane, 0, status])
    yield state
    yield _counter(
        "messaging_messages_accepted",
        "Messages accepted from clients.",
        ("class",),
        counts,
        lambda one: (one.message_class,) if one.kind == MESSAGE and not one.origin else None,
    )
    yield _counter(
        "messaging_messages",
        "Messages that entered this state, and by which provider where one caused it.",
        ("class", "state", "provider"),
        counts,
        lambda one: (one.message_class, one.target, _slug(one, slugs)) if one.kind == MESSAGE else None,
    )


def _attempts(counts: Iterable[Counted], slugs: dict[int, str]) -> Iterator[Metric]:
    yield _counter(
        "messaging_attempts",
        "Attempts that came to this outcome; one may come to a second, as accepted and delivered.",
        ("provider", "outcome"),
        counts,
        lambda one: (_slug(one, slugs), one.target) if one.kind == ATTEMPT and one.target else None,
    )
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for one in counts:
        if one.cost:
            spent[_slug(one, slugs), one.currency] += float(one.cost)
    cost = GaugeMetricFamily(
        "messaging_cost",
        "What attempts cost since the beginning; a receipt may correct it downwards.",
        labels=("provider", "currency"),
    )
    for labels, value in sorted(spent.items()):
        cost.add_metric(labels, value)
    yield cost


def _latencies(counts: Iterable[Counted], slugs: dict[int, str]) -> Iterator[Metric]:
    yield _histogram(
        "messaging_submit_seconds",
        "From when a message was due to the provider's acceptance.",
        ("class",),
        counts,
        lambda one: (one.message_class,) if one.kind == MESSAGE and one.target == Status.SENT else None,
    )
    yield _histogram(
        "messaging_delivery_seconds",
        "From the provider's acceptance to its receipt of delivery.",
        ("class", "provider"),
        counts,
        lambda one: (
            (one.message_class, _slug(one, slugs)) if one.kind == MESSAGE and one.target == Status.DELIVERED else None
        ),
    )
    yield _histogram(
        "messaging_attempt_seconds",
        "From an attempt's intent to its outcome.",
        ("provider", "outcome"),
        counts,
        lambda one: (_slug(one, slugs), one.target) if one.kind == ATTEMPT else None,
    )


def _slug(one: Counted, slugs: dict[int, str]) -> str:
    return slugs.get(one.provider_id, "deleted")


def _counter(
    name: str,
    text: str,
    labels: tuple[str, ...],
    counts: Iterable[Counted],
    key: Labels,
    always: Iterable[tuple[str, ...]] = (),
) -> Metric:
    """`always` is shown as 0 where nothing was counted."""
    found: dict[tuple[str, ...], int] = defaultdict(int, dict.fromkeys(always, 0))
    for one in counts:
        values = key(one)
        if values is not None:
            found[values] += one.n
    family = CounterMetricFamily(name, text, labels=labels)
    for values, n in sorted(found.items()):
        family.add_metric(values, n)
    return family


@dataclass(slots=True)
class _Timed:
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0


def _histogram(name: str, text: str, labels: tuple[str, ...], counts: Iterable[Counted], key: Labels) -> Metric:
    found: dict[tuple[str, ...], _Timed] = defaultdict(_Timed, {} if labels else {(): _Timed()})
    for one in counts:
        values = key(one) if one.bucket != UNTIMED else None
        if values is not None:
            found[values].buckets[one.bucket] += one.n
            found[values].seconds += one.seconds
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, timed in sorted(found.items()):
        so_far, buckets = 0, []
        for bound, n in zip((*map(str, BOUNDS), "+Inf"), timed.buckets, strict=True):
            so_far += n
            buckets.append((bound, so_far))
        family.add_metric(values, buckets, timed.seconds)
    return family


# --- from the tables ------------------------------------------------------------------------------


def _providers(providers: dict[int, Provider]) -> Iterator[Metric]:
    """Few rows by nature: a breaker per provider, and per country where something happened."""
    breaker = GaugeMetricFamily(
        "messaging_breaker_state",
        "0 closed, 1 half open, 2 open; of a country (else empty) only while it is not closed.",
        labels=("provider", "country"),
    )
    enabled = GaugeMetricFamily("messaging_provider_enabled", "1 where staff let it be used.", labels=("provider",))
    states = {(row.provider_id, row.country): row.state for row in ProviderHealth.objects.all()}
    # A provider made a moment ago is not in `providers` yet.
    marked = {key: state for key, state in states.items() if state != State.CLOSED and key[0] in providers}
    for pk, country in sorted({(pk, "") for pk in providers} | marked.keys()):
        breaker.add_metric((providers[pk].slug, country), BREAKER[states.get((pk, country), State.CLOSED)])
    for provider in providers.values():
        enabled.add_metric((provider.slug,), provider.enabled)
    yield breaker
    yield enabled
    yield from _money(providers)


def _money(providers: dict[int, Provider]) -> Iterator[Metric]:
    balance = GaugeMetricFamily(
        "messaging_provider_balance", "What was left on the account when last asked.", labels=("provider", "currency")
    )
    for row in ProviderBalance.objects.exclude(amount=None):
        if row.provider_id in providers:
            balance.add_metric((providers[row.provider_id].slug, row.currency), float(row.amount or 0))
    age = GaugeMetricFamily(
        "messaging_exchange_rate_age_seconds",
        "How old the rate is of each currency that prices are in; infinite without one.",
        labels=("currency",),
    )
    for currency, old in rates.ages(tables.get(), datetime.now(UTC)).items():
        age.add_metric((currency,), old.total_seconds() if old else float("inf"))
    yield balance
    yield age


def _waiting() -> Iterator[Metric]:
    backlog = GaugeMetricFamily(
        "messaging_backlog_age_seconds", "How long the message that is due longest waits.", labels=("class",)
    )
    for lane, seconds in figures.waits().items():
        backlog.add_metric((lane,), seconds)
    yield backlog
    ((receipts, receipts_age, events, events_age, unfolded),) = rows(_QUEUES)
    for name, text, value in (
        ("messaging_receipts_waiting", f"Receipts that are due to be applied, counted to {COUNTED + 1}.", receipts),
        ("messaging_receipts_age_seconds", "How long the receipt that is due longest waits.", receipts_age),
        ("messaging_events_waiting", f"Events that are not published yet, counted to {COUNTED + 1}.", events),
        ("messaging_events_age_seconds", "Age of the oldest event that is not published.", events_age),
        ("messaging_tally_waiting", f"Counts that the sweeper has not folded, counted to {COUNTED + 1}.", unfolded),
    ):
        yield GaugeMetricFamily(name, text, value=value)


def _kafka() -> Iterator[Metric]:
    """By the word of the processes themselves; an installation without Kafka has none."""
    alive = [word for word in heartbeats.words() if word.alive]
    processes = GaugeMetricFamily(
        "messaging_kafka_processes", "Relays and bridges that were heard of lately.", labels=("role", "state")
    )
    for (role, state), count in sorted(Counter((word.role, word.state) for word in alive).items()):
        processes.add_metric((role, state), count)
    yield processes
    waiting = heartbeats.waiting([word for word in alive if word.role == heartbeats.BRIDGE])
    commands = GaugeMetricFamily("messaging_commands_waiting", "Commands in Kafka that no bridge has taken yet.")
    if waiting is not None:
        commands.add_metric((), waiting)
    yield commands
    ((letters,),) = rows(
        f"SELECT count(*) FROM (SELECT FROM messaging_deadletter WHERE replayed_at IS NULL LIMIT {COUNTED + 1}) d"  # noqa: S608  a literal
    )
    yield GaugeMetricFamily(
        "messaging_dead_letters", f"Commands that were not carried out, counted to {COUNTED + 1}.", value=letters
    )
    refused = GaugeMetricFamily(
        "messaging_kafka_refused",
        f"Records that Kafka refused for good and that are in no topic, counted to {COUNTED + 1}.",
        labels=("kind",),
    )
    for kind, table in (("event", "messaging_event"), ("dead_letter", "messaging_deadletter")):
        ((count,),) = rows(
            f"SELECT count(*) FROM (SELECT FROM {table} WHERE NOT refusal = '' LIMIT {COUNTED + 1}) r"  # noqa: S608  literals
        )
        refused.add_metric((kind,), count)
    yield refused


def _webhooks(counts: Iterable[Counted]) -> Iterator[Metric]:
    yield _counter(
        "messaging_webhook_attempts",
        "Requests to webhook endpoints: delivered, to be tried again, or given up.",
        ("outcome",),
        counts,
        lambda one: (one.target,) if one.kind == WEBHOOK else None,
        always=(("delivered",), ("failed",), ("retry",)),
    )
    yield _histogram(
        "messaging_webhook_seconds",
        "From an event to its delivery; what was replayed is left out.",
        (),
        counts,
        lambda one: () if one.kind == WEBHOOK else None,
    )
    waiting = webhooks.waiting()
    for name, text, value in (
        ("messaging_webhook_events_waiting", f"Events that are not fanned out, to {COUNTED + 1}.", waiting.events),
        ("messaging_webhook_deliveries_waiting", f"Deliveries that are due, counted to {COUNTED + 1}.", waiting.due),
        ("messaging_webhook_backlog_age_seconds", "How long what is due longest of both waits.", waiting.seconds),
        ("messaging_webhook_endpoints_failing", "Endpoints whose last try failed.", webhooks.failing()),
    ):
        yield GaugeMetricFamily(name, text, value=value)
    disabled = GaugeMetricFamily(
        "messaging_webhook_endpoints_disabled", "Endpoints that get nothing, and why.", labels=("reason",)
    )
    for reason, count in webhooks.disabled().items():
        disabled.add_metric((reason,), count)
    yield disabled


# indexes receipt_due, event_unpublished
_QUEUES = f"""
SELECT
  (SELECT count(*) FROM (SELECT FROM messaging_receipt
    WHERE applied_at IS NULL AND apply_at <= statement_timestamp() LIMIT {COUNTED + 1}) r),
  (SELECT greatest(0, coalesce(extract(epoch FROM statement_timestamp() - min(apply_at)), 0))::float8
    FROM messaging_receipt WHERE applied_at IS NULL),
  (SELECT count(*) FROM (SELECT FROM messaging_event WHERE published_at IS NULL LIMIT {COUNTED + 1}) e),
  coalesce((SELECT greatest(0, extract(epoch FROM statement_timestamp() - created_at))::float8
    FROM messaging_event WHERE published_at IS NULL ORDER BY id LIMIT 1), 0),
  (SELECT count(*) FROM (SELECT FROM messaging_tallydelta LIMIT {COUNTED + 1}) t)
"""  # noqa: S608  literals of this module
