"""The page of the API: it asks nobody but us, and its examples work."""

import pytest
from playwright.sync_api import expect

from messaging.clients import issue_key
from messaging.models import Message
from tests.browser.conftest import Screen
from tests.factories import ClientFactory, ProviderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def screen(page, live_server, transactional_db):
    return Screen(page, live_server.url)


@pytest.fixture
def docs(page, live_server, screen):
    page.goto(f"{live_server.url}/api/docs/")
    expect(page.get_by_role("heading", name="MEXAR Messaging")).to_be_visible()
    yield page
    # Chromium itself reports a refused call as an error of the page.
    assert [problem for problem in screen.problems if "status of 401" not in problem] == []


@pytest.fixture
def picture(docs, screen):
    """As readers may see it: wide, on a phone, and dark. Nothing may stick out to the right."""

    def keep(name):
        for suffix, width, scheme in (("", 1440, "light"), ("-400", 400, "light"), ("-dark", 1440, "dark")):
            docs.set_viewport_size({"width": width, "height": 900})
            docs.emulate_media(color_scheme=scheme)
            docs.wait_for_timeout(300)
            screen.picture(f"{name}{suffix}")
            overflow = docs.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{name}{suffix}: {overflow} px too wide"
        docs.set_viewport_size({"width": 1440, "height": 900})

    return keep


def authorize(docs, key):
    docs.get_by_role("button", name="Authorize").first.click()
    docs.get_by_label("Value").fill(key)
    dialog = docs.locator(".auth-btn-wrapper")
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").click()


def execute(docs, operation):
    """Opens a call, sends it as it is prefilled, and gives its part of the page and the status of the answer."""
    call = docs.locator(f"#operations-{operation}")
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Execute").click()
    return call, call.locator(".live-responses-table tbody .response-col_status").first


def test_the_examples_work_with_a_pasted_key(docs, picture):
    ProviderFactory(price="0.04")
    picture("docs")
    authorize(docs, issue_key(ClientFactory()))

    sent, status = execute(docs, "Messages-send_message")
    expect(status).to_contain_text("202")
    for operation, answer in (
        ("Quotes-quote_message", "200"),
        ("Messages-list_messages", "200"),
        ("Service-ready", "200"),
    ):
        _, status = execute(docs, operation)
        expect(status).to_contain_text(answer)
        docs.locator(f"#operations-{operation} .opblock-summary-control").click()
    sent.get_by_text("Python with requests").click()
    expect(sent.get_by_text("import requests")).to_be_visible()
    picture("docs-sent")

    assert Message.objects.get().reference == "order-4711"


def test_without_a_key_the_problem_is_shown(docs):
    call, status = execute(docs, "Messages-send_message")

    expect(status).to_contain_text("401")
    expect(call.locator(".live-responses-table")).to_contain_text("invalid_api_key")
    assert not Message.objects.exists()
