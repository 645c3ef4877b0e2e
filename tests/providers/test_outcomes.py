import re
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, replace
from decimal import Decimal
from typing import ClassVar, get_args

import pytest

from providers import outcomes
from providers.adapters import ADAPTERS
from providers.adapters.base import Adapter, SignatureError, decimal_or_none, printable, redact, retry_after
from providers.outcomes import Accepted, Ambiguous, Lookup, Outcome, Rejected, Scope, Throttled, Undecided
from providers.types import Account, HttpResponse, Webhook
from tests.contract import SUBMISSION


class Plain(Adapter):
    """A vendor that answers `<reference> <price>` or `error <code> <words>`."""

    slug = "plain"
    name = "Plain"
    base_url = "https://plain.example"
    credential_fields = ("token",)
    errors: ClassVar[Mapping[str, Outcome]] = {
        "busy": Throttled("busy", retry_after=20.0),
        "repeat": Accepted("the-first-one"),
        "dead": Rejected(Scope.NUMBER, "dead"),
    }

    def read_accepted(self, response: HttpResponse) -> Outcome:
        reference, price = response.body.decode().split()
        return Accepted(reference, Decimal(price))

    def read_error(self, response: HttpResponse) -> tuple[str, str]:
        _, code, words = response.body.decode().split(" ", 2)
        return code, words


def read(status: int, body: bytes, **headers: str) -> Outcome:
    adapter = Plain(Account("plain", "", {"token": "very-secret-token"}))
    return adapter.read_send(HttpResponse(status, {name.replace("_", "-"): headers[name] for name in headers}, body))


def test_tree_in_the_docstring_names_every_outcome_and_lookup() -> None:
    drawn = set(re.findall(r"[├└]── ([A-Za-z]+)", outcomes.__doc__ or ""))

    members = {kind.__name__ for kind in (*get_args(Outcome), *get_args(Lookup))}
    assert drawn == members | {scope.name for scope in Scope}


@pytest.mark.parametrize("kind", [*get_args(Outcome), *get_args(Lookup)], ids=lambda kind: kind.__name__)
def test_verdicts_cannot_be_changed(kind: type) -> None:
    verdict = kind(*["x"] * sum(field.name in ("scope", "code", "provider_reference") for field in fields(kind)))

    with pytest.raises((FrozenInstanceError, TypeError)):
        verdict.code = "other"


def test_registry_slugs_are_unique_paths() -> None:
    assert all(path.startswith("providers.adapters.") for path in ADAPTERS.values())
    assert len(set(ADAPTERS.values())) == len(ADAPTERS)


def test_readable_acceptance_is_accepted() -> None:
    assert read(202, b"m-1 0.05") == Accepted("m-1", Decimal("0.05"))


@pytest.mark.parametrize("body", [b"", b"m-1", b"m-1 dear", b"\xff\xff", b"m-1 7 8"])
def test_whatever_reading_an_acceptance_raises_is_ambiguous(body: bytes) -> None:
    outcome = read(200, body)

    assert isinstance(outcome, Ambiguous)
    assert outcome.code == "unreadable_answer"


def test_documented_throttling_takes_the_header_over_its_own_wait() -> None:
    told = read(400, b"error busy later", retry_after="7")
    untold = read(400, b"error busy later")

    assert (told, untold) == (Throttled("busy", 7.0, "later"), Throttled("busy", 20.0, "later"))


def test_refused_repeat_can_be_an_acceptance() -> None:
    assert read(409, b"error repeat known already") == Accepted("the-first-one")


def test_table_of_errors_is_not_changed_by_an_answer() -> None:
    outcome = read(400, b"error dead no such subscriber")

    assert outcome == Rejected(Scope.NUMBER, "dead", "no such subscriber")
    assert Plain.errors["dead"] == Rejected(Scope.NUMBER, "dead")


@pytest.mark.parametrize("code", ["+380501234567", "a" * 41, "два", "x\x00"])
def test_code_that_is_not_one_plain_word_is_replaced_by_the_status(code: str) -> None:
    outcome = read(400, f"error {code} words".encode())

    assert outcome == Rejected(Scope.ROUTE, "http_400", "words")


def test_credentials_do_not_come_back_in_the_vendor_s_words() -> None:
    outcome = read(401, b"error auth token very-secret-token is wrong")

    assert outcome == Rejected(Scope.ACCOUNT, "auth", "token * is wrong")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("To +380501234567 failed", "To * failed"),
        ("To +38 (050) 123-45-67 failed", "To * failed"),
        ("code 4938", "code *"),
        ("part 2 of 153", "part 2 of 153"),
        ("٣٨٠٥٠١٢٣٤٥٦٧", "*"),
        ("a\x00b\nc\ud800d", "a b c d"),
        ("x" * 300, "x" * 200),
        ("x" * 198 + "493817", "x" * 198 + "*"),
    ],
)
def test_redacted_words(said: str, kept: str) -> None:
    assert redact(said) == kept


def test_printable_words_are_cut_and_take_anything() -> None:
    assert (printable("9" * 70), printable(None), printable(7)) == ("9" * 64, "None", "7")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0.5", 0.5), ("-3", 0), ("86400", 300), ("inf", 300), ("nan", 1), ("", 1), ("Fri, 31 Dec 1999", 1)],
)
def test_retry_after_is_bounded(header: str, seconds: float) -> None:
    assert retry_after(HttpResponse(429, {"retry-after": header})) == seconds


@pytest.mark.parametrize(
    ("value", "price"),
    [("-0.0075", "0.0075"), (0.05, "0.05"), (0, "0"), (None, None), ("", None), ("NaN", None), ("inf", None)],
)
def test_vendor_prices_become_positive_decimals(value: object, price: str | None) -> None:
    assert decimal_or_none(value) == (None if price is None else Decimal(price))


def test_adapter_that_did_not_decide_refuses_every_receipt() -> None:
    with pytest.raises(SignatureError):
        Plain(Account("plain", "", {})).verify_receipt(Webhook("https://sms.example.com/r", {}, b""))


def test_failed_lookup_is_named_by_its_status() -> None:
    adapter = Plain(Account("plain", "", {}))

    assert adapter.read_lookup(SUBMISSION, HttpResponse(503)) == Undecided("http_503")
    later = HttpResponse(503, {"retry-after": "900"})
    assert adapter.read_lookup(SUBMISSION, later) == Undecided("http_503", retry_after=300)


def test_number_text_and_url_stay_out_of_reprs() -> None:
    shown = repr(replace(SUBMISSION, our_reference="r", receipt_url="u"))

    assert SUBMISSION.to not in shown
    assert SUBMISSION.text not in shown
