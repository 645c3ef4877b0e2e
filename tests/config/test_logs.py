"""A log line has what it is allowed to have, and neither numbers nor codes nor the words of an error."""

import ast
import json
import logging
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from config import VERSION, logs
from config.local.up import BASE_DIR
from messaging.context import request_id

SEPARATORS = st.sampled_from(["", "", " ", "-", "/", " (", ") ", "\u00a0", "\u2011", " - ", "%20", "%2D"])
WORDS = st.text(st.characters(categories=["L", "P", "Z"], exclude_characters="+"), max_size=12)
IDS = [
    "01a20410-8529-7221-9a27-27e3aec8a03c",
    "12345678-1234-7234-8234-123456789012",
    "464f5613c20372b1736f356c3a1d8a42",
    "2026-11-22T18:43:23.299Z",
    "2026-11-22 18:43:23",
    "http://192.168.100.200:8000",
    "10.0.0.1",
    "100.64.255.10",
    "Spawning worker-1 with PID: 10582",
    "config/settings.py:1234",
    "key r3ym4dp2uxnd",
]


def record(message, *args, name="messaging.delivery", error=None, **extra):
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.getLogger(name).makeRecord(name, logging.INFO, "", 0, message, args, exc_info, extra=extra)


def line(*args, **kwargs):
    return json.loads(logs.Json("worker").format(record(*args, **kwargs)))


@st.composite
def written(draw, shortest=7, longest=15):
    """A number as people write it: its digits, and the whole."""
    digits = draw(st.text("0123456789", min_size=shortest, max_size=longest))
    parts = [digit + draw(SEPARATORS) for digit in digits[:-1]]
    return digits, draw(st.sampled_from(["", "+", "00", "tel:+", "%2B"])) + "".join(parts) + digits[-1]


@given(written(), WORDS, WORDS)
@example(("380671234567", "+380671234567"), "", "")
@example(("380671234567", "+380 (67) 123-45-67"), "sent to ", "!")
@example(("380671234567", "+38.067.123.45.67"), "", "")
@example(("0671234567", "067.123.45.67"), "", "")
@example(("380671234567", "%2B380%2067%20123%204567"), "GET /x?to=", "&y")
def test_a_number_is_masked_however_it_is_written(number, before, after):
    digits, text = number
    assume(not re.search(r"20\d\d-\d\d-\d\d$", text))  # that is a day

    masked = logs.mask(f"{before}{text}{after}")

    assert logs.MASK in masked
    assert not re.search(r"\D{0,9}".join(digits[-7:]), masked)
    assert logs.mask(text, logs.NUMBERS) != text


@given(st.integers(4, 8).flatmap(lambda n: st.text("0123456789", min_size=n, max_size=n)), WORDS, WORDS)
def test_a_code_is_masked_in_a_message(code, before, after):
    masked = logs.mask(f"{before} {code} {after}")

    assert code not in masked


@pytest.mark.parametrize("text", ["G-483920", "483 920", "483-920", "code:4839", "code=483920.", "(483920)"])
def test_a_code_is_masked_as_it_stands_in_a_text(text):
    assert not re.search(r"48\D?3", logs.mask(text))


@pytest.mark.parametrize("text", IDS)
def test_what_lines_are_found_by_stays_readable(text):
    assert logs.mask(f"about {text} now") == f"about {text} now"


def test_the_error_code_of_a_provider_stays_readable():
    assert line("attempt", code="30003")["code"] == "30003"


@pytest.mark.parametrize(
    ("code", "shown"),
    [("blocked:+380671234567", "blocked:[masked]"), ("your text Rosebud", "[masked]"), ("Rose\nbud", "[masked]")],
)
def test_a_field_is_a_word_without_a_number(code, shown):
    assert line("attempt", code=code)["code"] == shown


def test_a_line_has_what_is_on_the_list_and_nothing_else():
    message_id = uuid.uuid4()

    found = line("attempt", message_id=message_id, provider="carrier-a", to="+380671234567", text="Rosebud")

    assert list(found) == ["time", "level", "logger", "process", "pid", "message", "message_id", "provider"]
    assert (found["message_id"], found["process"], found["level"]) == (str(message_id), "worker", "INFO")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])


def test_the_time_is_that_of_the_record():
    made = record("x")
    made.created = 1_795_372_999.9994

    assert json.loads(logs.Json("x").format(made))["time"] == "2026-11-22T18:43:19.999Z"


def test_a_line_belongs_to_its_request():
    token = request_id.set("4711")
    try:
        assert line("x")["request_id"] == "4711"
    finally:
        request_id.reset(token)
    assert "request_id" not in line("x")


def raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def test_an_error_is_told_by_its_type_and_its_place():
    error = raised(ValueError("Rosebud +380671234567"), json.JSONDecodeError("Rosebud", "{", 0))

    found = line("adapter could not read an answer", error=error)

    assert found["error"] == "ValueError from json.decoder.JSONDecodeError"
    assert re.fullmatch(r"tests/config/test_logs\.py:\d+ raised", found["where"][-1])
    assert "Rosebud" not in str(found)


@pytest.mark.parametrize("name", ["messaging.drain", "pika.connection"])
def test_an_error_among_the_arguments_is_told_by_its_type(name):
    found = line("broker away: %s after %d tries", ValueError("Rosebud"), 3, name=name)

    assert found["message"] == "broker away: ValueError after 3 tries"


def test_an_error_as_the_message_is_told_by_its_type():
    assert line(KeyError("Rosebud"), name="asyncio")["message"] == "KeyError"


@pytest.mark.parametrize(
    "message",
    [
        "Task exception was never retrieved\nfuture: <Task exception=ValueError('Rosebud')>",
        "Exception in callback f('Rosebud')",
        'DETAIL: Key "to" is Rosebud',
        "gave {'text': 'Rosebud'}",
    ],
)
def test_what_a_library_quotes_is_cut_off(message):
    assert "Rosebud" not in line(message, name="asyncio")["message"]
    assert line("%s", message, name="asyncio")["message"] == line(message, name="asyncio")["message"]


def test_what_django_says_of_a_request_does_not_quote_its_path(rf):
    found = line("Internal Server Error: %s", "/Rosebud", name="django.request", request=rf.get("/"), status_code=500)

    assert found["message"] == "the request failed"


def test_arguments_that_do_not_fit_leave_the_template():
    assert line("%d of %d", "Rosebud")["message"] == "%d of %d"


@pytest.mark.parametrize("value", ["\ud800", 2**70, object(), {"a": "\ud800"}])
def test_a_value_that_json_does_not_know_does_not_lose_the_line(value):
    assert line("x", count=1, code=value)["count"] == 1


def test_the_console_says_the_same_in_words():
    error = raised(ValueError("Rosebud +380671234567"))

    text = logs.Console().format(record("attempt", provider="carrier-a", to="+380671234567", error=error))

    first, *where = text.splitlines()
    assert first.endswith("INFO messaging.delivery attempt provider=carrier-a error=ValueError")
    assert where[-1].strip().endswith("raised")


def test_every_field_that_the_code_logs_is_on_the_list():
    """What is not would be dropped without a word."""
    found = set()
    for path in [path for app in logs.OURS for path in Path(BASE_DIR, app).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                found |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}

    assert {"message_id", "provider", "version"} <= found <= logs.FIELDS


def test_the_version_is_that_of_the_project():
    assert f'version = "{VERSION}"' in (BASE_DIR / "pyproject.toml").read_text()


SCRIPT = """
import logging, warnings
warnings.warn("Rosebud")
log = logging.getLogger("messaging")
log.info("%s", type("Broken", (), {"__str__": lambda self: 1 / 0})())
log.debug("detail")
logging.getLogger("django.db.backends").debug("SELECT 'Rosebud'")
logging.getLogger("django").warning("once")
log.info("last")
"""


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_a_process_writes_nothing_but_lines(level):
    environment = {**os.environ, "LOG_LEVEL": level, "DEBUG": "true"}

    command = [sys.executable, "-W", "always", "manage.py", "shell", "-v", "0", "-c", SCRIPT]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=60)

    told = [json.loads(text) for text in done.stderr.splitlines()]
    assert [found["message"] for found in told if found["logger"] != "py.warnings"] == [
        *(["detail"] if level == "DEBUG" else []),
        "once",
        "last",
    ]
    assert any(found["logger"] == "py.warnings" for found in told)
    assert done.stdout == ""
