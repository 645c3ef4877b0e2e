"""One line per record: JSON for machines or text for a terminal, with nothing in it that is not known to be harmless.

Own formatter: a line costs 5 us, and no library of the field drops what is not on a list or the words of an exception.
"""

import json
import logging
import logging.config
import os
import re
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from messaging.context import request_id

# What `extra=` may bring; anything else is dropped.
FIELDS = frozenset(
    {
        "message_id",
        "attempt_id",
        "endpoint_id",
        "provider",
        "client",
        "key_id",
        "lane",
        "lanes",
        "outcome",
        "code",
        "count",
        "country",
        "user_id",
    }
    | {"method", "route", "status", "duration_ms", "bytes_in", "bytes_out", "version", "settings", "import"}
)
OURS = frozenset({"config", "messaging", "providers", "routing", "verification"})
FRAMES = 12  # of a traceback, the innermost
MASK = "[masked]"

_BASE = f"{Path(__file__).resolve().parent.parent}/"
_DIGITS = re.compile(r"\d\D{0,9}\d\D{0,9}\d\D{0,9}\d")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
# Read first, and kept: ids, moments, addresses, line numbers.
_KEPT = (
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=\d*[a-f])[0-9a-f]{32}\b"
    r"|\b20\d\d-[01]\d-[0-3]\d(?![-\d])(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?"
    rf"|(?<![+.\d]){_OCTET}(?:\.{_OCTET}){{3}}(?::\d{{1,5}})?(?![.\d])"
    r"|\.py:\d{1,5}\b|(?i:\bpid:? \d{1,7}\b)"
)
_NUMBER = r"\+?\d(?:(?:[\s().+/\-\u2010-\u2015]|%2[0-9a-fA-F]){0,3}\d){6,}"  # as people and URLs write them
_CODE = r"\d(?:[ -]?\d){3,5}"
NUMBERS = re.compile(f"({_KEPT})|{_NUMBER}")
NUMBERS_AND_CODES = re.compile(f"({_KEPT})|{_NUMBER}|{_CODE}")
_WORD = re.compile(r"\S{0,200}")
_QUOTED = re.compile(r"[\"'`(<{\[\n]")


def mask(text: str, pattern: re.Pattern[str] = NUMBERS_AND_CODES) -> str:
    """Without anything that looks like a phone number or a one-time code. The last net: nobody should log either."""
    return pattern.sub(lambda found: found[1] or MASK, text) if _DIGITS.search(text) else text


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a line tells besides its time, level and logger."""
    found: dict[str, Any] = {"message": _message(record)}
    for name, value in record.__dict__.items():
        if name in FIELDS and value is not None:
            found[name] = _word(value) if type(value) is str else value
    if current := request_id.get():
        found["request_id"] = current
    if record.exc_info and record.exc_info[1]:
        found["error"], found["where"] = _chain(record.exc_info[1]), _where(record.exc_info[2])
    return found


class Json(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self._time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "process": self._process,
            "pid": os.getpid(),
            **fields(record),
        }
        try:
            return orjson.dumps(line, default=_unknown).decode()
        except TypeError:  # half of a surrogate pair, an integer beyond 64 bits
            return json.dumps(line, default=_unknown)

    def _time(self, moment: float) -> str:
        """RFC 3339 in UTC, in milliseconds; the calendar is asked once a second."""
        second = int(moment)
        if self._second[0] != second:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int((moment - second) * 1000):03}Z"


class Console(logging.Formatter):
    """The same in words, for `make up`."""

    def format(self, record: logging.LogRecord) -> str:
        told = fields(record)
        message = told.pop("message")
        where = told.pop("where", [])
        words = [self.formatTime(record, "%H:%M:%S"), record.levelname, record.name, message]
        words += [f"{name}={value}" for name, value in told.items() if value not in ("", None)]
        return "\n    ".join([" ".join(words), *where])


def formatter() -> logging.Formatter:
    """The one that LOG_FORMAT names; a server that logs before Django is loaded asks for it too."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.conf import settings

    return Json(settings.PROCESS_NAME) if settings.LOG_FORMAT == "json" else Console()


def configure(config: dict[str, Any]) -> None:
    """settings.LOGGING_CONFIG. A record carries neither thread nor caller: nobody reads them, and they cost."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    logging.raiseExceptions = False  # a line that cannot be written would be shown with its arguments
    logging.captureWarnings(True)
    logging.config.dictConfig(config)


def _word(value: str) -> str:
    """A field is an identifier. What has white space is a text: a provider may send one as its error code."""
    return mask(value, NUMBERS) if _WORD.fullmatch(value) else MASK


def _message(record: logging.LogRecord) -> str:
    if hasattr(record, "request"):  # Django's own lines about requests quote the path or a header
        return "the request failed"
    text = _name(record.msg) if isinstance(record.msg, BaseException) else str(record.msg)
    if record.args:
        given = record.args
        if isinstance(given, tuple):
            given = tuple(_name(value) if isinstance(value, BaseException) else value for value in given)
        with suppress(TypeError, ValueError, KeyError):  # the template alone is more than nothing
            text %= given
    if record.name.partition(".")[0] not in OURS:
        text = _QUOTED.split(text, maxsplit=1)[0]  # what others quote may be anything
    return mask(text)


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _chain(error: BaseException) -> str:
    names: list[str] = []
    following: BaseException | None = error
    while following and len(names) < 4:
        names.append(_name(following))
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return " from ".join(names)


def _where(trace: TracebackType | None) -> list[str]:
    """Where it happened, never what it says: the words of an error may quote a number or a text."""
    found = [
        f"{frame.f_code.co_filename.rpartition('site-packages/')[2].removeprefix(_BASE)}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(trace)
    ]
    return found[-FRAMES:]


def _unknown(value: object) -> str:
    return type(value).__name__
