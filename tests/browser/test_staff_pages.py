"""The sign-in of staff, as they see it."""

from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from playwright.sync_api import expect

from config.staff import roles
from config.staff.models import Authenticator
from tests.browser.conftest import Screen
from tests.browser.test_price_imports import upload
from tests.config.staff import PASSWORD, code, with_device, wrong
from tests.factories import ProviderFactory
from tests.routing import price_files

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def door(page, live_server, settings, transactional_db):
    """The sign-in form, with nobody signed in."""
    settings.STAFF_TOTP = True
    User.objects.create_superuser("alice", password=PASSWORD)
    found = Screen(page, live_server.url)
    found.open("")
    yield found
    assert found.problems == []


def sign_in(screen, password=PASSWORD):
    screen.page.get_by_label("Username").fill("alice")
    screen.page.get_by_label("Password").fill(password)
    screen.page.get_by_role("button", name="Log in").click()


def enter(screen, given, button):
    screen.page.get_by_label("Code").fill(given)
    screen.page.get_by_role("button", name=button).click()


def test_the_first_sign_in_sets_up_the_second_step(door):
    page = door.page
    sign_in(door)
    expect(page.locator(".second-step-qr svg")).to_be_visible()
    device = Authenticator.objects.get()
    expect(page.locator("#key")).to_have_text(device.key_text)
    door.keep("second-step-set-up")

    enter(door, wrong(device), "Confirm")
    expect(page.get_by_text("This code is not right")).to_be_visible()
    door.keep("second-step-set-up-wrong")
    Authenticator.objects.update(throttling_failure_timestamp=None)
    enter(door, code(device), "Confirm")

    expect(page.locator(".recovery-codes li")).to_have_count(10)
    door.keep("second-step-recovery-codes")
    page.get_by_role("link", name="I have kept them").click()
    expect(page).to_have_url(f"{door.site}/admin/")
    page.go_back()
    expect(page.locator(".recovery-codes")).to_have_count(0)


def test_a_code_is_asked_for_after_the_password(door):
    page = door.page
    device, _ = with_device(User.objects.get())
    sign_in(door)
    expect(page.get_by_label("Code")).to_be_focused()
    door.keep("second-step-code")

    enter(door, wrong(device), "Go on")
    expect(page.get_by_text("This code is not right")).to_be_visible()
    Authenticator.objects.update(throttling_failure_count=6)  # a pause of half a minute: also a slow machine sees it
    enter(door, code(device), "Go on")
    expect(page.get_by_text("After wrong codes there is a pause")).to_be_visible()
    door.keep("second-step-code-wait")
    Authenticator.objects.update(throttling_failure_timestamp=None)
    page.get_by_label("Code").fill(code(device))
    page.get_by_label("Code").press("Enter")

    expect(page).to_have_url(f"{door.site}/admin/")


def test_a_recovery_code_says_how_many_are_left(door):
    _, codes = with_device(User.objects.get())
    sign_in(door)

    enter(door, codes[0], "Go on")

    expect(door.page.get_by_text("That was a recovery code, 9 are left.")).to_be_visible()
    door.keep("second-step-recovered")


def test_the_account_menu_leads_to_another_authenticator(door):
    page = door.page
    device, _ = with_device(User.objects.get())
    sign_in(door)
    enter(door, code(device), "Go on")
    page.get_by_text("unfold_more").click()
    page.get_by_role("link", name="Two-step sign-in").click()
    expect(page.get_by_text("10 recovery codes are left")).to_be_visible()
    door.keep("second-step-account")

    enter(door, code(device, 1), "Another authenticator")

    expect(page.locator(".second-step-qr svg")).to_be_visible()
    enter(door, code(Authenticator.objects.get(confirmed=False)), "Confirm")
    expect(page.locator(".recovery-codes li")).to_have_count(10)


def test_who_guesses_passwords_reads_that_they_are_locked_out(door):
    for _ in range(5):
        sign_in(door, "wrong")

    expect(door.page.get_by_text("too many wrong passwords")).to_be_visible()
    assert [problem for problem in door.problems if "429" not in problem] == []
    door.problems.clear()  # the console tells of the status
    door.keep("locked-out")
    door.page.get_by_role("link", name="Back to the sign-in").click()
    expect(door.page.get_by_label("Username")).to_be_visible()


def test_a_page_that_is_left_open_ends_at_the_sign_in(screen, tmp_path):
    page = screen.page
    ProviderFactory(slug="carrier-a")
    upload(screen, tmp_path, "supplier.csv", price_files.SUPPLIER)
    Session.objects.update(expire_date=datetime.now(UTC) + timedelta(minutes=1))

    with page.expect_request("**/progress/") as polled:
        pass
    page.wait_for_timeout(1500)

    assert polled.value.headers["x-poll"] == "1"
    assert Session.objects.get().expire_date < datetime.now(UTC) + timedelta(minutes=1)

    Session.objects.update(expire_date=datetime.now(UTC))

    expect(page.get_by_label("Username")).to_be_visible()
    assert "next=/admin/routing/priceimport/" in unquote(page.url)
    assert "/progress" not in page.url


def test_roles_are_groups(screen):
    roles.complete(None, using="default", plan=[])
    screen.open("auth/group/")

    for name in roles.ROLES:
        expect(screen.page.get_by_role("link", name=name)).to_be_visible()
    screen.keep("roles")
