"""What a carrier decides, without any socket."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from providers.simulator.carrier import Carrier, Receipt, receipt_schedule
from providers.simulator.config import CarrierConfig
from providers.simulator.faults import FAULTS, BadPlan, Plan, Rule, parse_rules
from providers.simulator.http import Manner, Reply, Request
from providers.simulator.ledger import Ledger
from providers.simulator.wire import country_of, estimate_segments

CONFIG = CarrierConfig(
    slug="carrier-a",
    name="A",
    mode="key",
    token="secret",
    currency="EUR",
    prices={"UA": Decimal("0.0380"), "*": Decimal("0.05")},
)
MESSAGE = {"to": "+380501234567", "text": "hi", "sender": "Mexar", "reference": "r1", "validity": 300}


class Desk:
    """One carrier with its ledger and the receipts it asked for."""

    def __init__(self, **changes: Any) -> None:
        self.ledger = Ledger(None, lambda call: None)
        self.receipts: list[Receipt] = []
        self.carrier = Carrier(replace(CONFIG, **changes), 1, self.ledger, lambda *_: None, self.receipts.append)

    def plan(self, *rules: dict[str, Any]) -> None:
        self.carrier.plan.replace(parse_rules(list(rules)))

    def post(self, *, key: str | None = None, bearer: str = CONFIG.token, **fields: Any) -> Reply:
        body = {**MESSAGE, **fields}
        headers = {"authorization": f"Bearer {bearer}", "idempotency-key": body["reference"] if key is None else key}
        return self.carrier.handle(Request("POST", "/v1/messages", headers, json.dumps(body).encode(), True))

    def look_up(self, reference: str = "r1") -> Reply:
        headers = {"authorization": "Bearer secret"}
        return self.carrier.handle(Request("GET", f"/v1/messages?reference={reference}", headers, b"", True))

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.ledger.entries()]


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.ledger.close()


def code(reply: Reply) -> str:
    return str(json.loads(reply.body)["error"]["code"])


# --- accepting ----------------------------------------------------------------------------------------


def test_message_is_accepted_at_the_price_of_its_country(desk: Desk) -> None:
    answers = [desk.post(), desk.post(reference="r2", to="+4915112345678", text="я" * 71)]

    assert [reply.status for reply in answers] == [202, 202]
    first, second = (json.loads(reply.body) for reply in answers)
    assert (first["reference"], first["price"], first["currency"], first["segments"]) == ("r1", "0.0380", "EUR", 1)
    assert (second["price"], second["segments"]) == ("0.10", 2)
    assert first["id"] != second["id"]
    entry = desk.ledger.read(1)
    assert {key: entry[key] for key in ("event", "to", "text", "sender", "price", "id")} == {
        "event": "accepted",
        "to": "+380501234567",
        "text": "hi",
        "sender": "Mexar",
        "price": "0.0380",
        "id": first["id"],
    }


def test_what_was_charged_is_taken_from_the_balance(desk: Desk) -> None:
    desk = Desk(balance=Decimal("10.00"), prices_delivered={"*": Decimal("0.01")})
    desk.post()
    desk.post(reference="r2", to="+4915112345678")
    desk.carrier.receipt_result(desk.receipts[0], "receipt_sent", 200, 1)

    answer = desk.carrier.handle(Request("GET", "/v1/balance", {"authorization": "Bearer secret"}, b"", True))

    assert json.loads(answer.body) == {"balance": "9.9020", "currency": "EUR"}
    desk.ledger.close()


def test_repeated_key_gets_the_first_answer_and_is_no_second_sms(desk: Desk) -> None:
    first, again = desk.post(), desk.post()

    assert again.body == first.body
    assert desk.events() == ["accepted", "replay"]
    assert len(desk.receipts) == 1


def test_repeat_without_the_header_is_a_second_sms(desk: Desk) -> None:
    desk.post(key="")
    desk.post(key="")

    assert desk.events() == ["accepted", "accepted"]


@pytest.mark.parametrize("mode", ["lookup", "none"])
def test_other_modes_accept_a_repeat_as_a_second_sms(mode: str) -> None:
    desk = Desk(mode=mode)

    desk.post()
    desk.post()

    assert desk.events() == ["accepted", "accepted"]
    desk.ledger.close()


def test_replay_survives_a_restart(desk: Desk) -> None:
    first = desk.post()
    later = Carrier(CONFIG, 1, desk.ledger, lambda *_: None, desk.receipts.append)
    for entry in desk.ledger.entries():
        later.restore(entry)

    desk.carrier = later

    assert desk.post().body == first.body


@pytest.mark.parametrize(
    ("changes", "status", "expected"),
    [
        ({"bearer": "wrong"}, 401, "bad_token"),
        ({"to": "0501234567"}, 422, "invalid_number"),
        ({"to": "+0501234567"}, 422, "invalid_number"),
        ({"key": "other"}, 400, "bad_request"),
        ({"text": ""}, 400, "bad_request"),
        ({"text": None}, 400, "bad_request"),
        ({"validity": 0}, 400, "bad_request"),
        ({"validity": True}, 400, "bad_request"),
        ({"receipt_url": "ftp://host/"}, 400, "bad_request"),
        ({"receipt_url": "http://host/a\r\nX: y"}, 400, "bad_request"),
        ({"receipt_url": "http://host:99999/"}, 400, "bad_request"),
    ],
)
def test_bad_request_is_refused(desk: Desk, changes: dict[str, Any], status: int, expected: str) -> None:
    reply = desk.post(**changes)

    assert (reply.status, code(reply)) == (status, expected)
    assert desk.events() == ["refused"]
    assert desk.receipts == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
def test_body_that_is_no_object_is_refused(desk: Desk, body: bytes) -> None:
    reply = desk.carrier.handle(Request("POST", "/v1/messages", {"authorization": "Bearer secret"}, body, True))

    assert (reply.status, code(reply)) == (400, "bad_request")


def test_country_without_a_price_has_no_route() -> None:
    desk = Desk(prices={"UA": Decimal("0.04")})

    replies = [desk.post(), desk.post(reference="r2", to="+4915112345678")]

    assert replies[0].status == 202
    assert (replies[1].status, code(replies[1])) == (422, "no_route")
    desk.ledger.close()


@pytest.mark.parametrize(
    ("to", "country"), [("+380501234567", "UA"), ("+12025550123", "US"), ("+4915112345678", "DE"), ("+9991", "")]
)
def test_country_comes_from_the_calling_code(to: str, country: str) -> None:
    assert country_of(to) == country


@pytest.mark.parametrize(
    ("text", "segments"),
    [("a" * 160, 1), ("a" * 161, 2), ("a" * 307, 3), ("я" * 70, 1), ("я" * 71, 2), ("👍" * 35, 1), ("👍" * 36, 2)],
)
def test_segments_are_estimated(text: str, segments: int) -> None:
    assert estimate_segments(text) == segments


# --- look-ups -----------------------------------------------------------------------------------------


def test_lookup_shows_a_message_only_after_the_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(mode="lookup", lag=2.0)
    accepted = json.loads(desk.post().body)
    now = time.time()

    early = desk.look_up()
    monkeypatch.setattr(time, "time", lambda: now + 2.1)
    late = desk.look_up()

    assert json.loads(early.body) == {"messages": []}
    assert json.loads(late.body) == {"messages": [{"id": accepted["id"], "reference": "r1", "status": "sent"}]}
    assert desk.events() == ["accepted", "lookup", "lookup"]
    desk.ledger.close()


def test_lookup_shows_the_last_status_and_never_goes_back() -> None:
    desk = Desk(mode="lookup")
    desk.post()

    desk.carrier.moved(1, "delivered")
    desk.carrier.moved(1, "sent")

    assert json.loads(desk.look_up().body)["messages"][0]["status"] == "delivered"
    desk.ledger.close()


def test_lookup_is_not_supported_in_other_modes(desk: Desk) -> None:
    reply = desk.look_up()

    assert (reply.status, code(reply)) == (404, "not_supported")


# --- faults -------------------------------------------------------------------------------------------

BEFORE = [
    ({"fault": "throttle", "seconds": 7}, Reply(429, headers="Retry-After: 7\r\n"), "throttled"),
    ({"fault": "server_error_before_accept"}, Reply(500), "internal"),
    ({"fault": "out_of_balance"}, Reply(402), "out_of_balance"),
    ({"fault": "reject", "code": "opted_out"}, Reply(422), "opted_out"),
    ({"fault": "reject", "code": "bad_token"}, Reply(401), "bad_token"),
]


@pytest.mark.parametrize(("rule", "expected", "word"), BEFORE)
def test_fault_before_accepting_refuses_and_accepts_nothing(
    desk: Desk, rule: dict[str, Any], expected: Reply, word: str
) -> None:
    desk.plan(rule)

    reply = desk.post()

    assert (reply.status, reply.headers, code(reply)) == (expected.status, expected.headers, word)
    assert desk.events() == ["refused"]
    assert desk.ledger.read(1)["code"] == word


@pytest.mark.parametrize(
    ("fault", "manner"),
    [
        ("drop_before_accept", Manner.RESET),
        ("read_and_close", Manner.CLOSE),
        ("hang_before_accept", Manner.HANG),
    ],
)
def test_silent_fault_before_accepting_is_in_the_ledger_as_dropped(desk: Desk, fault: str, manner: Manner) -> None:
    desk.plan({"fault": fault})

    reply = desk.post()

    assert reply.manner is manner
    assert desk.events() == ["dropped"]
    assert desk.receipts == []


@pytest.mark.parametrize(
    ("fault", "manner", "status"),
    [
        ("drop_after_accept", Manner.RESET, 200),
        ("hang_after_accept", Manner.HANG, 200),
        ("slow_bytes", Manner.SLOW, 202),
        ("wrong_json", Manner.WHOLE, 202),
        ("server_error_after_accept", Manner.WHOLE, 500),
    ],
)
def test_fault_after_accepting_spoils_the_answer_only(desk: Desk, fault: str, manner: Manner, status: int) -> None:
    desk.plan({"fault": fault})

    reply = desk.post()

    assert (reply.manner, reply.status) == (manner, status)
    assert desk.events() == ["accepted"]
    assert desk.ledger.read(1)["fault"] == fault
    assert len(desk.receipts) == 1


def test_wrong_json_cannot_be_read(desk: Desk) -> None:
    desk.plan({"fault": "wrong_json"})

    with pytest.raises(json.JSONDecodeError):
        json.loads(desk.post().body)


def test_latency_comes_on_top_of_another_fault(desk: Desk) -> None:
    desk.plan({"fault": "latency", "seconds": 2}, {"fault": "latency", "seconds": 1}, {"fault": "out_of_balance"})

    reply = desk.post()

    assert (reply.status, reply.delay) == (402, 3.0)


def test_fault_strikes_as_often_as_counted(desk: Desk) -> None:
    desk.plan({"fault": "out_of_balance", "count": 2})

    statuses = [desk.post(reference=f"r{number}").status for number in range(4)]

    assert statuses == [402, 402, 202, 202]


def test_fault_strikes_a_prefix_only(desk: Desk) -> None:
    desk.plan({"fault": "out_of_balance", "to_prefix": "+49"})

    assert [desk.post().status, desk.post(reference="r2", to="+4915112345678").status] == [202, 402]


def test_share_is_kept_and_repeats_with_the_seed() -> None:
    runs = []
    for _ in range(2):
        plan = Plan("1:carrier-a")
        plan.replace([Rule("throttle", share=0.3)])
        runs.append([plan.strike("send")[1] is not None for _ in range(2000)])

    assert runs[0] == runs[1]
    assert 500 < sum(runs[0]) < 700


def test_lookup_is_struck_only_by_what_can_happen_to_it() -> None:
    desk = Desk(mode="lookup")
    desk.plan({"fault": "drop_after_accept"}, {"fault": "out_of_balance"}, {"fault": "reject"})

    assert desk.look_up().status == 200
    desk.ledger.close()


@pytest.mark.parametrize(("on", "events"), [("lookup", ["accepted", "lookup"]), ("send", ["dropped", "lookup"])])
def test_fault_is_narrowed_to_sends_or_lookups(on: str, events: list[str]) -> None:
    desk = Desk(mode="lookup")
    desk.plan({"fault": "read_and_close", "on": on})

    sent, looked = desk.post(), desk.look_up()

    assert desk.events() == events
    assert (sent.manner is Manner.CLOSE, looked.manner is Manner.CLOSE) == (on == "send", on == "lookup")
    desk.ledger.close()


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({}, "a fault plan is a list"),
        ([{"fault": "explode"}], "rule 1: fault must be one of latency"),
        ([{"fault": "throttle"}, {"fault": ["x"]}], "rule 2: fault must be"),
        (["throttle"], "rule 1 is not an object"),
        ([{"fault": "throttle", "often": 1}], "unknown often"),
        ([{"fault": "throttle", "share": 1.5}], "share must be a number from 0 to 1"),
        ([{"fault": "throttle", "share": True}], "share must be a number"),
        ([{"fault": "throttle", "count": -1}], "count must be a whole number"),
        ([{"fault": "throttle", "count": 1.5}], "count must be a whole number"),
        ([{"fault": "drop_after_accept", "seconds": 1}], "drop_after_accept has no seconds"),
        ([{"fault": "latency", "seconds": -1}], "seconds must be"),
        ([{"fault": "reject", "code": "bored"}], "code must be one of bad_token"),
        ([{"fault": "throttle", "code": "blocked"}], "throttle has no code"),
        ([{"fault": "throttle", "status": "expired"}], "throttle has no status"),
        ([{"fault": "refuse", "share": 0.5}], "refuse closes the port"),
        ([{"fault": "reject", "on": "lookup"}], "reject does not strike look-ups"),
        ([{"fault": "throttle", "on": "lookup", "to_prefix": "+3"}], "a look-up has no number"),
        ([{"fault": "throttle", "to_prefix": 380}], "to_prefix must be a text"),
    ],
)
def test_bad_plan_says_what_is_wrong(rules: object, words: str) -> None:
    with pytest.raises(BadPlan, match=words):
        parse_rules(rules)


@pytest.mark.parametrize("fault", FAULTS)
def test_plan_reads_its_own_words_again(fault: str) -> None:
    [rule] = parse_rules([{"fault": fault}])

    assert parse_rules([rule.as_json()]) == [rule]


# --- receipts -----------------------------------------------------------------------------------------


def schedule(*faults: dict[str, Any]) -> list[tuple[float, str, str]]:
    plan = Plan("1")
    plan.replace(parse_rules(list(faults)))
    config = replace(CONFIG, receipts=("sent", "delivered"), receipt_after=0.5)
    return [(round(at, 3), status, word) for at, status, word in receipt_schedule(config, plan.receipts("+380"))]


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([], [(0.5, "sent", ""), (0.7, "delivered", "")]),
        ([{"fault": "receipt_delay", "seconds": 4}], [(4.5, "sent", ""), (4.7, "delivered", "")]),
        ([{"fault": "receipt_disorder"}], [(0.5, "delivered", ""), (0.7, "sent", "")]),
        ([{"fault": "receipt_never"}], []),
        ([{"fault": "receipt_negative"}], [(0.5, "sent", ""), (0.7, "undelivered", "unreachable")]),
        (
            [{"fault": "receipt_negative", "status": "expired", "code": "ttl"}],
            [(0.5, "sent", ""), (0.7, "expired", "ttl")],
        ),
    ],
)
def test_receipts_follow_the_plan(faults: list[dict[str, Any]], expected: list[tuple[float, str, str]]) -> None:
    assert schedule(*faults) == expected


def test_duplicate_receipts_come_twice() -> None:
    statuses = Counter(status for _, status, _ in schedule({"fault": "receipt_duplicate"}))

    assert statuses == {"sent": 2, "delivered": 2}
