"""The page about webhooks shows what is true: its receiver runs, its words are those of the code."""

import json
import re
from types import SimpleNamespace

import pytest
import standardwebhooks

from config.local.up import BASE_DIR
from messaging import schema
from messaging.models import Event
from messaging.webhooks import drafts, sending, signatures
from tests.messaging.webhooks.receiver import endpoint, secret_of, tell

PAGE = (BASE_DIR / "docs" / "webhooks.md").read_text()


def sample(name):
    return re.search(rf"```python {name}\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.fixture
def sent(db, client_row, claim):
    """A request as it is sent, with its secret."""
    row = endpoint(client_row, "http://127.0.0.1:9/hook")
    tell(client_row)
    (shot,) = claim()
    return secret_of(row), dict(shot.call.request.headers), shot.call.request.body


class Flask:
    """As much of it as the sample uses."""

    def __init__(self, name):
        self.views = {}

    def post(self, path):
        return lambda view: self.views.setdefault(path, view)


def receiver_of_the_page(secret, monkeypatch):
    request = SimpleNamespace(headers={}, body=b"")
    request.get_data = lambda: request.body
    request.get_json = lambda force: json.loads(request.body)
    monkeypatch.setenv("WEBHOOK_SECRET", secret)
    monkeypatch.setitem(__import__("sys").modules, "flask", SimpleNamespace(Flask=Flask, request=request))
    names = {"__name__": "receiver"}
    exec(compile(sample("receiver"), "docs/webhooks.md", "exec"), names)  # noqa: S102  our own page

    def call(headers, body):
        request.headers, request.body = headers, body
        return names["app"].views["/webhooks/sms"]()

    return call


def test_the_receiver_of_the_page_takes_each_event_once_and_nothing_forged(sent, monkeypatch, capsys):
    secret, headers, body = sent
    call = receiver_of_the_page(secret, monkeypatch)

    assert [call(headers, body) for _ in range(2)] == [("", 204)] * 2
    assert capsys.readouterr().out == f"message.sent {Event.objects.get().subject} sent\n"
    assert call(headers, body.replace(b"sent", b"lost")) == ("", 401)
    assert call({**headers, "webhook-id": "other"}, body) == ("", 401)
    assert call({**headers, "webhook-timestamp": "1"}, body) == ("", 401)


def test_the_receiver_is_ten_lines_and_some(sent):
    lines = [line for line in sample("receiver").splitlines() if line and "import" not in line]

    assert len(lines) <= 15


def test_the_few_lines_of_the_page_agree_with_the_library(sent):
    secret, headers, body = sent
    names: dict[str, object] = {}
    exec(sample("verify"), names)  # noqa: S102  our own page
    forged = [
        (secret, headers, body + b" "),
        (secret, {**headers, "webhook-timestamp": "1"}, body),
        (signatures.new_secret(), headers, body),
    ]

    verify = names["verify"]
    assert callable(verify)
    assert verify(secret, headers, body)
    assert standardwebhooks.Webhook(secret).verify(body, headers)
    assert not any(verify(*one) for one in forged)


def test_every_event_that_can_be_wanted_is_in_the_table():
    for kind in drafts.TYPES:
        assert f"`{kind}`" in PAGE, kind


def test_the_schedule_of_the_page_is_the_default(settings):
    words = {5: "5 s", 300: "5 min", 1800: "30 min", 7200: "2 h", 18000: "5 h", 36000: "10 h"}

    assert " | ".join(["at once", *(words[int(wait)] for wait in settings.WEBHOOK_SCHEDULE)]) in PAGE
    assert f"{settings.WEBHOOK_TIMEOUT:g} s counts as failed" in PAGE
    assert f"({settings.WEBHOOK_CONCURRENCY} of each worker)" in PAGE
    assert sending.CAREFUL == 2
    assert settings.WEBHOOK_DISABLE_AFTER == 5 * 86400


def test_the_test_event_and_the_alarm_keep_to_their_schema(client_row, claim, db):
    from messaging.webhooks import endpoints

    row, other = (endpoint(client_row, "http://127.0.0.1:9/hook") for _ in range(2))
    endpoints.test(row)
    (shot,) = claim()
    sending.settle([sending.Outcome(shot, 410, "http_410")])

    found = [shot, *claim()]

    assert [shot.endpoint_id for shot in found] == [row.pk, other.pk]
    told = [json.loads(shot.call.request.body) for shot in found]
    assert [one["type"] for one in told] == ["webhook.test", "webhook.disabled"]
    assert [schema.problem("webhook.event.v1.json", one) for one in told] == ["", ""]
