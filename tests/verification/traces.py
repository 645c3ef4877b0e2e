"""Every place where something may have been left behind, as text: tables, queues, logs, pages, streams."""

import logging
import os
import re
import subprocess
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pika
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, reverse
from pika.exceptions import ChannelClosedByBroker

from config.local.postgres import program_directory
from messaging.states import LANES
from providers.sql import rows
from tests.fleet import database_url

SAMPLE = 8  # rows of each table that are opened in the admin
_BYTES = re.compile(r"\\\\x((?:[0-9a-f]{2})+)")


def digit_runs(text: str) -> set[str]:
    return set(re.findall(r"[0-9]+", text))


def found_in(places: dict[str, str], secrets: Iterable[str]) -> dict[str, int]:
    """Place -> how many of the secrets are there, each as a whole run of digits."""
    wanted = set(secrets)
    hits = {name: len(digit_runs(text) & wanted) for name, text in places.items()}
    return {name: count for name, count in hits.items() if count}


def dump() -> str:
    """The whole database, the broker's tables in it, and binary columns as the text that they may hide."""
    done = subprocess.run([program_directory() / "pg_dump", database_url()], capture_output=True, text=True, check=True)
    hidden = [bytes.fromhex(found).decode("latin-1") for found in _BYTES.findall(done.stdout)]
    running = [query for (query,) in rows("SELECT query FROM pg_stat_activity WHERE query IS NOT NULL")]
    return "\n".join([done.stdout, *hidden, *running])


def rabbitmq() -> str:
    """What waits in the queues of RABBITMQ_URL, and stays there."""
    url, found = os.environ.get("RABBITMQ_URL", ""), []
    if url:
        with pika.BlockingConnection(pika.URLParameters(url)) as broker:
            for queue in (f"{lane}{kind}" for lane in LANES for kind in ("", ".DQ", ".XQ")):
                with suppress(ChannelClosedByBroker):  # there is no such queue yet
                    channel = broker.channel()
                    while (message := channel.basic_get(queue))[0]:
                        found.append(repr(message))
    return "\n".join(found)


class Records(logging.Handler):
    """All that a record holds, before any formatter masks it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = [record.getMessage(), repr(record.__dict__)]
        if record.exc_info and record.exc_info[1]:
            said += traceback.format_exception(record.exc_info[1])
        self.lines.append(" ".join(said))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def everything_logged() -> Iterator[Records]:
    """Every logger of this process at DEBUG, whatever the settings silence."""
    records, root = Records(), logging.getLogger()
    named = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    before = [(logger, logger.level, logger.propagate) for logger in (root, *named)]
    for logger in (root, *named):
        logger.setLevel(logging.DEBUG)
        logger.propagate = True
    root.addHandler(records)
    try:
        yield records
    finally:
        root.removeHandler(records)
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate


class ServerLog:
    """PostgreSQL's own log with every statement and its parameters; empty for a server that others have started.

    It covers the sessions that begin within the block.
    """

    def __init__(self) -> None:
        ((directory,),) = rows("SHOW data_directory")
        self._file = Path(directory).parent / "log"
        self._from = self._file.stat().st_size if self._file.is_file() else 0

    def __enter__(self) -> "ServerLog":
        _for_new_sessions(f"SET {name} = '{value}'" for name, value in _TALKATIVE.items())
        return self

    def __exit__(self, *exc: object) -> None:
        _for_new_sessions(f"RESET {name}" for name in _TALKATIVE)

    @property
    def text(self) -> str:
        if not self._file.is_file():
            return ""
        with self._file.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")


# The worst that an operator can do.
_TALKATIVE = {
    "log_statement": "all",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_min_error_statement": "error",
    "log_error_verbosity": "default",
}


def _for_new_sessions(changes: Iterable[str]) -> None:
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        for change in changes:
            cursor.execute(f'ALTER DATABASE "{name}" {change}')
    connection.close()


def admin_pages(browser: Client) -> str:
    """Every page of the admin without an argument, and some rows of every table."""
    addresses = [*_plain_addresses(admin.site.get_urls()), *_row_addresses()]
    answers = {address: browser.get(address) for address in addresses}
    wrong = {address: answer.status_code for address, answer in answers.items() if answer.status_code >= 500}
    assert not wrong, wrong
    return "\n".join(answer.content.decode() for answer in answers.values() if not answer.streaming)


def _plain_addresses(patterns: Iterable[URLPattern | URLResolver]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _plain_addresses(pattern.url_patterns)
        elif pattern.name and pattern.name not in ("logout", "password_change_done"):
            with suppress(NoReverseMatch):
                yield reverse(f"admin:{pattern.name}")


def _row_addresses() -> Iterator[str]:
    for model in admin.site._registry:
        options = model._meta
        for key in model._default_manager.values_list("pk", flat=True)[:SAMPLE]:
            yield reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[key])
