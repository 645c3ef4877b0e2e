"""A session that nobody uses ends after STAFF_IDLE minutes, and any session after eight hours."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django_otp import DEVICE_ID_SESSION_KEY

STARTED = "staff_started"
REPLACES = "staff_replaces"  # until when a code that was presented allows another authenticator
DRAFT = "staff_draft"  # the authenticator that is being set up
LONGEST = timedelta(hours=8)
STEP = timedelta(minutes=1)  # a session is written no more often, so it may end that much earlier
POLL = "X-Poll"  # the header of what a page asks for by itself: nobody need be sitting there


def begin(request: HttpRequest, **kwargs: Any) -> None:
    """Somebody has signed in (Django's `user_logged_in`), perhaps once more: then the second step is due anew."""
    for name in (DEVICE_ID_SESSION_KEY, REPLACES, DRAFT):
        request.session.pop(name, None)
    now = datetime.now(UTC)
    request.session[STARTED] = now.timestamp()
    request.session.set_expiry(now + _idle())


def keep(request: HttpRequest) -> None:
    """The session of whoever has asked for this begins to wait anew."""
    session = request.session
    if POLL in request.headers or SESSION_KEY not in session:
        return
    now = datetime.now(UTC)
    started = datetime.fromtimestamp(session.setdefault(STARTED, now.timestamp()), UTC)
    until = min(now + _idle(), started + LONGEST)
    if until - session.get_expiry_date() >= STEP:
        session.set_expiry(until)


def purge() -> None:
    """Forgets those that have ended."""
    SessionStore.clear_expired()


def end(user: User, but: str | None = None) -> int:
    """Ends the user's sessions, and says how many there were. They are few: staff's alone."""
    found = [
        session.pk
        for session in Session.objects.filter(expire_date__gt=datetime.now(UTC)).exclude(pk=but)
        if session.get_decoded().get(SESSION_KEY) == str(user.pk)
    ]
    Session.objects.filter(pk__in=found).delete()
    return len(found)


def _idle() -> timedelta:
    return timedelta(minutes=settings.STAFF_IDLE)
