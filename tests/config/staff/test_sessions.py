"""A session that nobody uses ends; one that is used is not written at every request."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings as current
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext

from config.staff import sessions
from tests.config.staff import PASSWORD

pytestmark = pytest.mark.django_db

PAGE = "/admin/password_change/"


@pytest.fixture(autouse=True)
def _one_step(settings):
    settings.STAFF_TOTP = False
    settings.STAFF_IDLE = 15


def minutes_left():
    return (Session.objects.get().expire_date - datetime.now(UTC)).total_seconds() / 60


def age(client, **since):
    """As if the last request had been so long ago."""
    row = Session.objects.get()
    session = client.session
    session.set_expiry(row.expire_date - timedelta(**since))
    session.save()


def writes(client, path=PAGE, **extra):
    with CaptureQueriesContext(
        connection,
    ) as found:
        assert client.get(path, **extra).status_code == 200
    return [query["sql"] for query in found if not query["sql"].startswith("SELECT")]


def test_it_begins_with_the_sign_in(client, alice):
    client.post("/admin/login/?next=/admin/", {"username": "alice", "password": PASSWORD})

    assert minutes_left() == pytest.approx(15, abs=0.1)
    assert client.cookies[current.SESSION_COOKIE_NAME]["max-age"] in (899, 900)


def test_it_ends_when_nobody_uses_it(client, alice):
    client.force_login(alice)
    age(client, minutes=15)

    assert client.get(PAGE).url.startswith("/admin/login/")


def test_who_uses_it_keeps_it(client, alice):
    client.force_login(alice)
    age(client, minutes=14)

    assert client.get(PAGE).status_code == 200

    assert minutes_left() == pytest.approx(15, abs=0.1)


def test_it_is_written_no_more_than_once_a_minute(client, alice):
    client.force_login(alice)
    assert writes(client) == []

    age(client, seconds=61)

    assert any("UPDATE" in sql for sql in writes(client))
    assert writes(client) == []


def test_a_page_that_asks_by_itself_does_not_keep_it(client, alice):
    client.force_login(alice)
    age(client, minutes=10)

    assert writes(client, headers={"HX-Request": "true", sessions.POLL: "1"}) == []

    assert minutes_left() == pytest.approx(5, abs=0.1)


def test_it_ends_after_eight_hours_whoever_uses_it(client, alice):
    client.force_login(alice)
    session = client.session
    session[sessions.STARTED] = (datetime.now(UTC) - timedelta(hours=7, minutes=55)).timestamp()
    session.set_expiry(datetime.now(UTC) + timedelta(minutes=2))
    session.save()

    client.get(PAGE)

    assert minutes_left() == pytest.approx(5, abs=0.1)


def test_one_of_an_older_version_begins_to_count_now(client, alice):
    client.force_login(alice)
    session = client.session
    del session[sessions.STARTED]
    session.set_expiry(None)
    session.save()

    assert client.get(PAGE).status_code == 200

    assert client.session[sessions.STARTED]


def test_a_fragment_is_not_replaced_by_the_sign_in(client):
    answer = client.get(PAGE, headers={"HX-Request": "true"})

    assert (answer.status_code, answer["HX-Refresh"], answer.content) == (200, "true", b"")


def test_sessions_that_have_ended_are_forgotten():
    Session.objects.create(session_key="old", session_data="", expire_date=datetime.now(UTC) - timedelta(days=1))
    Session.objects.create(session_key="new", session_data="", expire_date=datetime.now(UTC) + timedelta(days=1))

    sessions.purge()

    assert Session.objects.get().pk == "new"
