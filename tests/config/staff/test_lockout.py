"""Who guesses passwords is locked out, and nobody else with them."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.core.management import call_command
from django.test import Client

from tests.config.staff import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _one_step(settings):
    settings.STAFF_TOTP = False


def guess(client, password="wrong", name="alice", **extra):
    return client.post("/admin/login/?next=/admin/", {"username": name, "password": password}, **extra)


def lock(client, **extra):
    return [guess(client, **extra) for _ in range(5)][-1]


def test_five_wrong_passwords_lock_out(client, alice):
    answers = [guess(client) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    assert "too many wrong passwords" in answers[-1].content.decode()
    assert answers[-1]["Retry-After"] == "900"
    assert guess(client, PASSWORD).status_code == 429


def test_guessing_on_does_not_keep_the_owner_out(client, alice):
    lock(client)
    before = AccessAttempt.objects.get()

    guess(client)

    assert AccessAttempt.objects.get().attempt_time == before.attempt_time


def test_the_lock_ends(client, alice):
    lock(client)
    AccessAttempt.objects.update(attempt_time=AccessAttempt.objects.get().attempt_time - timedelta(minutes=16))

    assert guess(client, PASSWORD).status_code == 302


def test_a_right_password_forgives_the_wrong_ones(client, alice):
    for _ in range(4):
        guess(client)
    guess(client, PASSWORD)
    other = Client()

    assert [guess(other).status_code for _ in range(4)] == [200] * 4


def test_from_elsewhere_the_owner_signs_in(client, alice):
    lock(client)

    assert guess(client, PASSWORD, REMOTE_ADDR="10.0.0.9").status_code == 302


def test_another_name_from_the_same_address_is_free(client, alice, django_user_model):
    django_user_model.objects.create_superuser("bob", password=PASSWORD)
    lock(client)

    assert guess(client, PASSWORD, name="bob").status_code == 302


def test_behind_a_proxy_the_address_is_the_one_it_saw(client, alice, settings):
    settings.PROXIES = 1
    lock(client, headers={"X-Forwarded-For": "1.1.1.1, 10.0.0.5"})

    locked = guess(client, PASSWORD, headers={"X-Forwarded-For": "2.2.2.2, 10.0.0.5"})
    free = guess(client, PASSWORD, headers={"X-Forwarded-For": "1.1.1.1, 10.0.0.6"})

    assert (locked.status_code, free.status_code) == (429, 302)


def test_one_line_of_ipv6_is_one_address(client, alice):
    for number in range(5):
        answer = guess(client, REMOTE_ADDR=f"2001:db8::{number}")

    assert answer.status_code == 429
    assert guess(client, PASSWORD, REMOTE_ADDR="2001:db8::99").status_code == 429
    assert guess(client, PASSWORD, REMOTE_ADDR="2001:db8:0:1::1").status_code == 302


def test_ipv4_counts_the_same_on_a_listener_of_both_families(client, alice):
    lock(client, REMOTE_ADDR="::ffff:192.0.2.1")

    assert guess(client, PASSWORD, REMOTE_ADDR="192.0.2.1").status_code == 429
    assert guess(client, PASSWORD, REMOTE_ADDR="::ffff:192.0.2.2").status_code == 302


@pytest.mark.parametrize("passed", ["", "nonsense"])
def test_an_address_that_is_none_is_locked_like_one(client, alice, settings, passed):
    settings.PROXIES = 1

    assert lock(client, headers={"X-Forwarded-For": passed}).status_code == 429


def test_another_browser_at_the_same_address_is_locked_too(client, alice):
    lock(client)

    assert guess(Client(headers={"User-Agent": "other"}), PASSWORD).status_code == 429


def test_an_administrator_unlocks(client, alice):
    lock(client)

    call_command("axes_reset_username", "alice")

    assert guess(client, PASSWORD).status_code == 302


def test_no_password_is_stored_or_logged(client, alice, lines):
    lock(client, password="nearly the right one")

    row = AccessAttempt.objects.get()
    assert "nearly" not in f"{row.post_data}{row.get_data}{lines.text}"
    assert "alice" not in lines.text
    assert "AXES" not in lines.text
    assert lines.of("a sign-in is locked after wrong passwords")


def test_who_may_see_everything_sees_no_page_of_attempts(boss):
    assert boss.get("/admin/axes/").status_code == 404
