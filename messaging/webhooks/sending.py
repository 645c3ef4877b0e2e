"""Claims deliveries that are due, builds their requests, and settles what came of them, many at a time.

No transaction is open while a request runs: a claim is a lease, and who dies lets it run out. What was sent and not
settled is sent again, with the same id. An endpoint gets a few requests at a time, and one that failed last a single
pair: however long it hangs, most slots are for the others.
"""

import logging
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from messaging.cloudevents import CONTENT_TYPE, Told, encode
from messaging.moves import fan_out
from messaging.tally import COUNT_WEBHOOKS
from messaging.webhooks import addresses, signatures
from providers.credentials import CredentialsError
from providers.outcomes import Ambiguous, GateRefused, Unavailable
from providers.sql import records, rows
from providers.transport import OWN_FAULTS, Call, Result, Transport, boottime
from providers.types import HttpRequest, HttpResponse

log = logging.getLogger(__name__)

CAREFUL = 2  # requests at a time to an endpoint whose last try failed
CAREFUL_SHARE = 2  # ... and to all of these together one slot in two
CONNECT_TIMEOUT = 5.0  # seconds
LEASE_MARGIN = 5.0  # seconds: a lease outlives its request and the settling of it
RELEASE_WAIT = 1.0  # seconds: nothing was tried, and what kept us from it may last
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Shot:
    """One claimed delivery; `call` is None where its request cannot be built, for `problem`."""

    delivery_id: int
    claims: int
    endpoint_id: UUID
    tries: int
    careful: bool
    started_at: datetime
    call: Call | None = field(default=None, repr=False)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a shot. `released`: nothing was tried, it is due again at once."""

    shot: Shot
    http_status: int | None = None
    error: str = ""
    seconds: float = 0.0
    retry_after: float = 0.0
    released: bool = False


# --- claim ----------------------------------------------------------------------------------------


def claim(free: int, busy: Mapping[UUID, int], careful_busy: int) -> list[Shot]:
    """At most `free` deliveries; `busy` says how many requests run at each endpoint, and `careful_busy` how many of
    them at those that failed last. In turns: each endpoint's first, then each one's second."""
    gate = boottime() + settings.GATE
    found = rows(
        _CLAIM,
        {
            "free": free,
            "careful_free": max(0, max(1, settings.WEBHOOK_SLOTS // CAREFUL_SHARE) - careful_busy),
            "most": settings.WEBHOOK_CONCURRENCY,
            "careful": CAREFUL,
            "busy": records({"id": endpoint_id, "n": n} for endpoint_id, n in busy.items()),
            "lease": settings.WEBHOOK_TIMEOUT + settings.GATE + LEASE_MARGIN,
        },
    )
    return [_shot(gate, *row) for row in found]


_CLAIM = """
WITH share AS (
  SELECT w.id, w.url, w.secrets, c.slug, w.failing_since IS NOT NULL AS careful,
    greatest(0, CASE WHEN w.failing_since IS NULL THEN %(most)s ELSE least(%(careful)s, %(most)s) END
      - coalesce(b.n, 0)) AS room
  FROM messaging_webhookendpoint w JOIN messaging_client c ON c.id = w.client_id AND c.enabled
  LEFT JOIN jsonb_to_recordset(%(busy)s::jsonb) AS b(id uuid, n int) ON b.id = w.id
  WHERE w.enabled AND w.deleted_at IS NULL
), due AS (
  SELECT s.*, d.id AS delivery_id, d.next_at, row_number() OVER (PARTITION BY s.id ORDER BY d.next_at) AS turn
  FROM share s CROSS JOIN LATERAL (
    SELECT d.id, d.next_at FROM messaging_webhookdelivery d
    WHERE d.endpoint_id = s.id AND d.status = 'pending' AND d.next_at <= statement_timestamp()
      AND (d.lease_until IS NULL OR d.lease_until < statement_timestamp())
    ORDER BY d.next_at LIMIT s.room FOR UPDATE SKIP LOCKED) d
), ranked AS (
  SELECT *, row_number() OVER (PARTITION BY careful ORDER BY turn, next_at) AS place FROM due
), taken AS (
  SELECT * FROM ranked WHERE place <= CASE WHEN careful THEN %(careful_free)s ELSE %(free)s END
  ORDER BY turn, next_at LIMIT %(free)s
)
UPDATE messaging_webhookdelivery d
SET claims = d.claims + 1, lease_until = clock_timestamp() + %(lease)s * interval '1 second'
FROM taken t, messaging_event e
WHERE d.id = t.delivery_id AND e.id = d.event_id
RETURNING d.id, d.claims, d.endpoint_id, d.tries, t.careful, clock_timestamp(), t.url, t.secrets,
  e.id, e.type, e.subject, e.sequence, t.slug, e.created_at, e.data::text
"""


def _shot(
    gate: float,
    delivery_id: int,
    claims: int,
    endpoint_id: UUID,
    tries: int,
    careful: bool,
    now: datetime,
    url: str,
    sealed: str,
    *event: Any,
) -> Shot:
    known = (delivery_id, claims, endpoint_id, tries, careful, now)
    if addresses.problem(url)[0]:  # the settings may be stricter than they were
        return Shot(*known, problem="address_refused")
    try:
        secrets = signatures.valid(signatures.unseal(endpoint_id, sealed), now)
    except CredentialsError:
        log.error("the secrets of a webhook endpoint cannot be read", extra={"endpoint_id": str(endpoint_id)})
        return Shot(*known, problem="secrets_unreadable")
    told = Told(*event)
    body = encode(told)
    headers = {"Content-Type": CONTENT_TYPE, **signatures.headers(secrets, str(told.id), now, body)}
    return Shot(*known, call=Call(HttpRequest("POST", url, headers, body), gate))


# --- the wire -------------------------------------------------------------------------------------

_transports: dict[float, Transport] = {}


def transport() -> Transport:
    """The process's own for webhooks: its connections and its loop are not those of the providers. It follows no
    redirect and repeats nothing."""
    total: float = settings.WEBHOOK_TIMEOUT
    if total not in _transports:
        connect = min(CONNECT_TIMEOUT, total)
        _transports[total] = Transport(
            connect=connect, read=total, total=total, admit=addresses.admit, status_only=True
        )
    return _transports[total]


def read(shot: Shot, result: Result, seconds: float) -> Outcome:
    """2xx within the time is a delivery, whatever the body says; everything else, a redirect too, is a failure."""
    match result:
        case HttpResponse():
            delivered = 200 <= result.status < 300
            error = "" if delivered else f"http_{result.status}"
            return Outcome(shot, result.status, error, seconds, _retry_after(result))
        case GateRefused():
            return Outcome(shot, released=True)
        case Unavailable() | Ambiguous():
            return Outcome(shot, error=result.code, seconds=seconds, released=result.code in OWN_FAULTS)


def _retry_after(response: HttpResponse) -> float:
    """Seconds that a 429 or 503 asks for (RFC 9110, section 10.2.3), no more than the longest pause of ours."""
    text = response.headers.get("retry-after", "") if response.status in (429, 503) else ""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return 0.0
    return min(float(text), max(settings.WEBHOOK_SCHEDULE))


# --- settle ---------------------------------------------------------------------------------------


def settle(outcomes: Collection[Outcome]) -> None:
    """Writes what came of them, in one transaction. Whoever lost the lease meanwhile writes nothing."""
    values = [_settled(outcome) for outcome in outcomes]
    with transaction.atomic():
        failed = rows(_SETTLE, {"rows": records(values)})
        if not failed:
            return
        endpoints = [
            {"id": endpoint_id, "failed": errors > 0, "worked": errors < tries, "gone": gone, "error": error}
            for endpoint_id, tries, errors, gone, error in failed
        ]
        disabled = rows(_HEALTH, {"rows": records(endpoints), "limit": settings.WEBHOOK_DISABLE_AFTER})
        for endpoint_id, reason in disabled:
            log.error("a webhook endpoint is disabled", extra={"endpoint_id": str(endpoint_id), "code": reason})


def _settled(outcome: Outcome) -> dict[str, Any]:
    shot = outcome.shot
    return {
        "id": shot.delivery_id,
        "claims": shot.claims,
        "tried": not outcome.released,
        "http_status": outcome.http_status,
        "error": outcome.error,
        "seconds": outcome.seconds,
        "started_at": shot.started_at,
        "wait": RELEASE_WAIT if outcome.released else pause(shot.tries, outcome.retry_after),
    }


def pause(tries: int, at_least: float = 0.0) -> float | None:
    """Seconds until the next try, after one that failed and `tries` before it; None: there is none."""
    if tries >= len(settings.WEBHOOK_SCHEDULE):
        return None
    return max(at_least, settings.WEBHOOK_SCHEDULE[tries] * random.uniform(1 - JITTER, 1 + JITTER))


# Rows are locked in the order of their ids, deliveries before endpoints: no two of these can deadlock.
_SETTLE = f"""
WITH r AS (
  SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id bigint, claims int, tried bool, http_status int, error text,
    seconds float8, started_at timestamptz, wait float8)
), held AS (
  SELECT r.* FROM messaging_webhookdelivery d JOIN r ON r.id = d.id AND r.claims = d.claims
  WHERE d.status || '' = 'pending' ORDER BY d.id FOR UPDATE OF d -- so that none is looked for by its status
), moved AS (
  UPDATE messaging_webhookdelivery d SET
    status = CASE WHEN r.tried AND r.error = '' THEN 'delivered' WHEN r.wait IS NULL THEN 'failed' ELSE 'pending' END,
    tries = d.tries + r.tried::int,
    next_at = clock_timestamp() + coalesce(r.wait, 0) * interval '1 second',
    lease_until = NULL,
    finished_at = CASE WHEN r.tried AND (r.error = '' OR r.wait IS NULL) THEN clock_timestamp() END
  FROM held r WHERE r.id = d.id
  RETURNING d.id, d.endpoint_id, d.tries, d.status, d.created_at, d.finished_at, d.replayed_at, r.tried, r.http_status,
    r.error, r.seconds AS took, r.started_at
), d AS (
  SELECT *, CASE status WHEN 'pending' THEN 'retry' ELSE status END AS outcome,
    CASE WHEN status = 'delivered' AND replayed_at IS NULL
      THEN extract(epoch FROM finished_at - created_at)::float8 END AS seconds
  FROM moved WHERE tried
), logged AS (
  INSERT INTO messaging_webhookattempt
    (delivery_id, endpoint_id, number, started_at, seconds, http_status, error_code)
  SELECT id, endpoint_id, tries, started_at, took, http_status, left(error, 60) FROM d
), tallied AS ({COUNT_WEBHOOKS}
)
SELECT endpoint_id, count(*), count(*) FILTER (WHERE error <> ''), bool_or(http_status IS NOT DISTINCT FROM 410),
  coalesce((array_agg(error ORDER BY started_at DESC) FILTER (WHERE error <> ''))[1], '')
FROM d GROUP BY endpoint_id
"""  # noqa: S608  literal fragments

# Written where it changes something: a success every minute, unless it ends failures.
_HEALTH = f"""
WITH r AS (
  SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, failed bool, worked bool, gone bool, error text)
), held AS (
  SELECT w.id, w.enabled, CASE WHEN r.gone THEN 'gone'
      WHEN NOT r.worked AND w.failing_since < clock_timestamp() - %(limit)s * interval '1 second' THEN 'failing'
      ELSE '' END AS reason
  FROM messaging_webhookendpoint w JOIN r ON r.id = w.id
  WHERE r.failed OR w.failing_since IS NOT NULL OR w.last_success_at IS NULL
    OR w.last_success_at < statement_timestamp() - interval '1 minute'
  ORDER BY w.id FOR NO KEY UPDATE OF w
), w AS (
  UPDATE messaging_webhookendpoint w SET
    failing_since = CASE WHEN NOT r.worked THEN coalesce(w.failing_since, clock_timestamp()) END,
    last_success_at = CASE WHEN r.worked THEN clock_timestamp() ELSE w.last_success_at END,
    last_failure_at = CASE WHEN r.failed THEN clock_timestamp() ELSE w.last_failure_at END,
    last_error = CASE WHEN r.failed THEN left(r.error, 60) ELSE w.last_error END,
    enabled = w.enabled AND h.reason = '',
    disabled_reason = CASE WHEN w.enabled THEN h.reason ELSE w.disabled_reason END,
    disabled_at = CASE WHEN w.enabled AND h.reason <> '' THEN clock_timestamp() ELSE w.disabled_at END
  FROM r, held h WHERE w.id = h.id AND r.id = w.id
  RETURNING w.id, w.client_id, w.disabled_reason AS reason, h.enabled AND h.reason <> '' AS disabled
), told AS (
  INSERT INTO messaging_event (id, type, subject, sequence, client_id, data, created_at, fan_out)
  SELECT uuidv7(), 'webhook.disabled', w.id::text,
    1 + (SELECT coalesce(max(p.sequence), 0) FROM messaging_event p WHERE p.subject = w.id::text), w.client_id,
    jsonb_build_object('endpoint', w.id, 'reason', w.reason), clock_timestamp(), {fan_out("w")}
  FROM w WHERE w.disabled
)
SELECT id, reason FROM w WHERE disabled
"""  # noqa: S608  literal fragments
