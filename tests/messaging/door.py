"""What tests of the doors share: requests, and proof that nothing was stored."""

import hmac
import json
import time
from contextlib import contextmanager
from datetime import UTC, datetime

from django.apps import apps

from messaging import receipts
from messaging.models import ApiKey
from providers.sql import rows

URL = "/api/v1/messages"
APPS = ("messaging", "providers", "routing", "verification")
GOOD = {"to": "+380671234567", "text": "Your transfer has arrived."}


def contents():
    """Every row of every table of ours, in short. Keys are left out: their use is noted at every request."""
    models = [m for label in APPS for m in apps.get_app_config(label).get_models()]
    tables = [model._meta.db_table for model in models if model is not ApiKey]
    digest = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"
    return {table: rows(digest.format(table))[0] for table in tables}


@contextmanager
def nothing_stored():
    before = contents()
    yield
    assert contents() == before


def assert_problem(answer, status, code, *fields):
    """RFC 9457 with our code and, where the fault is in fields, exactly these (name, code) pairs."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == "about:blank"
    assert body["title"]
    if fields:
        assert [(error["field"], error["code"]) for error in body["errors"]] == list(fields)
        assert all(error["message"] for error in body["errors"])


def receipt(**changes):
    """The body of a receipt of the simulated carrier."""
    now = datetime.now(UTC).isoformat()
    return json.dumps({"id": "their-1", "reference": "", "status": "delivered", "at": now} | changes).encode()


def signed(body, token="secret-token", timestamp=None):
    """The headers by which the simulated carrier signs it."""
    timestamp = timestamp or str(int(time.time()))
    signature = hmac.digest(token.encode(), timestamp.encode() + b"." + body, "sha256").hex()
    return {"X-Carrier-Timestamp": timestamp, "X-Carrier-Signature": signature}


def store_receipts(provider_id, found):
    """Receipts of one provider, as its address takes them; how many were new."""
    return receipts.store([(provider_id, one) for one in found])
