"""Every answer has an id, every request one line, and neither repeats what the caller wrote."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from messaging.clients import issue_key, split_key
from messaging.context import request_id
from messaging.models import Message
from tests.factories import ClientFactory, ProviderFactory
from tests.messaging.door import GOOD, URL

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("given", ["4711", "01a20410-8529-7221-9a27-27e3aec8a03c", "core:req/7=a+b@c~d", "x" * 64])
def test_the_callers_id_comes_back(client, given):
    assert client.get("/live", headers={"X-Request-ID": given})["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\x00", "é", '"x"', "+380671234567", "380-67-123-45-67"])
def test_an_id_that_is_none_is_replaced(client, given):
    answer = client.get("/live", headers={"X-Request-ID": given})

    assert re.fullmatch("[0-9a-f]{32}", answer["X-Request-ID"])


@pytest.mark.parametrize("path", ["/live", "/ready", "/api/v1/messages", "/api/none", "/none", "/admin/", "/static/no"])
def test_every_answer_has_an_id_of_its_own(client, path):
    first, second = client.get(path)["X-Request-ID"], client.get(path)["X-Request-ID"]

    assert first != second


def test_a_refused_host_has_an_id_too(client):
    answer = client.get("/live", headers={"Host": "elsewhere.example"})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer["X-Request-ID"]


def test_the_id_ends_with_its_request(client):
    client.get("/api/v1/messages", headers={"X-Request-ID": "4711"})

    assert request_id.get() == ""


def test_a_request_is_one_line(lines):
    ProviderFactory(price="0.04")
    row = ClientFactory(slug="core-backend")
    token = issue_key(row)
    http = Client(headers={"Authorization": f"Bearer {token}", "X-Request-ID": "4711"})

    answer = http.post(URL, GOOD, content_type="application/json")

    (line,) = lines.of("request")
    message = Message.objects.get()
    assert line.pop("duration_ms") > 0
    assert line.pop("bytes_in") > 50
    assert {name: line[name] for name in list(line)[6:]} == {
        "method": "POST",
        "route": "api/v1/messages",
        "status": 202,
        "client": "core-backend",
        "key_id": split_key(token)[0],
        "message_id": str(message.id),
        "bytes_out": len(answer.content),
        "request_id": "4711",
    }
    assert line["level"] == "INFO"


def test_a_line_names_the_message_that_was_asked_for(api, lines):
    api.get(f"{URL}/01a20410-8529-7221-9a27-27e3aec8a03c")

    (line,) = lines.of("request")
    assert line["route"] == "api/v1/messages/<uuid:message_id>"
    assert line["message_id"] == "01a20410-8529-7221-9a27-27e3aec8a03c"
    assert (line["status"], line["level"]) == (404, "WARNING")


def test_a_fault_of_ours_is_an_error(api, lines, settings):
    settings.SINGLE_BODY_LIMIT = None

    answer = api.post(URL, GOOD, format="json")

    fault, request = lines.of("unexpected error in a request") + lines.of("request")
    assert answer.json()["request_id"] == answer["X-Request-ID"] == fault["request_id"] == request["request_id"]
    assert (request["status"], request["level"]) == (500, "ERROR")


def test_what_the_caller_wrote_is_in_no_line(client, lines):
    client.get("/api/v1/messages/+380671234567", {"to": "+380671234567"})
    client.get("/receipts/380671234567/Rosebud")
    client.get("/380671234567", {"text": "Rosebud"})
    client.generic("ROSEBUD", "/api/v1/messages")
    client.get("/api/v1/messages", headers={"Authorization": "Bearer Rosebud", "Content-Length": "Rosebud"})

    assert len(lines.of("request")) == 5
    assert not re.search("(?i)rosebud|380671234567", lines.text)


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics", "/static/none.css"])
def test_probes_and_files_have_no_line(client, lines, path):
    client.get(path)

    assert not lines.of("request")


def test_the_api_has_neither_session_nor_user(client):
    request = client.get("/live").wsgi_request

    assert not hasattr(request, "session")
    assert not hasattr(request, "user") or request.user is None


@pytest.mark.parametrize("path", ["/admin/", "/admin"])
def test_the_admin_has_both(client, path, settings):
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    client.force_login(User.objects.create_superuser("boss"))

    answer = client.get(path, follow=True)

    assert answer.status_code == 200
    assert answer.wsgi_request.session
    assert answer.wsgi_request.user.username == "boss"


def test_the_admin_refuses_a_form_without_its_token():
    User.objects.create_superuser("boss", password="x" * 12)

    answer = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "boss", "password": "x" * 12})

    assert answer.status_code == 403
