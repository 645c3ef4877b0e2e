import hmac
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from providers.adapters.base import Resolve, SignatureError
from providers.adapters.simulator import TOLERANCE, Simulator
from providers.outcomes import (
    Accepted,
    Ambiguous,
    Found,
    NotFound,
    ReceiptStatus,
    Rejected,
    Scope,
    Throttled,
    Undecided,
)
from providers.simulator.background import Background, carriers
from providers.simulator.config import SimulatorConfig, load
from providers.simulator.faults import REJECT_CODES
from providers.simulator.receipts import sign
from providers.types import Account, HttpRequest, HttpResponse, Webhook
from tests.contract import REFERENCE, SUBMISSION, AdapterContract

TOKEN = "token-of-the-carrier"
MESSAGE = {"id": "carrier-a-0123456789abcdef", "reference": REFERENCE, "status": "delivered"}


def answer(body: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json"}, json.dumps(body).encode())


def signed(webhook: Webhook, token: str, at: float) -> Webhook:
    timestamp = str(int(at))
    digest = hmac.new(token.encode(), timestamp.encode() + b"." + webhook.body, "sha256").hexdigest()
    return replace(webhook, headers={"x-carrier-timestamp": timestamp, "x-carrier-signature": digest})


class TestSimulator(AdapterContract):
    adapter = Simulator
    credentials: ClassVar[Mapping[str, str]] = {"token": TOKEN}
    accepted = answer(
        {"id": MESSAGE["id"], "reference": REFERENCE, "segments": 2, "price": "0.0760", "currency": "EUR"}, 202
    )
    accepted_reference = MESSAGE["id"]
    documented_errors = frozenset((*REJECT_CODES, "out_of_balance"))
    receipt_words: ClassVar[Mapping[str, ReceiptStatus]] = {
        "sent": ReceiptStatus.SENT,
        "delivered": ReceiptStatus.DELIVERED,
        "undelivered": ReceiptStatus.UNDELIVERED,
        "expired": ReceiptStatus.EXPIRED,
    }
    listed = answer({"messages": [MESSAGE]})
    unlisted = answer({"messages": []})
    signs_url = False

    def error(self, status: int, code: str, words: str) -> HttpResponse:
        return answer({"error": {"code": code, "message": words}}, status)

    def receipt(self, word: str) -> Webhook:
        body = {
            **MESSAGE,
            "status": word,
            "error_code": "",
            "at": "2026-11-22T13:10:09Z",
            "price": "0.0760",
            "currency": "EUR",
            "to": SUBMISSION.to,
            "text": SUBMISSION.text,
        }
        return Webhook(SUBMISSION.receipt_url, {}, json.dumps(body).encode(), REFERENCE)

    def sign(self, webhook: Webhook, credentials: Mapping[str, str]) -> Webhook:
        return signed(webhook, credentials["token"], time.time())

    def test_adapter_without_a_lookup_refuses_by_name(self) -> None:
        """A carrier in mode lookup is this same adapter, its row says so: the question can always be built."""
        request = self.make().build_lookup(SUBMISSION)

        assert (request.method, request.url.partition("?")[2]) == ("GET", f"reference={REFERENCE}")

    def test_price_and_segments_of_an_acceptance_are_read(self) -> None:
        outcome = self.make().read_send(self.accepted)

        assert outcome == Accepted(self.accepted_reference, Decimal("0.0760"), "EUR", 2)

    def test_receipt_carries_time_price_and_error(self) -> None:
        webhook = self.receipt("undelivered")
        body = {**webhook.json(), "error_code": "opted_out"}

        [receipt] = self.make().read_receipts(replace(webhook, body=json.dumps(body).encode(), our_reference=""))

        assert (receipt.our_reference, receipt.provider_reference) == (REFERENCE, MESSAGE["id"])
        assert receipt.occurred_at == datetime(2026, 11, 22, 13, 10, 9, tzinfo=UTC)
        assert (receipt.price, receipt.currency) == (Decimal("0.0760"), "EUR")
        assert (receipt.error_code, receipt.opted_out) == ("opted_out", True)

    @pytest.mark.parametrize("age", [-TOLERANCE - 5, TOLERANCE + 5])
    def test_receipt_of_another_time_is_refused(self, age: int) -> None:
        with pytest.raises(SignatureError, match="timestamp"):
            self.make().verify_receipt(signed(self.receipt("sent"), TOKEN, time.time() - age))

    @pytest.mark.parametrize("timestamp", ["", "soon", "-5", "1e9", "\uff11\uff12", "\udcff"])
    def test_timestamp_that_is_no_number_is_refused(self, timestamp: str) -> None:
        webhook = self.receipt("sent")
        message = timestamp.encode(errors="replace") + b"." + webhook.body
        digest = hmac.new(TOKEN.encode(), message, "sha256").hexdigest()
        headers = {"x-carrier-timestamp": timestamp, "x-carrier-signature": digest}

        with pytest.raises(SignatureError):
            self.make().verify_receipt(replace(webhook, headers=headers))


class LookedUp(Simulator):
    resolve = Resolve.LOOKUP


class TestSimulatorWithLookup(TestSimulator):
    adapter = LookedUp


# --- against the carriers themselves --------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[Background]:
    config = load()
    with carriers(SimulatorConfig(1, tuple(replace(carrier, lag=0.0) for carrier in config.carriers))) as running:
        yield running


@pytest.fixture
def running(shared: Background) -> Background:
    shared.call("POST", "/api/reset")
    return shared


def adapter(running: Background, slug: str, token: str = "") -> Simulator:
    return Simulator(Account(slug, running.url(slug), {"token": token or f"{slug}-token"}))


def perform(request: HttpRequest) -> HttpResponse:
    assert urlsplit(request.url).hostname == "127.0.0.1"
    call = urllib.request.Request(request.url, request.body or None, dict(request.headers), method=request.method)
    try:
        with urllib.request.urlopen(call, timeout=5) as response:
            return HttpResponse(response.status, lower(response.headers), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return HttpResponse(error.code, lower(error.headers), error.read())


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


SENT = replace(SUBMISSION, receipt_url="")


def test_carrier_accepts_what_the_adapter_builds(running: Background) -> None:
    simulator = adapter(running, "carrier-a")

    outcome = simulator.read_send(perform(simulator.build_send(SENT)))

    [entry] = running.ledger()
    assert outcome == Accepted(entry["id"], Decimal("0.0380"), "EUR", 1)
    assert (entry["to"], entry["text"], entry["sender"]) == (SENT.to, SENT.text, SENT.sender)


def test_repost_under_the_key_is_the_same_message(running: Background) -> None:
    simulator = adapter(running, "carrier-a")

    outcomes = [simulator.read_send(perform(simulator.build_send(SENT))) for _ in range(2)]

    assert outcomes[0] == outcomes[1]
    assert [entry["event"] for entry in running.ledger()] == ["accepted", "replay"]


def test_lookup_tells_what_became_of_a_lost_answer(running: Background) -> None:
    simulator = adapter(running, "carrier-b")
    before = simulator.read_lookup(SENT, perform(simulator.build_lookup(SENT)))
    running.faults("carrier-b", {"fault": "server_error_after_accept"})
    lost = simulator.read_send(perform(simulator.build_send(SENT)))

    after = simulator.read_lookup(SENT, perform(simulator.build_lookup(SENT)))

    assert (before, type(lost)) == (NotFound(), Ambiguous)
    assert after == Found(running.ledger("event=accepted")[0]["id"], ReceiptStatus.SENT)


def test_carrier_without_a_lookup_proves_nothing(running: Background) -> None:
    simulator = adapter(running, "carrier-c")

    answered = simulator.read_lookup(SENT, perform(simulator.build_lookup(SENT)))

    assert isinstance(answered, Undecided)


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        ("bad_token", Scope.ACCOUNT),
        ("invalid_number", Scope.NUMBER),
        ("blocked", Scope.NUMBER),
        ("opted_out", Scope.NUMBER),
        ("sender_not_allowed", Scope.ROUTE),
        ("no_route", Scope.ROUTE),
    ],
)
def test_every_refusal_of_the_carrier_is_understood(running: Background, code: str, scope: Scope) -> None:
    simulator = adapter(running, "carrier-a")
    running.faults("carrier-a", {"fault": "reject", "code": code})

    outcome = simulator.read_send(perform(simulator.build_send(SENT)))

    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.scope, outcome.opted_out) == (code, scope, code == "opted_out")


def test_other_refusals_of_the_carrier_are_understood(running: Background) -> None:
    simulator = adapter(running, "carrier-a")
    stranger = adapter(running, "carrier-a", token="wrong")
    outcomes = [stranger.read_send(perform(stranger.build_send(SENT)))]

    for fault in ("out_of_balance", "throttle", "server_error_before_accept", "wrong_json"):
        running.faults("carrier-a", {"fault": fault, **({"seconds": 7} if fault == "throttle" else {})})
        outcomes.append(simulator.read_send(perform(simulator.build_send(SENT))))

    assert [(type(outcome), getattr(outcome, "scope", None)) for outcome in outcomes] == [
        (Rejected, Scope.ACCOUNT),
        (Rejected, Scope.ACCOUNT),
        (Throttled, None),
        (Ambiguous, None),
        (Ambiguous, None),
    ]
    assert getattr(outcomes[2], "retry_after", 0) == 7


def test_carriers_own_signature_is_accepted() -> None:
    simulator = Simulator(Account("carrier-a", "", {"token": TOKEN}))
    timestamp, body = str(int(time.time())), b'{"id": "x"}'
    headers = {"x-carrier-timestamp": timestamp, "x-carrier-signature": sign(TOKEN, timestamp, body)}

    simulator.verify_receipt(Webhook("https://sms.example.com/receipts/carrier-a", headers, body))
