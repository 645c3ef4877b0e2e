"""The page of the API: it asks nobody but us, and its examples work."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from messaging.clients import issue_key
from messaging.models import Message
from tests.browser.conftest import Screen
from tests.factories import ClientFactory, ProviderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def docs(page, live_server, transactional_db, tmp_path):
    found = Screen(page, live_server.url, Path(os.environ.get("SCREENSHOTS") or tmp_path))
    page.goto(f"{live_server.url}/api/docs/")
    expect(page.get_by_role("heading", name="MEXAR Messaging")).to_be_visible()
    yield page
    assert found.problems == []


@pytest.fixture
def picture(docs, tmp_path):
    def keep(name):
        for suffix, width, scheme in (("", 1440, "light"), ("-400", 400, "light"), ("-dark", 1440, "dark")):
            docs.set_viewport_size({"width": width, "height": 900})
            docs.emulate_media(color_scheme=scheme)
            docs.wait_for_timeout(300)
            overflow = docs.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            docs.screenshot(
                path=Path(os.environ.get("SCREENSHOTS") or tmp_path) / f"{name}{suffix}.png", full_page=True
            )
            assert overflow <= 0, f"{name}{suffix}: {overflow} px too wide"

    return keep


def test_a_pasted_key_sends_a_message(docs, picture):
    ProviderFactory(price="0.04")
    key = issue_key(ClientFactory())
    picture("docs")
    docs.get_by_role("button", name="Authorize").first.click()
    docs.get_by_label("Value").fill(key)
    docs.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    docs.locator(".auth-btn-wrapper").get_by_role("button", name="Close").click()
    call = docs.locator("#operations-Messages-send_message")
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Execute").click()

    expect(call.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("202")
    picture("docs-sent")
    assert Message.objects.get().reference == "order-4711"
