"""docs/api.md says what the door does."""

import json
import re
from pathlib import Path

import pytest
from django.conf import settings

from messaging import drafts, problems, views
from messaging.errors import Refusal
from messaging.models import SCOPES, Message
from providers.models import ProviderHealth
from tests.factories import AttemptFactory, ProviderFactory
from tests.messaging.door import URL

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def section(title):
    return re.split(r"\n#+ ", PAGE.split(f"# {title}\n", 1)[1])[0]


def first_cells(text):
    return re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)


def example(name):
    return json.loads(re.search(rf"```json {name}\n(.*?)```", PAGE, re.DOTALL)[1])


def refusals(base=Refusal):
    return {found for child in base.__subclasses__() for found in {child, *refusals(child)}}


def our_codes():
    """Status and code of every refusal of the API. Those of commands from Kafka stand beside a dead letter instead."""
    ours = [found for found in refusals() if found.__module__.startswith(("messaging.", "verification."))]
    ours = [found for found in ours if found.__module__ != "messaging.commands" and "code" in vars(found)]
    return {(found.status, found.code) for found in ours}


def test_every_error_code_is_in_the_table_with_its_status():
    told = {(int(status), code) for status, code in re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)}

    assert told == our_codes() | set(problems.CODES.items())
    assert len({code for _, code in told}) == len(told)


def test_every_field_error_is_in_the_table():
    modules = ("drafts", "texts", "idempotency", "intake", "views")
    files = [f"messaging/{name}.py" for name in (*modules, "webhooks/drafts", "webhooks/addresses")]
    files += ["verification/drafts.py", "verification/profiles.py", "verification/challenges.py"]
    source = "".join((ROOT / name).read_text(encoding="utf-8") for name in files)
    numbers = (ROOT / "routing" / "numbers.py").read_text(encoding="utf-8")

    codes = set(re.findall(r'"([a-z0-9_]+)", (?:f?"[A-Z][a-z ]|problem\)|message\)|" if)', source))
    codes |= set(re.findall(r'InvalidNumber\("(\w+)"\)', numbers)) | {"required"}
    assert set(first_cells(section("Field errors"))) == codes


def test_every_field_parameter_and_scope_is_explained():
    assert set(first_cells(section("Send a message"))) == drafts.FIELDS
    assert set(first_cells(section("Send a batch"))) == drafts.BATCH_FIELDS
    assert set(first_cells(section("Ask for a price"))) == drafts.QUOTE_FIELDS
    assert set(first_cells(section("List messages"))) == views._Query.KNOWN
    assert set(first_cells(section("Keys"))) == set(SCOPES)


def test_the_figures_are_those_of_the_code():
    for figure in (drafts.SHORTEST_VALIDITY, drafts.LONGEST_VALIDITY, *drafts.VALIDITY.values()):
        assert re.search(rf"\b{figure}\b", section("Send a message"))
    assert f"1 to {drafts.MAX_BATCH} messages" in section("Send a batch")
    for limit in (section("Send a batch"), PAGE.split("`body_too_large`")[1].split("\n")[0]):
        assert f"{settings.BATCH_BODY_LIMIT // 1024**2} MB" in limit
    assert f"1 to {views.LONGEST_PAGE}, {views.PAGE} without" in section("List messages")


@pytest.mark.django_db
def test_the_examples_are_answered_as_they_are_shown(api):
    provider = ProviderFactory(price="0.04")

    accepted = api.post(URL, example("request"), format="json").json()
    AttemptFactory(message=Message.objects.get(), provider=provider)
    message = api.get(f"{URL}/{accepted['id']}").json()
    problem = api.post(URL, example("request") | {"text": "", "validty": 1}, format="json").json()

    varying = ("id", "created_at", "expires_at")
    assert list(accepted) == list(example("accepted"))
    assert all(accepted[name] == value for name, value in example("accepted").items() if name not in varying)
    assert list(message) == list(example("message"))
    assert list(message["attempts"][0]) == list(example("message")["attempts"][0])
    assert problem == example("problem")


@pytest.mark.django_db
def test_the_example_of_a_batch_is_answered_as_it_is_shown(api):
    ProviderFactory(price="0.04")

    answer = api.post(f"{URL}/batch", example("batch-request"), format="json").json()

    answer["results"][0]["id"] = example("batch")["results"][0]["id"]
    assert answer == example("batch")


@pytest.mark.django_db
def test_the_example_of_a_quote_is_answered_as_it_is_shown(api):
    opened = ProviderFactory(slug="carrier-a", price="0.04")
    ProviderFactory(slug="carrier-b", price="0.05")
    ProviderFactory(slug="carrier-c")
    ProviderHealth.objects.create(provider=opened, state=ProviderHealth.State.OPEN, reason="connect_timeout")

    answer = api.post("/api/v1/quotes", {"to": "+380671234567", "text": "x" * 161}, format="json")

    assert answer.json() == example("quote")
    assert list(answer.json()) == list(example("quote"))
