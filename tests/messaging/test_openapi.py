"""The OpenAPI document is whole and true; what the door answers is held against it in every test (`documented`)."""

import json
import os
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import yaml
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.test import APIClient

from messaging import problems
from messaging.clients import issue_key
from messaging.models import Message
from messaging.openapi import examples
from messaging.openapi.answers import FIELD_ERRORS
from messaging.openapi.calls import SAMPLES
from messaging.openapi.schema import calls, document
from providers.models import ProviderHealth
from tests.factories import AttemptFactory, ClientFactory, ProviderFactory
from tests.messaging.documented import HEADERS, validator
from tests.messaging.door import URL
from tests.messaging.test_api_doc import example, first_cells, our_codes, section


def operations():
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def verifications():
    return [told["operationId"] for _, _, told in operations() if told["tags"] == ["Verifications"]]


def webhook_calls():
    return [told["operationId"] for _, _, told in operations() if told["tags"] == ["Webhooks"]]


def problem_codes(operation):
    return {
        (int(status), code)
        for status, answer in operation["responses"].items()
        for code in answer.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {})
    }


def test_it_is_openapi_3_1_and_made_without_a_warning():
    found = SchemaGenerator().get_schema(public=True)

    validate_schema(document())
    assert document()["openapi"].startswith("3.1.")
    assert not GENERATOR_STATS
    assert found["paths"].keys() == document()["paths"].keys()


def test_every_call_is_told_and_nothing_else():
    names = {operation["operationId"] for _, _, operation in operations()}

    assert names == {call.name for call in calls().values()} | {"take_receipt_of_attempt"}


def test_every_error_is_an_answer_of_some_call():
    told = set().union(*(problem_codes(operation) for _, _, operation in operations()))

    assert told == (our_codes() | set(problems.CODES.items())) - {(405, "method_not_allowed")}


def test_the_words_for_fields_are_those_of_the_page():
    assert set(first_cells(section("Field errors"))) == set(FIELD_ERRORS)


def test_every_call_with_a_key_names_its_scope():
    scopes = {told["operationId"]: told["security"] for _, _, told in operations() if "security" in told}

    assert scopes == {
        "list_messages": [{"api_key": ["read"]}],
        "send_message": [{"api_key": ["send"]}],
        "send_batch": [{"api_key": ["send"]}],
        "get_message": [{"api_key": ["read"]}],
        "cancel_message": [{"api_key": ["send"]}],
        "quote_message": [{"api_key": ["send"]}],
        **{name: [{"api_key": ["otp"]}] for name in verifications()},
        **{name: [{"api_key": ["webhooks"]}] for name in webhook_calls()},
    }


def test_headers_stand_where_they_are_sent():
    with_headers = {
        (header, operation["operationId"], status)
        for _, _, operation in operations()
        for status, answer in operation["responses"].items()
        for header in answer.get("headers", {})
    }

    endpoints = ("create_webhook_endpoint", "rotate_webhook_secret")
    senders = ("send_message", "send_batch", "start_verification", "resend_verification", "redeem_token")
    assert {header for header, _, _ in with_headers} == set(HEADERS)
    assert {call for header, call, _ in with_headers if header == "Idempotency-Replayed"} == {
        *senders,
        *endpoints,
        "check_verification",
    }
    assert {(call, status) for header, call, status in with_headers if header == "Retry-After" and status != "503"} == {
        *((call, status) for call in senders for status in ("409", "429")),
        *((call, "409") for call in endpoints),
    } - {("redeem_token", "429")}


def test_the_examples_are_what_the_document_says():
    for path, method, operation in operations():
        for status, answer in operation["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                for shown in [content.get("example"), *(e["value"] for e in content.get("examples", {}).values())]:
                    if shown is not None:
                        validator(path, method, int(status), media_type).validate(shown)


def test_the_examples_are_those_of_the_page():
    names = {
        "request": examples.REQUEST,
        "accepted": examples.ACCEPTED,
        "batch-request": examples.BATCH_REQUEST,
        "batch": examples.BATCH,
        "message": examples.MESSAGE,
    }

    assert names == {name: example(name) for name in names}


@pytest.mark.django_db
def test_the_examples_are_answered_as_they_are_shown(api, client_row):
    carrier = ProviderFactory(slug="carrier-a", price="0.04")
    client_row.templates.create(name="transfer-arrived", locale="uk", text="Отримано {amount}.")

    accepted = [api.post(URL, body, format="json") for body in (examples.REQUEST, examples.LATER, examples.TEMPLATE)]
    cancelled = api.post(f"{URL}/{accepted[0].json()['id']}/cancel")
    AttemptFactory(message=Message.objects.get(reference="order-4711"), provider=carrier)
    listed = api.get(URL)

    assert [answer.status_code for answer in accepted] == [202, 202, 202]
    assert accepted[0].json().keys() == examples.ACCEPTED.keys()
    assert cancelled.json().keys() == examples.CANCELLED.keys()
    assert cancelled.json()["status"] == examples.CANCELLED["status"]
    assert listed.json()["results"][2].keys() == examples.MESSAGE.keys()
    assert listed.json()["results"][2]["attempts"][0].keys() == examples.FIRST_ATTEMPT.keys()


@pytest.mark.django_db
def test_the_example_of_a_quote_is_answered_as_it_is_shown(api):
    opened = ProviderFactory(slug="carrier-a", price="0.04")
    ProviderFactory(slug="carrier-b", price="0.05")
    ProviderFactory(slug="carrier-c")
    ProviderHealth.objects.create(provider=opened, state=ProviderHealth.State.OPEN, reason="connect_timeout")

    assert api.post("/api/v1/quotes", examples.QUOTE_REQUEST, format="json").json() == examples.QUOTE


# --- how it is served -----------------------------------------------------------------------------


def test_it_is_served_in_json_and_yaml():
    http = APIClient()

    found = http.get("/api/schema/")
    in_yaml = http.get("/api/schema/", {"format": "yaml"})
    accepted = http.get("/api/schema/", HTTP_ACCEPT="application/yaml")

    assert found.json() == json.loads(json.dumps(document()))
    assert yaml.safe_load(in_yaml.content) == yaml.safe_load(accepted.content) == found.json()
    assert [found["Content-Type"], in_yaml["Content-Type"]] == ["application/json", "application/yaml"]
    assert http.get("/api/schema/", {"format": "xml"}).json()["errors"][0]["field"] == "format"


def test_it_is_made_once_per_process():
    http = APIClient()
    http.get("/api/schema/")
    made = document()

    http.get("/api/schema/")

    assert document() is made


def test_the_page_may_load_nothing_from_elsewhere_and_run_nothing_inline(settings):
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}

    answer = APIClient().get("/api/docs/")

    policy = dict(rule.split(" ", 1) for rule in answer["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert "<style" not in answer.text
    assert "<script>" not in answer.text


# --- the samples ----------------------------------------------------------------------------------


@pytest.fixture
def service(live_server):
    ProviderFactory(price="0.04")
    return {
        "PATH": os.environ["PATH"],
        "NO_PROXY": urlsplit(live_server.url).hostname,
        "MEXAR_URL": live_server.url,
        "MEXAR_KEY": issue_key(ClientFactory()),
    }


def run(command, environment):
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_samples_stand_in_the_document():
    told = document()["paths"][URL]["post"]["description"]

    assert (SAMPLES / "send.py").read_text() in told
    assert (SAMPLES / "send.sh").read_text() in told


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(not shutil.which("curl"), reason="apt-get install curl: the sample is run as it is")
def test_the_samples_send_one_message_between_them_and_repeat_it(service):
    by_curl = json.loads(run(["sh", str(SAMPLES / "send.sh")], service))["id"]
    by_python = run([sys.executable, str(SAMPLES / "send.py")], service).strip()

    assert by_curl == by_python == str(Message.objects.get().id)
