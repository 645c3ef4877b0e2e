"""What a browser may do with an answer of ours."""

import pytest

from config import headers

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/live", "/api/v1/messages", "/api/none", "/receipts/none", "/none"])
def test_an_answer_of_the_api_is_no_page(client, path):
    answer = client.get(path)

    assert answer["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer["Cache-Control"] == "no-store"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"


def test_a_refused_host_too(client):
    assert client.get("/live", headers={"Host": "elsewhere.example"})["Content-Security-Policy"] == headers.API


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/admin/none/"])
def test_the_admin_runs_no_inline_script_and_loads_nothing_from_elsewhere(client, path, settings):
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}

    policy = dict(part.split(" ", 1) for part in client.get(path)["Content-Security-Policy"].split("; "))

    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == "'self' 'unsafe-eval'"
    assert not any("http" in sources or "*" in sources for sources in policy.values())
