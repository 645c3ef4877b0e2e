"""Match a receipt to its attempt, and move the message.

The door stores it and answers; here groups of them are applied. Early, late, repeated and disordered
receipts are normal: an attempt keeps the strongest word it heard, and a final word stays.
"""

import hashlib
import logging
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import transaction

from messaging import failover
from messaging.errors import UnknownObject
from messaging.models import Message, Suppression
from messaging.moves import Locked, Move
from messaging.planning import depth
from messaging.states import LIFTED_BY_DELIVERY, AttemptStatus, Status
from messaging.tally import ATTEMPT_CHANGE, COUNT_ATTEMPTS
from providers.outcomes import ReceiptStatus
from providers.sql import records, rows
from providers.types import ParsedReceipt, Webhook
from routing import networks
from routing.snapshot import tables

log = logging.getLogger(__name__)

GROUP = 200
# A receipt may come before our own commit, or for another system: it is looked for again after these seconds.
RETRIES = (10, 60, 600)
LAST_RETRY = 3600
WAIT_FOR_SETTLE = 5  # seconds; settle applies it sooner
STRENGTH = {
    "": 0,
    ReceiptStatus.UNKNOWN: 1,
    ReceiptStatus.SENT: 2,
    ReceiptStatus.UNDELIVERED: 3,
    ReceiptStatus.EXPIRED: 3,
    ReceiptStatus.DELIVERED: 4,
}
CLOSES = {
    ReceiptStatus.DELIVERED: AttemptStatus.DELIVERED,
    ReceiptStatus.UNDELIVERED: AttemptStatus.UNDELIVERED,
    ReceiptStatus.EXPIRED: AttemptStatus.EXPIRED,
}
_NOT_BROUGHT = (AttemptStatus.UNDELIVERED, AttemptStatus.EXPIRED)


def read(provider: str, webhook: Webhook) -> list[tuple[int, ParsedReceipt]]:
    """What a provider reports, in our words, each with the provider's id.

    Raises UnknownObject for a provider that is none; SignatureError, UnreadableReceipt.
    """
    route = tables.get().by_slug(provider)
    if route is None or route.adapter is None:
        raise UnknownObject
    route.adapter.verify_receipt(webhook)
    return [(route.id, receipt) for receipt in route.adapter.read_receipts(webhook)]


def store(receipts: Sequence[tuple[int, ParsedReceipt]]) -> int:
    """Stores receipts, each with its provider's id, in one durable statement; returns how many were new."""
    if not receipts:
        return 0
    values = [
        {
            "provider_id": provider_id,
            "dedupe_key": "\\x" + _dedupe_key(provider_id, receipt),
            "our_reference": _uuid(receipt.our_reference),
            "provider_reference": receipt.provider_reference[:100],
            "status": receipt.status,
            "provider_status": receipt.provider_status[:60],
            "error_code": receipt.error_code[:60],
            "opted_out": receipt.opted_out,
            "cost": receipt.price,
            "currency": receipt.currency[:3],
            "segments": receipt.segments,
            "mcc": receipt.mcc,
            "mnc": receipt.mnc,
            "occurred_at": receipt.occurred_at,
            "raw": receipt.raw,
        }
        for provider_id, receipt in receipts
    ]
    # In the order of their keys: two groups with the same receipts wait for each other but never deadlock.
    stored = rows(
        """
        INSERT INTO messaging_receipt (provider_id, dedupe_key, our_reference, provider_reference, status,
          provider_status, error_code, opted_out, cost, currency, segments, mcc, mnc, occurred_at, raw, received_at,
          apply_at)
        SELECT r.provider_id, r.dedupe_key, r.our_reference, r.provider_reference, r.status, r.provider_status,
          r.error_code, r.opted_out, r.cost, r.currency, r.segments, r.mcc, r.mnc, r.occurred_at, r.raw,
          clock_timestamp(), clock_timestamp()
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(provider_id bigint, dedupe_key bytea, our_reference uuid,
          provider_reference text, status text, provider_status text, error_code text, opted_out bool, cost numeric,
          currency text, segments int, mcc text, mnc text, occurred_at timestamptz, raw jsonb)
        ORDER BY r.dedupe_key
        ON CONFLICT (dedupe_key) DO NOTHING RETURNING id""",
        {"rows": records(values)},
        planned_once=True,
    )
    return len(stored)


def apply_due() -> tuple[int, set[str]]:
    """Applies one group of stored receipts; returns how many it looked at, and the lanes to wake."""
    lanes: set[str] = set()
    with transaction.atomic():
        due = rows(
            f"""
            SELECT {_COLUMNS} FROM messaging_receipt
            WHERE applied_at IS NULL AND apply_at <= statement_timestamp()
            ORDER BY apply_at, id LIMIT {GROUP} FOR UPDATE SKIP LOCKED""",  # noqa: S608  literals of this module
        )
        receipts = [_Receipt(*row) for row in due]
        if receipts:
            attempt_of = _match(receipts)
            locked = Message.objects.lock({message for _, message in attempt_of.values()})
            lanes = _apply(receipts, attempt_of, locked)
    return len(receipts), lanes


def apply_early(attempts: Collection[tuple[int, uuid.UUID, uuid.UUID, uuid.UUID]]) -> None:
    """Applies the receipts that came while (provider, our_reference, attempt, message) were still open.

    Runs inside settle's transaction, which holds those messages. A receipt that `apply_due` holds is
    skipped: that transaction waits for ours and then applies it itself.
    """
    found = rows(
        f"""
        SELECT {_COLUMNS} FROM messaging_receipt
        WHERE applied_at IS NULL AND our_reference = ANY(%(references)s)
        ORDER BY id FOR UPDATE SKIP LOCKED""",  # noqa: S608  literals of this module
        {"references": [reference for _, reference, _, _ in attempts]},
    )
    known = {(provider, reference): (attempt, message) for provider, reference, attempt, message in attempts}
    receipts = [r for r in (_Receipt(*row) for row in found) if (r.provider_id, r.our_reference) in known]
    if receipts:
        attempt_of = {r.id: known[r.provider_id, r.our_reference] for r in receipts if r.our_reference}
        _apply(receipts, attempt_of, Message.objects.lock({message for _, message in attempt_of.values()}))


_COLUMNS = """id, provider_id, our_reference, provider_reference, status, error_code, opted_out, cost, currency,
    segments, coalesce(occurred_at, received_at), tries, received_at < clock_timestamp() - interval '72 hours',
    mcc, mnc"""


@dataclass(frozen=True, slots=True)
class _Receipt:
    id: int
    provider_id: int
    our_reference: uuid.UUID | None
    provider_reference: str
    status: str
    error_code: str
    opted_out: bool
    cost: Any
    currency: str
    segments: int | None
    at: Any
    tries: int
    hopeless: bool
    mcc: str
    mnc: str


@dataclass(slots=True)
class _Attempt:
    id: uuid.UUID
    message_id: uuid.UUID
    status: str
    receipt_status: str
    changes: dict[str, Any] = field(default_factory=dict)


def _match(receipts: Sequence[_Receipt]) -> dict[int, tuple[uuid.UUID, uuid.UUID]]:
    """Receipt id -> (attempt id, message id): by our reference, else by the provider's own."""
    found = rows(
        """
        WITH r AS (
          SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS r(id bigint, provider_id bigint, our_reference uuid, provider_reference text)
        ), found AS ( -- two joins, each by an index of its own: one with OR would read the whole table
          SELECT r.id, a.id AS attempt_id, a.message_id
          FROM r JOIN messaging_attempt a ON a.our_reference = r.our_reference AND a.provider_id = r.provider_id
          UNION ALL
          SELECT r.id, a.id, a.message_id
          FROM r JOIN messaging_attempt a
            ON a.provider_id = r.provider_id AND a.provider_reference = r.provider_reference
          WHERE r.our_reference IS NULL AND r.provider_reference <> '' AND a.provider_reference <> ''
        )
        SELECT DISTINCT ON (id) id, attempt_id, message_id FROM found ORDER BY id, attempt_id DESC""",
        {
            "rows": records(
                {
                    "id": r.id,
                    "provider_id": r.provider_id,
                    "our_reference": r.our_reference,
                    "provider_reference": r.provider_reference,
                }
                for r in receipts
            )
        },
    )
    return {receipt: (attempt, message) for receipt, attempt, message in found}


def _apply(
    receipts: Sequence[_Receipt],
    attempt_of: dict[int, tuple[uuid.UUID, uuid.UUID]],
    locked: dict[uuid.UUID, Locked],
) -> set[str]:
    # Read after the messages are locked: whoever changes an attempt holds its message.
    states = rows(
        "SELECT id, message_id, status, receipt_status FROM messaging_attempt WHERE id = ANY(%(ids)s)",
        {"ids": [attempt for attempt, _ in attempt_of.values()]},
    )
    attempts = {row[0]: _Attempt(*row) for row in states}
    now_at = {message_id: Status(message.status) for message_id, message in locked.items()}
    others = failover.elsewhere(_refused(receipts, attempt_of, attempts, locked))
    moves: dict[uuid.UUID, Move] = {}
    done: list[dict[str, Any]] = []
    for receipt in receipts:
        match = attempt_of.get(receipt.id)
        if match is None:
            done.append(_later(receipt))
            continue
        attempt = attempts[match[0]]
        status = now_at[attempt.message_id]
        if attempt.status == AttemptStatus.INTENT or (
            status == Status.SENDING and receipt.status == ReceiptStatus.DELIVERED
        ):
            done.append({"id": receipt.id, "attempt_id": attempt.id, "wait": WAIT_FOR_SETTLE, "tries": receipt.tries})
            continue
        move = _hear(receipt, attempt, status, others)
        if move:
            moves[attempt.message_id] = move
            now_at[attempt.message_id] = move.to
        done.append({"id": receipt.id, "attempt_id": attempt.id, "wait": None, "tries": receipt.tries})
    _save(attempts, done)
    Message.objects.transition(moves.values())
    opted_out = [attempt_of[r.id][1] for r in receipts if r.opted_out and r.id in attempt_of]
    suppress(opted_out, source="receipt")
    _locate([(attempt_of[r.id][1], r.mcc, r.mnc) for r in receipts if r.mcc and r.id in attempt_of])
    return {locked[message].message_class for message, move in moves.items() if move.to == Status.QUEUED}


def _refused(
    receipts: Sequence[_Receipt],
    attempt_of: dict[int, tuple[uuid.UUID, uuid.UUID]],
    attempts: dict[uuid.UUID, _Attempt],
    locked: dict[uuid.UUID, Locked],
) -> dict[uuid.UUID, int]:
    """Messages that may go on to another provider, and the one that does not bring them there."""
    found = {}
    for receipt in receipts:
        if receipt.status not in (ReceiptStatus.UNDELIVERED, ReceiptStatus.EXPIRED) or receipt.id not in attempt_of:
            continue
        attempt, message = attempts[attempt_of[receipt.id][0]], locked[attempt_of[receipt.id][1]]
        allowed = message.fails_over and not message.overdue and message.spent + 1 < depth(message.message_class)
        if allowed and attempt.status == AttemptStatus.ACCEPTED and not receipt.opted_out:
            found[message.id] = receipt.provider_id
    return found


def _hear(receipt: _Receipt, attempt: _Attempt, status: Status, others: Collection[uuid.UUID]) -> Move | None:
    """Notes the receipt on its attempt; returns what it does to the message, if anything.

    `others`: the messages that another provider may take when this one could not bring them.
    """
    word = ReceiptStatus(receipt.status)
    if STRENGTH[word] > STRENGTH[attempt.receipt_status]:
        attempt.receipt_status = word
        attempt.changes |= {"receipt_status": word, "receipt_at": receipt.at}
    if receipt.cost is not None:
        attempt.changes |= {"cost": receipt.cost, "currency": receipt.currency or None}
    if receipt.segments:
        attempt.changes["segments"] = receipt.segments
    moved = partial(Move, attempt.message_id, provider_id=receipt.provider_id)
    was = attempt.status
    if was in (AttemptStatus.UNKNOWN, AttemptStatus.ACCEPTED):
        # Whatever a provider reports about it, it had accepted it.
        attempt.status = CLOSES.get(word, AttemptStatus.ACCEPTED)
        attempt.changes["status"] = attempt.status
        if attempt.status != AttemptStatus.ACCEPTED:
            attempt.changes["error_code"] = receipt.error_code
    elif was == AttemptStatus.NOT_SENT:
        log.error("receipt for an attempt that was proved not sent", extra={"attempt_id": attempt.id})
        if word not in CLOSES or (word == ReceiptStatus.DELIVERED and status != Status.QUEUED):
            Message.objects.filter(id=attempt.message_id).update(possible_duplicate=True)
    if word == ReceiptStatus.DELIVERED:
        return moved(Status.DELIVERED) if status in LIFTED_BY_DELIVERY else None
    if was not in (AttemptStatus.UNKNOWN, AttemptStatus.ACCEPTED):
        return None
    if attempt.status in _NOT_BROUGHT and status == Status.SENT and attempt.message_id in others:
        return moved(Status.QUEUED, delay=0, mark="tried", spent=1)
    match word:
        case ReceiptStatus.SENT | ReceiptStatus.UNKNOWN:
            return moved(Status.SENT) if status in (Status.UNKNOWN, Status.HELD) else None
        case ReceiptStatus.EXPIRED if status == Status.SENT:
            return moved(Status.EXPIRED, error_code=receipt.error_code)
        case _ if status in (Status.SENT, Status.UNKNOWN, Status.HELD):
            return moved(Status.UNDELIVERED, error_code=receipt.error_code)
    return None


def _later(receipt: _Receipt) -> dict[str, Any]:
    wait = RETRIES[receipt.tries] if receipt.tries < len(RETRIES) else LAST_RETRY
    return {
        "id": receipt.id,
        "attempt_id": None,
        "wait": None if receipt.hopeless else wait,
        "tries": min(receipt.tries + 1, 1000),
    }


def _save(attempts: dict[uuid.UUID, _Attempt], done: list[dict[str, Any]]) -> None:
    changed = [{"id": attempt.id, **attempt.changes} for attempt in attempts.values() if attempt.changes]
    if changed:
        rows(
            f"""
            WITH a AS (
            UPDATE messaging_attempt a SET
              status = coalesce(r.status, a.status), receipt_status = coalesce(r.receipt_status, a.receipt_status),
              receipt_at = coalesce(r.receipt_at, a.receipt_at),
              cost = coalesce(r.cost,
                -- What is due on delivery comes on top of what our book has said for the submit.
                CASE WHEN r.receipt_status = 'delivered' AND a.price_delivered > 0
                  AND (a.cost IS NULL AND r.status IS NOT NULL OR a.cost = (a.price - a.price_delivered) * a.segments)
                  THEN a.price * coalesce(r.segments, a.segments) END,
                a.cost,
                CASE WHEN r.status IS NOT NULL
                  THEN (a.price - a.price_delivered) * coalesce(r.segments, a.segments) END),
              currency = coalesce(r.currency, a.currency), segments = coalesce(r.segments, a.segments),
              error_code = coalesce(r.error_code, a.error_code),
              finished_at = coalesce(a.finished_at, clock_timestamp()),
              resolve_at = CASE WHEN r.status IS NULL THEN a.resolve_at END
            FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, status text, receipt_status text,
              receipt_at timestamptz, cost numeric, currency text, segments int, error_code text)
            WHERE a.id = r.id
            RETURNING {ATTEMPT_CHANGE}, NULL::float8 AS seconds)
            {COUNT_ATTEMPTS}""",  # noqa: S608  literal fragments
            {"rows": records(changed)},
        )
    rows(
        """
        UPDATE messaging_receipt t SET attempt_id = r.attempt_id, tries = r.tries,
          applied_at = CASE WHEN r.wait IS NULL THEN clock_timestamp() END,
          apply_at = clock_timestamp() + coalesce(r.wait, 0) * interval '1 second'
        FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id bigint, attempt_id uuid, wait float8, tries int)
        WHERE t.id = r.id""",
        {"rows": records(done)},
    )


def _locate(told: Collection[tuple[uuid.UUID, str, str]]) -> None:
    """The provider knows the network of these numbers: their messages have it, and the next ones are priced by it."""
    if told:
        found = rows(
            """
            UPDATE messaging_message m SET mcc = r.mcc, mnc = r.mnc
            FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, mcc text, mnc text)
            WHERE m.id = r.id RETURNING m."to", m.mcc, m.mnc""",
            {"rows": records({"id": message, "mcc": mcc, "mnc": mnc} for message, mcc, mnc in dict.fromkeys(told))},
        )
        networks.remember(networks.Seen(*row) for row in found)


def suppress(message_ids: Collection[uuid.UUID], *, source: str) -> None:
    """The person behind these messages has opted out: nobody writes to that number any more."""
    if message_ids:
        numbers = Message.objects.filter(id__in=message_ids).values_list("to", flat=True)
        Suppression.objects.bulk_create(
            [Suppression(msisdn=number, reason="opted_out", source=source) for number in sorted(set(numbers))],
            ignore_conflicts=True,
        )


def _dedupe_key(provider_id: int, receipt: ParsedReceipt) -> str:
    words = (
        str(provider_id),
        receipt.provider_reference,
        receipt.our_reference,
        receipt.status,
        receipt.provider_status,
        receipt.occurred_at.isoformat() if receipt.occurred_at else "",
    )
    return hashlib.sha256("\x1f".join(words).encode("utf-8", "surrogatepass")).hexdigest()


def _uuid(reference: str) -> str | None:
    """Our reference as it is stored; None for anything that is not one of ours."""
    try:
        return str(uuid.UUID(hex=reference)) if len(reference) == 32 else None
    except ValueError:
        return None
