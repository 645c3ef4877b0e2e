"""The short way as its thread takes it: what one of a group does to the others."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from threading import Barrier

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from messaging import hot
from messaging.clients import issue_key
from messaging.hot import Post
from messaging.models import Message
from messaging.quotas import used_today
from providers.sql import rows
from tests.factories import ClientFactory, ProviderFactory
from tests.fleet import wait_for
from tests.messaging.door import GOOD, URL

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def provider(transactional_db):
    return ProviderFactory(price="0.045")


def post(token, key=None, **changes):
    headers = {"authorization": f"Bearer {token}", **({"idempotency-key": key} if key else {})}
    return Post(URL, headers, json.dumps({**GOOD, **changes}).encode(), "127.0.0.1")


WAITING = "pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT granted AND datname = current_database()"


@contextmanager
def forbidden(text):
    """A text that the database refuses, for a reason that nobody thought of."""
    rows(f"ALTER TABLE messaging_message ADD CONSTRAINT nobody_thought_of CHECK (text <> '{text}')")
    try:
        yield
    finally:
        rows("ALTER TABLE messaging_message DROP CONSTRAINT nobody_thought_of")


def test_one_that_the_database_refuses_costs_the_others_no_places(lines):
    client = ClientFactory(daily_quota=4)
    token = issue_key(client)

    with forbidden("poison"):
        replies = hot.accept([post(token), post(token, text="poison"), post(token)])

    assert replies == [None, None, None]  # each goes the ordinary way
    assert Message.objects.count() == 0
    assert hot.accept([post(token)] * 4).count(None) == 0
    assert used_today(client.pk) == 4
    assert GOOD["to"][1:] not in json.dumps(lines.all)


def test_what_the_first_of_two_statements_has_stored_is_not_stored_again():
    """A limit keeps the third waiting for the place that the second, a repeat, does not need after all."""
    client = ClientFactory(daily_quota=3)
    token = issue_key(client)
    hot.accept([post(token, "one")])

    with forbidden("poison"), pytest.raises(IntegrityError):
        hot.accept([post(token), post(token, "one"), post(token, text="poison")])

    assert Message.objects.count() == 2


def test_groups_with_the_same_keys_wait_for_each_other_and_accept_each_once():
    """As of two web processes, or of a web process and a bridge."""
    client = ClientFactory()
    token = issue_key(client)
    together = Barrier(4)

    def send(thread):
        numbers = list(range(30))
        Random(thread).shuffle(numbers)
        together.wait(20)
        try:
            return dict(zip(numbers, hot.accept([post(token, f"k{n}") for n in numbers]), strict=True))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(send, range(4)))

    told = {(n, reply.message_id) for replies in found for n, reply in replies.items() if reply}
    assert len(told) == Message.objects.count() == 30


@pytest.mark.parametrize("ends", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_statement_that_is_ended_leaves_everybody_in_doubt(ends):
    token = issue_key(ClientFactory())

    def accept():
        try:
            return hot.accept([post(token), post(token)])
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        rows("LOCK TABLE messaging_event")
        found = pool.submit(accept)
        wait_for(lambda: rows(f"SELECT {ends}(pid) FROM {WAITING}"), 20)  # noqa: S608
        with pytest.raises(OperationalError):
            found.result(20)

    assert Message.objects.count() == 0
