"""One carrier: reads a request, decides, writes the ledger, returns the reply. No sockets, no loop."""

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import orjson

from providers.simulator.config import CarrierConfig
from providers.simulator.faults import AFTER_ACCEPT, BEFORE_ACCEPT, Plan, Rule
from providers.simulator.http import BadRequest, Manner, Reply, Request
from providers.simulator.ledger import Entry, Ledger
from providers.simulator.wire import E164, Submit, acceptance, country_of, estimate_segments, read_submit, refusal

_RANK = {"sent": 0, "expired": 1, "undelivered": 1, "delivered": 2}


@dataclass(slots=True)
class Receipt:
    """One delivery receipt on its way; `delay` in seconds from acceptance."""

    carrier: "Carrier" = field(repr=False)
    url: str
    seq: int
    id: str
    reference: str
    status: str
    error_code: str
    price: str
    delay: float
    charge: str = "0"  # of the price: what is charged now
    network: str = ""

    def body(self) -> bytes:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        told = {
            "id": self.id,
            "reference": self.reference,
            "status": self.status,
            "error_code": self.error_code,
            "at": at,
        }
        if self.carrier.config.tells_prices:
            told |= {"price": self.price, "currency": self.carrier.config.currency}
        if self.network:
            told["mcc"], told["mnc"] = self.network.split("-")
        return orjson.dumps(told)


class Carrier:
    def __init__(
        self,
        config: CarrierConfig,
        seed: int,
        ledger: Ledger,
        accepted: Callable[[int, Entry], None],
        report: Callable[[Receipt], None],
    ) -> None:
        """`accepted` hears of each new SMS, `report` is given each receipt when the SMS is accepted."""
        self.config = config
        self.plan = Plan(f"{seed}:{config.slug}")
        self.counts: Counter[str] = Counter()
        self._ledger = ledger
        self._accepted = accepted
        self._report = report
        self._bearer = f"Bearer {config.token}"
        self._seqs: dict[str, tuple[int, ...]] = {}  # reference -> its accepted entries
        self._statuses: dict[int, str] = {}
        self._prices: dict[tuple[str, int], str | None] = {}
        self._charged = Decimal(0)
        self._delivered: set[int] = set()  # that were charged for it

    def reset(self) -> None:
        self._charged = Decimal(0)
        self._delivered.clear()
        self.plan.reset()
        self.counts.clear()
        self._seqs.clear()
        self._statuses.clear()

    def restore(self, entry: Entry) -> None:
        """Takes in one entry of an earlier run."""
        self.counts[entry["event"]] += 1
        if entry["event"] == "accepted":
            self._remember(entry["reference"], entry["seq"])
        elif entry["event"] == "receipt_sent":
            self.moved(entry["message_seq"], entry["status"])
        if "charge" in entry and "message_seq" in entry:
            self._delivered.add(entry["message_seq"])
        self._charged += Decimal(entry.get("charge", "0"))

    def moved(self, seq: int, status: str) -> None:
        """What a look-up shows from now on; a late "sent" does not take "delivered" back."""
        if _RANK[status] >= _RANK[self._statuses.get(seq, "sent")]:
            self._statuses[seq] = status

    def handle(self, request: Request) -> Reply:
        path, _, query = request.target.partition("?")
        if path not in ("/v1/messages", "/v1/balance"):
            return refusal("not_found")
        if request.headers.get("authorization") != self._bearer:
            self._write("refused", {"reference": request.headers.get("idempotency-key", "")}, code="bad_token")
            return refusal("bad_token")
        if path == "/v1/balance":
            return self._balance() if request.method == "GET" else refusal("method_not_allowed")
        if request.method == "POST":
            return self._submit(request)
        return self._look_up(query) if request.method == "GET" else refusal("method_not_allowed")

    def _balance(self) -> Reply:
        if self.config.balance is None:
            return refusal("not_supported")
        left = str(self.config.balance - self._charged)
        return Reply(200, orjson.dumps({"balance": left, "currency": self.config.currency}))

    def _submit(self, request: Request) -> Reply:
        try:
            submit = read_submit(request)
        except BadRequest as error:
            self._write("refused", {"reference": request.headers.get("idempotency-key", "")}, code="bad_request")
            return refusal("bad_request", str(error))
        latency, rule = self.plan.strike("send", submit.to)
        if rule is not None and rule.fault in BEFORE_ACCEPT:
            return self._not_accepted(rule, submit.entry(), latency, "dropped")
        segments = estimate_segments(submit.text)
        valid = E164.fullmatch(submit.to) is not None
        price = self._price(submit.to, segments) if valid else None
        if price is None:
            code = "no_route" if valid else "invalid_number"
            self._write("refused", submit.entry(), code=code)
            return refusal(code, latency=latency)
        fault = rule.fault if rule is not None else ""
        body = self._replay(submit, fault) or self._accept(submit, segments, price, fault)
        return _spoil(Reply(202, body, delay=latency), rule)

    def _replay(self, submit: Submit, fault: str) -> bytes | None:
        if self.config.mode != "key" or not submit.key or submit.reference not in self._seqs:
            return None
        first = self._ledger.read(self._seqs[submit.reference][0])
        self._write("replay", submit.entry(), id=first["id"], fault=fault)
        return self._acceptance(first)

    def _accept(self, submit: Submit, segments: int, price: str, fault: str) -> bytes:
        entry = submit.entry()
        entry["id"] = f"{self.config.slug}-{secrets.token_hex(8)}"
        entry["segments"] = segments
        entry["price"] = price
        entry["currency"] = self.config.currency
        seq = self._write("accepted", entry, fault=fault, charge=price)
        self._remember(submit.reference, seq)
        self._accepted(seq, entry)
        network = self._network(submit.to)
        for delay, status, code in receipt_schedule(self.config, self.plan.receipts(submit.to)):
            charge = self._on_delivery(submit.to, segments) if status == "delivered" else "0"
            total = str(Decimal(price) + Decimal(charge)) if Decimal(charge) else price
            receipt = Receipt(self, submit.receipt_url, seq, entry["id"], submit.reference, status, code, total, delay)
            receipt.charge, receipt.network = charge, network
            self._report(receipt)
        return self._acceptance(entry)

    def _acceptance(self, entry: Entry) -> bytes:
        return acceptance(entry, with_price=self.config.tells_prices)

    def _on_delivery(self, to: str, segments: int) -> str:
        prices = self.config.prices_delivered
        return str(prices.get(country_of(to), prices.get("*", Decimal(0))) * segments)

    def _network(self, to: str) -> str:
        found = [prefix for prefix in self.config.networks if to[1:].startswith(prefix)]
        return self.config.networks[max(found, key=len)] if found else ""

    def _look_up(self, query: str) -> Reply:
        reference = parse_qs(query).get("reference", [""])[0]
        latency, rule = self.plan.strike("lookup")
        if rule is not None and rule.fault in BEFORE_ACCEPT:
            return self._not_accepted(rule, {"reference": reference}, latency, "lookup")
        if self.config.mode != "lookup":
            self._write("lookup", {"reference": reference}, code="not_supported")
            return refusal("not_supported", latency=latency)
        visible = time.time() - self.config.lag
        entries = [self._ledger.read(seq) for seq in self._seqs.get(reference, ())]
        messages = [
            {"id": entry["id"], "reference": reference, "status": self._statuses.get(entry["seq"], "sent")}
            for entry in entries
            if entry["at"] <= visible
        ]
        self._write("lookup", {"reference": reference}, found=len(messages), fault=rule.fault if rule else "")
        return _spoil(Reply(200, orjson.dumps({"messages": messages}), delay=latency), rule)

    def _not_accepted(self, rule: Rule, entry: Entry, latency: float, unanswered: str) -> Reply:
        """Nothing was accepted: either the caller is told so, or hears nothing at all."""
        match rule.fault:
            case "drop_before_accept":
                reply = Reply(manner=Manner.RESET, delay=latency)
            case "read_and_close":
                reply = Reply(manner=Manner.CLOSE, delay=latency)
            case "hang_before_accept":
                reply = Reply(manner=Manner.HANG)
            case "throttle":
                reply = refusal("throttled", latency=latency, headers=f"Retry-After: {rule.seconds:g}\r\n")
            case "out_of_balance":
                reply = refusal("out_of_balance", latency=latency)
            case "reject":
                reply = refusal(rule.code, latency=latency)
            case _:
                reply = refusal("internal", latency=latency)
        event = unanswered if reply.manner is not Manner.WHOLE or unanswered == "lookup" else "refused"
        code = orjson.loads(reply.body)["error"]["code"] if reply.body else ""
        self._write(event, entry, code=code, fault=rule.fault)
        return reply

    def _write(self, event: str, entry: Entry, **more: Any) -> int:
        self.counts[event] += 1
        self._charged += Decimal(more.get("charge", "0"))
        return self._ledger.append(carrier=self.config.slug, event=event, **entry, **more)

    def receipt_result(self, receipt: Receipt, event: str, http_status: int, tries: int) -> None:
        """Writes what became of a receipt: `receipt_sent`, or `receipt_failed` when all tries are used."""
        self._write(
            event,
            {"id": receipt.id, "reference": receipt.reference, "message_seq": receipt.seq},
            status=receipt.status,
            error_code=receipt.error_code,
            http_status=http_status,
            tries=tries,
            **self._charge(receipt),
        )

    def _charge(self, receipt: Receipt) -> dict[str, str]:
        """A delivery is charged once, whether its receipt arrives or not."""
        if receipt.charge == "0" or receipt.seq in self._delivered:
            return {}
        self._delivered.add(receipt.seq)
        return {"charge": receipt.charge, "currency": self.config.currency}

    def _remember(self, reference: str, seq: int) -> None:
        self._seqs[reference] = (*self._seqs.get(reference, ()), seq)

    def _price(self, to: str, segments: int) -> str | None:
        """The price of the whole message, None for a country that is not served."""
        key = (to[:4], segments)
        if key not in self._prices:
            price = self.config.prices.get(country_of(to), self.config.prices.get("*"))
            self._prices[key] = None if price is None else str(price * Decimal(segments))
        return self._prices[key]


def receipt_schedule(config: CarrierConfig, faults: dict[str, Rule]) -> list[tuple[float, str, str]]:
    """The receipts of one message as (seconds from acceptance, status, error code), in their order of sending."""
    if "receipt_never" in faults:
        return []
    statuses = [(status, "") for status in config.receipts]
    if "receipt_negative" in faults:
        rule = faults["receipt_negative"]
        statuses = [(status, "") for status, _ in statuses if status == "sent"] + [(rule.status, rule.code)]
    if "receipt_disorder" in faults:
        statuses = [*(item for item in reversed(statuses) if item[0] != "sent"), ("sent", "")]
    if "receipt_duplicate" in faults:
        statuses = [item for item in statuses for _ in range(2)]
    first = config.receipt_after + (faults["receipt_delay"].seconds if "receipt_delay" in faults else 0.0)
    return [(first + 0.2 * place, status, code) for place, (status, code) in enumerate(statuses)]


def _spoil(reply: Reply, rule: Rule | None) -> Reply:
    """What an after-accept fault makes of a good answer."""
    if rule is None or rule.fault not in AFTER_ACCEPT:
        return reply
    match rule.fault:
        case "server_error_after_accept":
            return refusal("internal", latency=reply.delay)
        case "drop_after_accept":
            return Reply(manner=Manner.RESET, delay=reply.delay)
        case "hang_after_accept":
            return Reply(manner=Manner.HANG)
        case "slow_bytes":
            return Reply(reply.status, reply.body, delay=reply.delay, manner=Manner.SLOW, seconds=rule.seconds)
        case _:
            return Reply(reply.status, b'{"id": "' + reply.body[:20], delay=reply.delay)
