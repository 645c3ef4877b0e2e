"""The admin in Debian's Chromium: no external request, and no error in the console, in any test."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    """Started for these tests alone: Playwright's event loop stays in the thread, where other tests start their own."""
    if not Path(CHROMIUM).exists():
        hint = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(hint)
        pytest.skip(hint)
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # The ORM refuses to work beside a running loop.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture(autouse=True)
def _plain(plain_static_files):
    pass


@pytest.fixture
def boss(transactional_db):
    return User.objects.create_superuser("boss")


@pytest.fixture
def screen(page, live_server, boss):
    """A logged-in page; `screen.open("messaging/client/")`, `screen.keep("name")` for a picture of it."""
    found = Screen(page, live_server.url)
    found.log_in(boss)
    yield found
    assert found.problems == []


class Screen:
    def __init__(self, page, site):
        self.page = page
        self.site = site
        self.problems: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.route("**/*", self._route)

    def log_in(self, user):
        client = Client()
        client.force_login(user)
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value}
        self.page.context.add_cookies([{**cookie, "url": self.site}])

    def open(self, path):
        answer = self.page.goto(f"{self.site}/admin/{path}")
        assert answer.status == 200, path

    def keep(self, name):
        """Pictures as staff may see it: wide, narrow, on a phone and dark. Nothing may stick out to the right."""
        sizes = (("", 1440, "light"), ("-1000", 1000, "light"), ("-420", 420, "light"), ("-dark", 1440, "dark"))
        for suffix, width, scheme in sizes:
            self.page.set_viewport_size({"width": width, "height": 900})
            self._theme(scheme)
            overflow = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{name}{suffix}: {overflow} px too wide"
            self.picture(f"{name}{suffix}")
        self._theme("light")
        self.page.set_viewport_size({"width": 1440, "height": 900})

    def picture(self, name):
        """Where SCREENSHOTS names a directory: each takes as long as loading a page."""
        if directory := os.environ.get("SCREENSHOTS"):
            self.page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)

    def _theme(self, scheme):
        """As the switch in the account menu does, once the page has started."""
        expect(self.page.locator("#page")).to_be_visible()
        self.page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", scheme == "dark")
        self.page.wait_for_timeout(150)

    def _console(self, message):
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _route(self, route):
        if urlsplit(route.request.url).netloc == urlsplit(self.site).netloc:
            route.continue_()
        else:
            self.problems.append(f"external request: {route.request.url}")
            route.abort()
