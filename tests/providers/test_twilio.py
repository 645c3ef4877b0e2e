import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from providers.adapters.base import SignatureError
from providers.adapters.twilio import Twilio
from providers.outcomes import (
    Accepted,
    Ambiguous,
    Found,
    Outcome,
    ReceiptStatus,
    Rejected,
    Scope,
    Throttled,
    Undecided,
)
from providers.types import Account, HttpResponse, Submission, Webhook
from tests.contract import REFERENCE, SUBMISSION, AdapterContract

DATA = Path(__file__).parent.parent / "data" / "twilio"
SID = "SM00112233445566778899aabbccddeeff"
SERVICE = "MG" + "5a" * 16
CREDENTIALS = {
    "account_sid": "AC0123456789abcdef0123456789abcdef",
    "auth_token": "token-of-the-account",
    "webhook_shared_key": "key-of-the-webhooks",
}


def sample(name: str) -> Any:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def answer(body: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json"}, json.dumps(body, ensure_ascii=False).encode())


def message(**changes: object) -> dict[str, Any]:
    return {**sample("message.json"), **changes}


def page(*messages: Mapping[str, Any], following: str | None = None) -> HttpResponse:
    return answer({"messages": messages, "next_page_uri": following, "page": 0, "page_size": 100})


def twilio() -> Twilio:
    return Twilio(Account("twilio", "", CREDENTIALS))


def callback(word: str, **fields: str) -> Webhook:
    form = {
        "MessageSid": SID,
        "SmsSid": SID,
        "AccountSid": CREDENTIALS["account_sid"],
        "MessageStatus": word,
        "SmsStatus": word,
        "To": SUBMISSION.to,
        "From": "Mexar",
        "Body": SUBMISSION.text,
        "ApiVersion": "2010-04-01",
        **fields,
    }
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return Webhook(SUBMISSION.receipt_url, headers, urlencode(form).encode(), REFERENCE)


def sign(webhook: Webhook, token: str) -> Webhook:
    signed = webhook.url + "".join(f"{name}{value}" for name, value in sorted(webhook.form()))
    digest = hmac.new(token.encode(), signed.encode(), hashlib.sha1).digest()
    headers = {**webhook.headers, "x-twilio-signature": base64.b64encode(digest).decode()}
    return replace(webhook, headers=headers)


class TestTwilio(AdapterContract):
    adapter = Twilio
    credentials = CREDENTIALS
    accepted: ClassVar[HttpResponse] = answer(message(), 201)
    accepted_reference = SID
    # fmt: off
    documented_errors = frozenset(map(str, (
        10001, 20003, 20005, 20404, 20429, 21211, 21212, 21265, 21266, 21408, 21601, 21602, 21603, 21606, 21608,
        21610, 21611, 21612, 21614, 21617, 21619, 21635, 21659, 21660, 21661, 21701, 21703, 21705, 63038,
    )))
    # fmt: on
    receipt_words: ClassVar[Mapping[str, ReceiptStatus]] = {
        "delivered": ReceiptStatus.DELIVERED,
        "read": ReceiptStatus.DELIVERED,
        "accepted": ReceiptStatus.SENT,
        "scheduled": ReceiptStatus.SENT,
        "queued": ReceiptStatus.SENT,
        "sending": ReceiptStatus.SENT,
        "sent": ReceiptStatus.SENT,
        "undelivered": ReceiptStatus.UNDELIVERED,
        "failed": ReceiptStatus.UNDELIVERED,
        "canceled": ReceiptStatus.UNDELIVERED,
        "partially_delivered": ReceiptStatus.UNKNOWN,
        "receiving": ReceiptStatus.UNKNOWN,
    }
    listed: ClassVar[HttpResponse] = page(message())
    unlisted: ClassVar[HttpResponse] = page()

    def error(self, status: int, code: str, words: str) -> HttpResponse:
        number = int(code) if code.isdigit() else code
        return answer({"code": number, "message": words, "more_info": "", "status": status}, status)

    def receipt(self, word: str) -> Webhook:
        return callback(word)

    def sign(self, webhook: Webhook, credentials: Mapping[str, str]) -> Webhook:
        return sign(webhook, credentials["auth_token"])


def check_request(kind: str, url: str, pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Holds a request against the published parameters and returns its fields."""
    rules = sample("request.json")[kind]
    fields = dict(pairs)
    assert len(fields) == len(pairs), "a parameter twice"
    assert re.fullmatch(rules["path"], urlsplit(url).path)
    assert set(rules["required"]) <= set(fields) <= set(rules["fields"])
    for name, value in fields.items():
        rule = rules["fields"][name]
        assert re.fullmatch(rule.get("pattern", "(?s).*"), value), name
        assert len(value) <= rule.get("longest", 10_000), name
        if "least" in rule:
            assert rule["least"] <= int(value) <= rule["most"], name
    return fields


def sent(submission: Submission) -> dict[str, str]:
    request = twilio().build_send(submission)
    return check_request("send", request.url, parse_qsl(request.body.decode(), strict_parsing=True))


def test_submit_follows_the_published_parameters() -> None:
    request = twilio().build_send(SUBMISSION)

    assert request.method == "POST"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert sent(SUBMISSION) == {
        "To": SUBMISSION.to,
        "Body": SUBMISSION.text,
        "StatusCallback": SUBMISSION.receipt_url,
        "ValidityPeriod": "300",
        "From": "Mexar",
    }


def test_submit_is_authorised_by_account_and_token() -> None:
    header = twilio().build_send(SUBMISSION).headers["Authorization"]

    pair = base64.b64decode(header.removeprefix("Basic ")).decode()
    assert pair == "AC0123456789abcdef0123456789abcdef:token-of-the-account"


@pytest.mark.parametrize("sender", ["Mexar", "+12025550123", "12345", "MGM"])
def test_plain_senders_go_as_from(sender: str) -> None:
    fields = sent(replace(SUBMISSION, sender=sender))

    assert fields["From"] == sender
    assert "MessagingServiceSid" not in fields


def test_messaging_service_goes_under_its_own_name() -> None:
    fields = sent(replace(SUBMISSION, sender=SERVICE))

    assert fields["MessagingServiceSid"] == SERVICE
    assert "From" not in fields


@pytest.mark.parametrize(("validity", "asked"), [(0, "1"), (-5, "1"), (36_000, "36000"), (259_200, "36000")])
def test_validity_stays_in_the_published_range(validity: int, asked: str) -> None:
    assert sent(replace(SUBMISSION, validity=validity))["ValidityPeriod"] == asked


def test_price_and_segments_are_read_where_given() -> None:
    priced = message(price="-0.01500", price_unit="USD", num_segments="2")

    outcome = twilio().read_send(answer(priced, 201))

    assert isinstance(outcome, Accepted)
    assert (str(outcome.price), outcome.currency, outcome.segments) == ("0.01500", "USD", 2)


@pytest.mark.parametrize("segments", ["0", None, "", "many", float("inf"), "9" * 5000])
def test_odd_segments_do_not_cost_an_acceptance(segments: object) -> None:
    outcome = twilio().read_send(answer(message(num_segments=segments), 201))

    assert outcome == Accepted(SID)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "failed", "error_code": 21610}, Rejected(Scope.NUMBER, "21610", opted_out=True)),
        ({"status": "failed", "error_code": 30001}, Throttled("30001", 30.0)),
        ({"status": "undelivered", "error_code": 30003}, Rejected(Scope.ROUTE, "30003")),
        ({"status": "undelivered", "error_code": 39999}, Rejected(Scope.ROUTE, "39999")),
        ({"status": "canceled"}, Rejected(Scope.ROUTE, "canceled")),
        ({"status": "never-seen"}, Accepted(SID, segments=1)),
    ],
)
def test_message_born_dead_is_not_an_acceptance(changes: dict[str, object], expected: Outcome) -> None:
    assert twilio().read_send(answer(message(**changes), 201)) == expected


@pytest.mark.parametrize("sid", [None, "", 7, "SM1", "AC0123456789abcdef0123456789abcdef", SID + "0", ["SM"]])
def test_acceptance_without_a_message_sid_is_ambiguous(sid: object) -> None:
    assert isinstance(twilio().read_send(answer(message(sid=sid), 201)), Ambiguous)


@pytest.mark.parametrize("error", sample("errors.json"), ids=lambda error: str(error["code"]))
def test_recorded_errors_have_their_scope(error: dict[str, Any]) -> None:
    body = {"code": error["code"], "message": error["message"], "status": error["http"]}

    outcome = twilio().read_send(answer(body, error["http"]))

    match outcome:
        case Rejected(opted_out=True):
            said = "opted_out"
        case Rejected():
            said = outcome.scope.value
        case _:
            said = type(outcome).__name__.lower()
    assert said == error["means"]
    assert "380501234567" not in repr(outcome)


def test_full_queue_waits_longer_than_a_second() -> None:
    outcome = twilio().read_send(answer({"code": 21611, "message": "queue"}, 400))

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == 30


def test_list_follows_the_published_parameters() -> None:
    request = twilio().build_lookup(SUBMISSION)

    fields = check_request("list", request.url, parse_qsl(urlsplit(request.url).query, strict_parsing=True))
    assert fields == {"To": SUBMISSION.to, "DateSent>": "2026-11-22", "PageSize": "100"}
    assert "DateSent%3E=2026-11-22" in request.url


def test_list_just_after_midnight_asks_for_yesterday_too() -> None:
    midnight = SUBMISSION.submitted_at.replace(hour=0, minute=0, second=2)

    request = twilio().build_lookup(replace(SUBMISSION, submitted_at=midnight))

    assert "2026-11-21" in request.url


@pytest.mark.parametrize(
    "changes",
    [
        {"body": "another text"},
        {"to": "+380501234568"},
        {"from": "Other"},
        {"direction": "inbound"},
        {"date_created": "Sun, 22 Nov 2026 13:09:59 +0000"},
        {"date_created": "Sun, 22 Nov 2026 13:10:26 +0000"},
    ],
    ids=str,
)
def test_message_that_differs_is_not_ours(changes: dict[str, object]) -> None:
    assert twilio().read_lookup(SUBMISSION, page(message(**changes))) == Undecided("no_match")


@pytest.mark.parametrize("created", ["13:10:00", "13:10:25"])
def test_window_covers_call_and_clock_difference(created: str) -> None:
    listed = page(message(date_created=f"Sun, 22 Nov 2026 {created} +0000"))

    assert isinstance(twilio().read_lookup(SUBMISSION, listed), Found)


def test_match_is_found_among_others_with_its_status() -> None:
    listed = page(message(body="other", sid="SM" + "1" * 32), message(status="delivered"))

    assert twilio().read_lookup(SUBMISSION, listed) == Found(SID, ReceiptStatus.DELIVERED)


def test_two_equal_messages_prove_nothing() -> None:
    listed = page(message(), message(sid="SM" + "1" * 32))

    assert twilio().read_lookup(SUBMISSION, listed) == Undecided("several_matches")


def test_match_on_a_full_page_proves_nothing() -> None:
    listed = page(message(), following="/2010-04-01/Accounts/AC/Messages.json?Page=1")

    assert twilio().read_lookup(SUBMISSION, listed) == Undecided("more_pages")


def test_messaging_service_is_matched_by_its_sid() -> None:
    submission = replace(SUBMISSION, sender=SERVICE)
    ours = message(messaging_service_sid=SERVICE, **{"from": "+12025550123"})

    assert isinstance(twilio().read_lookup(submission, page(ours)), Found)
    assert isinstance(twilio().read_lookup(submission, page(message())), Undecided)


@pytest.mark.parametrize("vector", sample("signatures.json"), ids=lambda vector: vector["why"])
def test_signature_vectors(vector: dict[str, Any]) -> None:
    adapter = Twilio(Account("twilio", "", {vector["key"]: vector["secret"]}))
    webhook = Webhook(vector["url"], vector["headers"], urlencode(vector["form"]).encode())

    if vector["valid"]:
        adapter.verify_receipt(webhook)
    else:
        with pytest.raises(SignatureError):
            adapter.verify_receipt(webhook)


@pytest.mark.parametrize(
    ("called", "signed"),
    [
        ("https://sms.example.com/r/1", "https://sms.example.com:443/r/1"),
        ("http://sms.example.com/r/1", "http://sms.example.com:80/r/1"),
        ("https://sms.example.com:8443/r/1?a=b", "https://sms.example.com/r/1?a=b"),
        ("https://[::1]:8443/r/1", "https://[::1]/r/1"),
    ],
)
def test_url_is_tried_with_and_without_its_port(called: str, signed: str) -> None:
    webhook = sign(replace(callback("sent"), url=signed), CREDENTIALS["auth_token"])

    twilio().verify_receipt(replace(webhook, url=called))


def test_repeated_fields_are_signed_once_in_order() -> None:
    body = b"MessageStatus=sent&Tag=b&Tag=a&Tag=b&Empty="
    once = Webhook("https://sms.example.com/r/1", {}, b"Empty=&MessageStatus=sent&Tag=a&Tag=b")

    webhook = replace(sign(once, CREDENTIALS["auth_token"]), body=body)

    twilio().verify_receipt(webhook)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"&".join(b"a=1" for _ in range(500))])
def test_body_that_is_no_form_is_refused(body: bytes) -> None:
    webhook = replace(sign(callback("sent"), CREDENTIALS["auth_token"]), body=body)

    with pytest.raises(SignatureError):
        twilio().verify_receipt(webhook)


def test_failure_receipt_keeps_its_code() -> None:
    [receipt] = twilio().read_receipts(callback("undelivered", ErrorCode="30008", RawDlrDoneDate="2611221310"))

    assert (receipt.status, receipt.error_code) == (ReceiptStatus.UNDELIVERED, "30008")
    assert (receipt.provider_reference, receipt.opted_out, receipt.occurred_at) == (SID, False, None)
    assert receipt.raw == {
        "MessageSid": SID,
        "MessageStatus": "undelivered",
        "ErrorCode": "30008",
        "RawDlrDoneDate": "2611221310",
    }


def test_expired_validity_has_its_own_status() -> None:
    [receipt] = twilio().read_receipts(callback("failed", ErrorCode="30036"))

    assert receipt.status is ReceiptStatus.EXPIRED


def test_stop_in_a_receipt_is_an_opt_out() -> None:
    [stop] = twilio().read_receipts(callback("failed", ErrorCode="21610"))
    [blocked] = twilio().read_receipts(callback("failed", ErrorCode="30004"))

    assert (stop.opted_out, blocked.opted_out) == (True, False)


def test_nul_in_a_receipt_does_not_reach_the_database() -> None:
    [receipt] = twilio().read_receipts(callback("sent\x00", ErrorCode="1\x00"))

    assert "\x00" not in "".join([receipt.provider_status, receipt.error_code, *receipt.raw.values()])
