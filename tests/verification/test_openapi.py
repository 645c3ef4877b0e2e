"""Verifications in the OpenAPI document: whole, true, and with examples and samples that work."""

import os
import re
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from rest_framework.test import APIClient

from messaging.clients import issue_key
from messaging.openapi.calls import SAMPLES
from messaging.openapi.schema import document
from tests.factories import ClientFactory, ProviderFactory
from tests.fleet import wait_for
from tests.messaging.test_api_doc import section
from tests.verification.phone import URL, code_of
from verification import drafts
from verification.models import Challenge
from verification.openapi import examples

pytestmark = pytest.mark.django_db(transaction=True)


def told(path="", method="post"):
    return document()["paths"][URL + path][method]


def codes(operation):
    """(status, code) of every problem that only this call knows."""
    found = {
        (int(status), code)
        for status, answer in operation["responses"].items()
        for code in answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }
    return found - {(int(s), c) for s, c in [(400, "bad_request"), (500, "internal_error"), (503, "unavailable")]}


def test_verifications_come_after_messages():
    assert [tag["name"] for tag in document()["tags"]][:2] == ["Messages", "Verifications"]


def test_each_call_tells_how_it_is_refused():
    keys = {(401, "invalid_api_key"), (401, "api_key_expired"), (401, "api_key_revoked")}
    common = keys | {(403, "client_disabled"), (403, "address_not_allowed"), (403, "missing_scope")}
    body = {(400, "invalid_json"), (413, "body_too_large"), (415, "unsupported_media_type")}
    invalid, unknown = {(422, "validation_failed")}, {(404, "not_found")}
    once = {(409, "idempotency_in_progress"), (422, "idempotency_mismatch")}
    sent = {(422, "no_route"), (422, "recipient_suppressed"), (429, "rate_limited"), (429, "quota_exceeded")}
    guarded = {(403, "destination_blocked"), (429, "limit_reached")}

    assert codes(told()) == common | body | invalid | once | sent | guarded
    assert codes(told("/{reference}", "get")) == common | unknown
    assert codes(told("/{reference}/check")) == common | body | invalid | unknown | {(503, "key_away")}
    assert codes(told("/{reference}/cancel")) == common | unknown | {(409, "not_pending")}
    assert codes(told("/redeem")) == common | body | invalid | unknown | once | {(409, "already_redeemed")}
    own = {(409, "not_pending"), (409, "no_sends_left"), (429, "resend_too_early")}
    assert codes(told("/{reference}/resend")) >= common | invalid | unknown | once | sent | own | {
        (429, "limit_reached")
    }


def test_a_key_is_told_where_it_is_taken():
    calls = {
        operation["operationId"]
        for path, item in document()["paths"].items()
        for operation in item.values()
        if path.startswith(URL) and "Idempotency-Key" in {p["name"] for p in operation.get("parameters", ())}
    }

    assert calls == {"start_verification", "check_verification", "resend_verification", "redeem_token"}


def test_the_page_has_every_field():
    assert (
        set(re.findall(r"^\| `([\w-]+)` \| (?:string|object)", section("Verifications"), re.M)) == drafts.START_FIELDS
    )


def test_the_examples_are_answered_as_they_are_shown(api):
    ProviderFactory(slug="carrier-a", price="0.04")
    assert api.post(URL, examples.LOGIN, format="json").status_code == 201

    started = api.post(URL, examples.PAYMENT, format="json")
    place = f"{URL}/{started.json()['reference']}"
    pending = api.get(place)
    Challenge.objects.update(resend_at=Challenge.objects.last().created_at)
    resent = api.post(f"{place}/resend")
    check = examples.CHECK | {"code": code_of(started.json()["reference"])}
    checked = api.post(f"{place}/check", check, format="json")
    redeem = examples.REDEEM | {"token": checked.json()["result_token"]}
    redeemed = api.post(f"{URL}/redeem", redeem, format="json")
    cancelled = api.post(f"{URL}/{api.post(URL, examples.PAYMENT, format='json').json()['reference']}/cancel")

    shown = [
        (started, 201, examples.STARTED),
        (resent, 202, examples.RESENT),
        (pending, 200, examples.PENDING),
        (checked, 200, examples.VERIFIED),
        (redeemed, 200, examples.REDEEMED),
        (cancelled, 200, examples.CANCELLED),
    ]
    for answer, status, example in shown:
        assert answer.status_code == status, answer.content
        assert settled(answer.json()) == settled(example)


def settled(body):
    """Without what is another one each time."""
    moments = r"\d{4}-\d\d-\d\dT[\d:.]+Z"
    return {
        name: re.sub(moments, "a time", value) if isinstance(value, str) else value
        for name, value in body.items()
        if name not in ("reference", "result_token")
    }


def test_a_repeat_is_marked(api):
    ProviderFactory(slug="carrier-a", price="0.04")
    reference = api.post(URL, examples.LOGIN, format="json").json()["reference"]
    check = {"code": code_of(reference), "purpose": "login"}
    key = {"HTTP_IDEMPOTENCY_KEY": "one"}

    first = api.post(f"{URL}/{reference}/check", check, format="json", **key)
    again = api.post(f"{URL}/{reference}/check", check, format="json", HTTP_IDEMPOTENCY_KEY='"one"')
    others = [
        api.post(f"{URL}/{reference}/check", {**check, **change}, format="json", **key)
        for change in ({"code": "1"}, {"purpose": "signup"}, {"context": {"payee": "X"}})
    ]

    assert (again.json(), again["Idempotency-Replayed"]) == (first.json(), "true")
    assert not first.has_header("Idempotency-Replayed")
    assert [(answer.json()["valid"], answer.json()["status"]) for answer in others] == [(False, "used")] * 3


def test_a_key_that_is_none_is_refused_before_the_guess_counts(api):
    ProviderFactory(slug="carrier-a", price="0.04")
    reference = api.post(URL, examples.LOGIN, format="json").json()["reference"]

    answers = [
        api.post(f"{URL}/{place}/check", {"code": "1", "purpose": "login"}, format="json", HTTP_IDEMPOTENCY_KEY="a b")
        for place in (reference, "A" * 22)
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].content == answers[1].content
    assert Challenge.objects.get().checks == 0


# --- the samples ----------------------------------------------------------------------------------


@pytest.fixture
def service(live_server):
    ProviderFactory(price="0.04")
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": urlsplit(live_server.url).hostname}
    return {**environment, "MEXAR_URL": live_server.url, "MEXAR_KEY": issue_key(ClientFactory())}


def typed_in(command, environment):
    """Runs a sample, reads the SMS, and types its code."""
    pipe = subprocess.PIPE
    sample = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        reference = wait_for(
            lambda: Challenge.objects.filter(status="pending").values_list("reference", flat=True).first()
        )
        found, errors = sample.communicate(code_of(reference) + "\n", timeout=30)
    finally:
        sample.kill()
    assert sample.returncode == 0, errors
    return found


def test_the_sample_in_python_verifies(service):
    assert typed_in([sys.executable, str(SAMPLES / "verify.py")], service).endswith("verified\n")


@pytest.mark.skipif(not shutil.which("curl"), reason="apt-get install curl: the sample is run as it is")
def test_the_sample_with_curl_verifies(service):
    assert '"valid":true' in typed_in(["sh", str(SAMPLES / "verify.sh"), "+380671234567"], service)


@pytest.mark.parametrize("name", ["verify.py", "verify.sh"])
def test_the_samples_stand_in_the_document(name):
    assert (SAMPLES / name).read_text() in told()["description"]


def test_another_client_finds_nothing(api):
    ProviderFactory(price="0.04")
    place = f"{URL}/{api.post(URL, examples.LOGIN, format='json').json()['reference']}"
    other = APIClient()
    other.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(ClientFactory(scopes=['read', 'send']))}")

    assert other.get(place).json()["code"] == "missing_scope"
