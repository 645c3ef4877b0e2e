"""What every provider adapter must prove, whatever its vendor. See docs/adding-a-provider.md."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import unquote_plus

import pytest

from providers.adapters.base import Adapter, Resolve, SignatureError, UnreadableReceipt
from providers.outcomes import (
    Accepted,
    Ambiguous,
    Found,
    NotFound,
    Outcome,
    ReceiptStatus,
    Rejected,
    Scope,
    Throttled,
    Unavailable,
    Undecided,
)
from providers.types import Account, HttpRequest, HttpResponse, Submission, Webhook

REFERENCE = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SUBMISSION = Submission(
    our_reference=REFERENCE,
    to="+380501234567",
    text="Код 493817: a&b=c+d 100% «ні» 👍\nrow 2",  # everything that an encoder may get wrong
    sender="Mexar",
    encoding="ucs2",
    segments=1,
    validity=300,
    receipt_url=f"https://sms.example.com:8443/receipts/vendor/{REFERENCE}",
    submitted_at=datetime(2026, 11, 22, 13, 10, 5, tzinfo=UTC),
)
GARBAGE = [
    pytest.param(body, id=name)
    for name, body in {
        "empty": b"",
        "html": b"<html><body>OK</body></html>",
        "null": b"null",
        "text": b'"accepted"',
        "number": b"1e999",
        "empty_object": b"{}",
        "empty_list": b"[]",
        "cut": b'{"id": "1',
        "not_utf8": b"\xff\xfe\x00{",
        "deep": b"[" * 100_000,
    }.items()
]


class AdapterContract:
    """Inherit it as `class TestVendor(AdapterContract)` and fill in:

    - `adapter`: the class; `credentials`: invented ones, each at least eight characters long.
    - `accepted`, `accepted_reference`: a recorded 2xx and the vendor's id in it.
    - `documented_errors`: every refusal code that the vendor documents for a submit; each must be in `errors`.
    - `error(status, code, words)`: an answer outside 2xx with that code and those words.
    - `receipt(word)`: an unsigned receipt request that carries the vendor's status word, the number and the text of
      SUBMISSION where the vendor puts them, and REFERENCE in the path (`Webhook.our_reference`) or the body.
    - `sign(webhook, credentials)`: the same request signed by a vendor that holds these credentials.
    - `receipt_words`: status word -> our status, all that the vendor documents for outbound SMS.
    - `listed`: only with a look-up: the 2xx that holds SUBMISSION under `accepted_reference`; `unlisted`: the answer
      that does not.

    Where the vendor differs: `not_queued` (5xx statuses documented as surely not processed), `signs_url` and
    `signs_body` (False for what its signature does not cover).
    """

    adapter: ClassVar[type[Adapter]]
    credentials: ClassVar[Mapping[str, str]]
    accepted: ClassVar[HttpResponse]
    accepted_reference: ClassVar[str]
    documented_errors: ClassVar[frozenset[str]]
    receipt_words: ClassVar[Mapping[str, ReceiptStatus]]
    listed: ClassVar[HttpResponse]
    unlisted: ClassVar[HttpResponse]
    not_queued: ClassVar[frozenset[int]] = frozenset()
    signs_url: ClassVar[bool] = True
    signs_body: ClassVar[bool] = True

    def error(self, status: int, code: str, words: str) -> HttpResponse:
        raise NotImplementedError

    def receipt(self, word: str) -> Webhook:
        raise NotImplementedError

    def sign(self, webhook: Webhook, credentials: Mapping[str, str]) -> Webhook:
        raise NotImplementedError

    def make(self, base_url: str = "") -> Adapter:
        return self.adapter(Account(self.adapter.slug, base_url, self.credentials))

    def test_declares_itself(self) -> None:
        fields = {*self.adapter.credential_fields, *self.adapter.optional_credential_fields}

        assert self.adapter.slug
        assert self.adapter.name
        assert not self.adapter.base_url.endswith("/")
        assert set(self.adapter.credential_fields) <= set(self.credentials) <= fields

    # --- building -----------------------------------------------------------------------------------

    def test_same_submission_gives_the_same_bytes(self) -> None:
        """A re-post under a key must repeat the first one to the byte; nothing may come from a clock or a dice."""
        first, again = self.make().build_send(SUBMISSION), self.make().build_send(replace(SUBMISSION))

        assert (first.method, first.url, first.body) == (again.method, again.url, again.body)
        assert list(first.headers.items()) == list(again.headers.items())

    def test_request_carries_number_text_and_receipt_url(self) -> None:
        sent = readable(self.make().build_send(SUBMISSION))

        assert SUBMISSION.to.removeprefix("+") in sent
        assert SUBMISSION.text in sent
        assert SUBMISSION.receipt_url in sent

    def test_request_carries_our_reference_where_the_vendor_keeps_it(self) -> None:
        sent = readable(self.make().build_send(SUBMISSION)).replace(SUBMISSION.receipt_url, "")

        assert (REFERENCE in sent) or self.adapter.resolve in (Resolve.LIST, Resolve.ECHO, Resolve.NONE)

    def test_vendor_address_is_the_default(self) -> None:
        assert self.make().build_send(SUBMISSION).url.startswith(self.adapter.base_url + "/")

    def test_base_url_of_the_account_wins(self) -> None:
        adapter = self.make("http://127.0.0.1:18001/mock")

        urls = [adapter.build_send(SUBMISSION).url]
        if self.has_lookup():
            urls.append(adapter.build_lookup(SUBMISSION).url)

        assert all(url.startswith("http://127.0.0.1:18001/mock/") for url in urls)

    # --- answers to a submit ------------------------------------------------------------------------

    def test_recorded_acceptance_is_read(self) -> None:
        outcome = self.make().read_send(self.accepted)

        assert isinstance(outcome, Accepted)
        assert outcome.provider_reference == self.accepted_reference

    @pytest.mark.parametrize("body", GARBAGE)
    def test_unreadable_acceptance_is_ambiguous(self, body: bytes) -> None:
        assert isinstance(self.make().read_send(replace(self.accepted, body=body)), Ambiguous)

    def test_cut_acceptance_is_ambiguous_at_every_byte(self) -> None:
        body = self.accepted.body.rstrip()
        cut = [replace(self.accepted, body=body[:length]) for length in range(len(body))]

        outcomes = [self.make().read_send(response) for response in cut]

        assert {type(outcome) for outcome in outcomes} == {Ambiguous}

    def test_every_documented_error_is_understood(self) -> None:
        assert self.documented_errors <= set(self.adapter.errors)

    def test_documented_error_wins_over_the_status_and_keeps_its_code(self) -> None:
        for code, meaning in self.adapter.errors.items():
            outcome = self.make().read_send(self.error(400, code, "said so"))

            assert shape(outcome) == shape(meaning), code
            assert getattr(outcome, "code", code) == code, code  # an Accepted has none

    @pytest.mark.parametrize(
        ("status", "kind", "scope"),
        [
            (400, Rejected, Scope.ROUTE),
            (401, Rejected, Scope.ACCOUNT),
            (402, Rejected, Scope.ACCOUNT),
            (403, Rejected, Scope.ACCOUNT),
            (404, Rejected, Scope.ROUTE),
            (408, Ambiguous, None),
            (409, Ambiguous, None),
            (422, Rejected, Scope.ROUTE),
            (429, Throttled, None),
            (302, Ambiguous, None),
        ],
    )
    def test_unknown_code_falls_back_to_the_status(self, status: int, kind: type[Outcome], scope: Scope | None) -> None:
        outcome = self.make().read_send(self.error(status, "never-seen.1", "new words"))

        assert shape(outcome)[:2] == (kind, scope)
        assert getattr(outcome, "code", "") == "never-seen.1"

    def test_refusal_without_a_code_is_named_by_its_status(self) -> None:
        outcome = self.make().read_send(HttpResponse(400, {}, b"<html>Bad Request</html>"))

        assert isinstance(outcome, Rejected)
        assert (outcome.scope, outcome.code, outcome.detail) == (Scope.ROUTE, "http_400", "")

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
    def test_server_error_is_ambiguous_unless_documented_otherwise(self, status: int) -> None:
        expected = Unavailable if status in self.not_queued else Ambiguous
        bodies = [b"", b"<html>Bad Gateway</html>", self.error(status, "never-seen.1", "boom").body, self.accepted.body]

        outcomes = [self.make().read_send(HttpResponse(status, {}, body)) for body in bodies]

        assert {type(outcome) for outcome in outcomes} == {expected}

    def test_retry_after_is_obeyed(self) -> None:
        throttling = [code for code, meaning in self.adapter.errors.items() if isinstance(meaning, Throttled)]

        for code in ["never-seen.1", *throttling]:
            answer = replace(self.error(429, code, "slow down"), headers={"retry-after": "7"})
            outcome = self.make().read_send(answer)

            assert isinstance(outcome, Throttled), code
            assert outcome.retry_after == 7, code

    def test_words_of_the_vendor_lose_numbers_codes_and_secrets(self) -> None:
        said = f"To {SUBMISSION.to}, +38 050 123-45-67: code 493817 for {' '.join(self.credentials.values())}\x00"

        for code in ["never-seen.1", *self.adapter.errors]:
            outcome = self.make().read_send(self.error(400, code, said))

            assert leaks(repr(outcome), self.credentials) == []
            assert "\x00" not in getattr(outcome, "detail", "")  # the database refuses it

    # --- look-ups -----------------------------------------------------------------------------------

    def test_lookup_finds_what_the_vendor_lists(self) -> None:
        self.needs_lookup()

        answer = self.make().read_lookup(SUBMISSION, self.listed)

        assert isinstance(answer, Found)
        assert answer.provider_reference == self.accepted_reference

    def test_absence_is_proof_unless_only_a_list_was_asked(self) -> None:
        self.needs_lookup()

        answer = self.make().read_lookup(SUBMISSION, self.unlisted)

        assert isinstance(answer, Undecided if self.adapter.resolve is Resolve.LIST else NotFound)

    @pytest.mark.parametrize("body", GARBAGE)
    def test_unreadable_lookup_proves_nothing(self, body: bytes) -> None:
        self.needs_lookup()

        answer = self.make().read_lookup(SUBMISSION, replace(self.listed, body=body))

        assert isinstance(answer, Undecided)

    @pytest.mark.parametrize("status", [302, 400, 401, 403, 429, 500, 502, 503, 504])
    def test_failed_lookup_proves_nothing(self, status: int) -> None:
        self.needs_lookup()

        answers = [
            self.make().read_lookup(SUBMISSION, HttpResponse(status, {}, body))
            for body in (b"", self.listed.body, self.error(status, "never-seen.1", "no").body)
        ]

        assert all(isinstance(answer, Undecided) for answer in answers)

    def test_adapter_without_a_lookup_refuses_by_name(self) -> None:
        if self.has_lookup():
            pytest.skip(f"{self.adapter.slug} has a look-up")

        assert self.adapter.resolve not in (Resolve.LOOKUP, Resolve.LIST)
        with pytest.raises(NotImplementedError, match=self.adapter.slug):
            self.make().build_lookup(SUBMISSION)

    # --- receipts -----------------------------------------------------------------------------------

    def test_signed_receipt_is_taken(self) -> None:
        self.make().verify_receipt(self.sign(self.receipt(self.any_word()), self.credentials))

    def test_unsigned_receipt_is_refused(self) -> None:
        with pytest.raises(SignatureError):
            self.make().verify_receipt(self.receipt(self.any_word()))

    def test_receipt_signed_by_somebody_else_is_refused(self) -> None:
        others = {name: value[::-1] + "x" for name, value in self.credentials.items()}

        with pytest.raises(SignatureError):
            self.make().verify_receipt(self.sign(self.receipt(self.any_word()), others))

    def test_receipt_signed_with_empty_secrets_is_refused(self) -> None:
        empty = dict.fromkeys(self.credentials, "")
        webhook = self.sign(self.receipt(self.any_word()), empty)

        with pytest.raises(SignatureError):
            self.adapter(Account(self.adapter.slug, "", empty)).verify_receipt(webhook)

    def test_changed_receipt_is_refused(self) -> None:
        signed = self.sign(self.receipt(self.any_word()), self.credentials)
        changed = [replace(signed, url=signed.url + "0")] if self.signs_url else []
        if self.signs_body:
            changed.append(replace(signed, body=self.receipt("never-seen").body))

        assert changed, "a signature covers something"
        for webhook in changed:
            with pytest.raises(SignatureError):
                self.make().verify_receipt(webhook)

    def test_every_documented_status_word_is_understood(self) -> None:
        read = {word: self.make().read_receipts(self.receipt(word)) for word in self.receipt_words}

        assert {word: receipts[0].status for word, receipts in read.items()} == dict(self.receipt_words)

    def test_receipt_names_its_attempt(self) -> None:
        [receipt] = self.make().read_receipts(self.receipt(self.any_word()))

        assert receipt.our_reference == REFERENCE
        assert receipt.provider_status == self.any_word()

    def test_unknown_status_word_is_kept_and_means_unknown(self) -> None:
        [receipt] = self.make().read_receipts(self.receipt("never-seen"))

        assert (receipt.status, receipt.provider_status) == (ReceiptStatus.UNKNOWN, "never-seen")

    @pytest.mark.parametrize("body", GARBAGE)
    def test_unreadable_receipt_is_named_so(self, body: bytes) -> None:
        with pytest.raises(UnreadableReceipt) as caught:
            self.make().read_receipts(replace(self.receipt(self.any_word()), body=body))

        assert leaks(str(caught.value), self.credentials) == []

    def test_kept_receipt_has_no_number_and_no_text(self) -> None:
        for word in (*self.receipt_words, "never-seen"):
            for receipt in self.make().read_receipts(self.receipt(word)):
                kept = json.dumps(dict(receipt.raw), ensure_ascii=False)  # must be JSON: it goes into a column

                assert kept != "{}"
                assert leaks(kept, self.credentials) == []

    # --- what may be printed ------------------------------------------------------------------------

    def test_nothing_printable_shows_number_text_or_secret(self) -> None:
        adapter = self.make()
        things: list[Any] = [adapter, adapter.account, SUBMISSION, adapter.build_send(SUBMISSION), self.accepted]
        if self.has_lookup():
            things.append(adapter.build_lookup(SUBMISSION))
        signed = self.sign(self.receipt(self.any_word()), self.credentials)
        things += [signed, *adapter.read_receipts(signed)]

        assert [leak for thing in things for leak in leaks(repr(thing), self.credentials)] == []

    def any_word(self) -> str:
        return next(iter(self.receipt_words))

    def has_lookup(self) -> bool:
        return self.adapter.build_lookup is not Adapter.build_lookup

    def needs_lookup(self) -> None:
        if not self.has_lookup():
            pytest.skip(f"{self.adapter.slug} has no look-up")


def readable(request: HttpRequest) -> str:
    """All of a request as text, with form and JSON escapes undone."""
    body = request.body.decode()
    try:
        decoded = "\n".join(strings(json.loads(body)))
    except ValueError:
        decoded = unquote_plus(body)
    return "\n".join([unquote_plus(request.url), *request.headers.values(), decoded])


def strings(value: object) -> list[str]:
    match value:
        case dict():
            return [text for item in value.values() for text in strings(item)]
        case list():
            return [text for item in value for text in strings(item)]
        case _:
            return [str(value)]


def shape(outcome: Outcome) -> tuple[type[Outcome], object, object]:
    """What decides the next step."""
    return type(outcome), getattr(outcome, "scope", None), getattr(outcome, "opted_out", None)


def leaks(printed: str, credentials: Mapping[str, str]) -> list[str]:
    """The secrets, numbers and texts of the contract that `printed` shows, plainly or in base64."""
    secrets = [*credentials.values(), ":".join(credentials.values())]
    hidden = [*secrets, *(base64.b64encode(secret.encode()).decode() for secret in secrets)]
    hidden += [SUBMISSION.to.removeprefix("+"), "050 123-45-67", "493817", SUBMISSION.text]
    return [word for word in hidden if word in printed]
