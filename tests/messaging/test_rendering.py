"""Texts that only the worker knows: filled in when an attempt is made, and in no table."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import OperationalError

from messaging import reconcile
from messaging.models import Attempt, Event, Message
from messaging.states import AttemptStatus, Status
from providers import health
from providers.adapters import ADAPTERS
from providers.adapters.simulator import Simulator
from providers.models import ProviderHealth
from providers.outcomes import Ambiguous
from providers.sql import rows
from tests.factories import MessageFactory, ProviderFactory
from tests.messaging.stages import accepted, claim, claim_one, now, only_attempt, only_message, settle
from tests.messaging.wire import ACCEPTED

pytestmark = pytest.mark.django_db

SECRET = "swordfish"
asked_for: list[list[str]] = []


def whisper(asked):
    """Closed, broken in Python and broken in the database: by the words of the text."""
    asked_for.append(sorted(one.text for one in asked))
    for one in asked:
        if "raises" in one.text:
            raise KeyError(one.text)
        if "breaks" in one.text:
            rows("SELECT 1 / 0")
        if "away" in one.text:
            raise OperationalError("connection lost")
    return {one.attempt_id: None if "closed" in one.text else f"{one.text} {SECRET}" for one in asked}


def silence(asked):
    return {}


def nothing(asked):
    return None


class Talkative(Simulator):
    """A vendor whose look-up goes by the text."""

    slug = "talkative"

    def build_lookup(self, submission):
        return replace(super().build_lookup(submission), body=submission.text.encode())


@pytest.fixture(autouse=True)
def _renderers(settings):
    settings.MESSAGE_RENDERERS = {"whisper": f"{__name__}.whisper"}
    asked_for.clear()


@pytest.fixture
def provider(db):
    return ProviderFactory(price="0.04")


def whispered(text, **fields):
    return MessageFactory(**{"text": text, "renderer": "whisper", "message_class": "otp", **fields})


def sent_text(offer):
    return json.loads(offer.call.request.body)["text"]


def state_of(message):
    found = Message.objects.get(id=message.id)
    return found.status, found.error_code


def test_messages_of_one_batch_have_their_own_texts_by_one_question(provider):
    for text in ("first", "second"):
        whispered(text)
    MessageFactory(text="plain", message_class="otp")

    offers = claim("otp")

    assert sorted(map(sent_text, offers)) == [f"first {SECRET}", "plain", f"second {SECRET}"]
    assert asked_for == [["first", "second"]]


def test_one_that_must_not_be_sent_any_more_is_cancelled(provider):
    message = whispered("closed")

    offers = claim("otp")

    assert offers == []
    assert state_of(message) == (Status.CANCELLED, "challenge_closed")
    assert not Attempt.objects.exists()
    assert Event.objects.get().type == "message.cancelled"


@pytest.mark.parametrize("fault", ["raises", "breaks"])
def test_text_that_cannot_be_rendered_stops_nobody_else(provider, fault, lines):
    good, bad = whispered("good"), whispered(f"{fault} {SECRET}")

    (offer,) = claim("otp")

    assert (offer.message_id, sent_text(offer)) == (good.id, f"good {SECRET}")
    assert state_of(bad) == (Status.QUEUED, "")
    assert not Attempt.objects.filter(message=bad).exists()
    (line,) = lines.of("a text could not be rendered")
    assert line["message_id"] == str(bad.id)
    assert SECRET not in lines.text


def test_text_that_cannot_be_rendered_is_tried_again_later_and_goes_when_it_can(provider):
    message = whispered("raises")
    claim("otp")
    assert claim("otp") == []  # not at once

    Message.objects.update(text="healed", not_before=now())

    assert claim_one("otp").message_id == message.id


def test_text_that_can_never_be_rendered_ends_with_its_validity(provider):
    message = whispered("raises")
    claim("otp")
    Message.objects.update(not_before=now(), expires_at=now())

    claim("otp")

    assert state_of(message) == (Status.EXPIRED, "validity_over")


def test_unknown_renderer_stops_only_its_messages(provider, lines):
    unknown, good = whispered("who?", renderer="nobody"), whispered("good")

    (offer,) = claim("otp")

    assert offer.message_id == good.id
    assert state_of(unknown) == (Status.QUEUED, "")
    assert lines.of("no such renderer")[0]["code"] == "nobody"


@pytest.mark.parametrize("function", ["no_such_function", "silence", "nothing"])
def test_renderer_that_is_wrong_stops_only_its_messages(provider, settings, function):
    settings.MESSAGE_RENDERERS = {**settings.MESSAGE_RENDERERS, "wrong": f"{__name__}.{function}"}
    wrong, good = whispered("text", renderer="wrong"), whispered("good")

    (offer,) = claim("otp")

    assert offer.message_id == good.id
    assert state_of(wrong) == (Status.QUEUED, "")


@pytest.mark.parametrize("text", ["closed", "raises"])
def test_probe_that_does_not_leave_is_given_back(provider, text):
    ProviderHealth.objects.create(provider=provider, country="", state="half_open", probe_at=now())
    health.forget()
    whispered(text)

    claim("otp")

    assert not Attempt.objects.exists()
    assert health.win_probe(provider.pk, "UA")


def test_database_that_is_away_fails_no_message(provider):
    whispered("away")

    with pytest.raises(OperationalError):
        claim("otp")

    assert only_message().status == Status.QUEUED


def test_secret_is_in_no_column_after_the_send(provider):
    whispered("text")
    settle(claim_one("otp"), accepted())

    stored = [
        row[0]
        for table in ("message", "attempt", "event", "tallydelta")
        for row in rows(f"SELECT t::text FROM messaging_{table} t")  # noqa: S608  literals
    ]

    assert only_message().status == Status.SENT
    assert len(stored) >= 4
    assert not [row for row in stored if SECRET in row]


class TestLookingUp:
    @pytest.fixture
    def doubt(self, provider, wire):
        def lose_the_answer(adapter, **fields):
            provider.adapter, provider.base_url = adapter, wire.url
            provider.set_credentials({"token": "t", "account_sid": "AC" + "a" * 32, "auth_token": "token"})
            for name, value in fields.items():
                setattr(provider, name, value)
            provider.save()
            message = whispered("text")
            settle(claim_one("otp"), Ambiguous("connection_lost"))
            Attempt.objects.update(resolve_at=now(), started_at=now() - timedelta(seconds=5))
            return message

        return lose_the_answer

    def test_nobody_is_asked_with_the_whole_text(self, doubt, wire, monkeypatch):
        monkeypatch.setitem(ADAPTERS, "talkative", f"{__name__}.Talkative")
        wire.answer = lambda *request: (500, {})
        doubt("talkative", resolve="list")

        reconcile.run()

        ((*_, body),) = wire.requests
        assert body == b"text"

    def test_own_message_is_told_in_a_list_by_the_whole_text(self, doubt, wire):
        message = doubt("twilio")
        sent = only_attempt().started_at.strftime("%a, %d %b %Y %H:%M:%S +0000")
        entry = {
            "sid": "SM" + "b" * 32,
            "to": message.to,
            "from": "MEXAR",
            "body": f"text {SECRET}",
            "direction": "outbound-api",
            "status": "sent",
            "date_created": sent,
            "date_sent": sent,
            "account_sid": "AC" + "a" * 32,
        }
        wire.answer = lambda *request: (200, {"messages": [entry], "next_page_uri": None})

        reconcile.run()

        assert only_message().status == Status.SENT


class TestPostingAgain:
    """The provider honours our reference as a key."""

    @pytest.fixture
    def provider(self, wire):
        return ProviderFactory(price="0.04", resolve="key", base_url=wire.url)

    def doubt(self, text):
        whispered(text)
        offer = claim_one("otp")
        settle(offer, Ambiguous("connection_lost"))
        Attempt.objects.update(resolve_at=now())
        return offer

    def test_bytes_are_the_same(self, provider, wire):
        first = self.doubt("text").call.request
        wire.answer = lambda *request: ACCEPTED

        reconcile.run()

        ((*_, body),) = wire.requests
        assert body == first.body
        assert SECRET in body.decode()
        assert only_message().status == Status.SENT

    def test_one_that_is_closed_is_not_posted_again_and_is_held(self, provider, wire, settings):
        settings.RECEIPT_GRACE_OTP = 0
        self.doubt("text")
        Message.objects.update(text="closed")

        reconcile.run()

        assert wire.requests == []
        assert (only_attempt().status, only_message().status) == (AttemptStatus.UNKNOWN, Status.HELD)
        assert not only_message().possible_duplicate
        assert claim("otp") == []

    def test_one_that_closes_after_it_was_queued_again_is_held(self, provider, settings):
        settings.RECEIPT_GRACE_OTP = 0
        self.doubt("text")
        Message.objects.update(status=Status.QUEUED, text="closed")
        Attempt.objects.update(status=AttemptStatus.SUPERSEDED)

        claim("otp")

        assert only_message().status == Status.HELD

    def test_one_that_cannot_be_rendered_holds_up_nobody(self, provider, wire):
        self.doubt("good")
        whispered("bad")
        settle(claim_one("otp"), Ambiguous("connection_lost"))
        Message.objects.filter(text="bad").update(text="breaks")
        Attempt.objects.update(resolve_at=now())
        wire.answer = lambda *request: ACCEPTED

        reconcile.run()

        assert sorted(Message.objects.values_list("text", "status")) == [
            ("breaks", Status.UNKNOWN),
            ("good", Status.SENT),
        ]
