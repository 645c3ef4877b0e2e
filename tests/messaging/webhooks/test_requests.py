"""The documenting serializers and the readers of the door take and refuse the same bodies, for the same fields."""

from datetime import UTC, datetime, timedelta
from functools import partial

import jsonschema_rs
import pytest
from hypothesis import given, settings

from messaging.openapi.schema import document
from messaging.openapi.webhooks import EndpointChange, EndpointRequest, ReplayRequest, RotateRequest
from messaging.webhooks import drafts
from tests.messaging.corpus import ANYTHING, refused_by_the_document, refused_by_the_door
from tests.verification.corpus import bodies

ENDPOINT = {"url": "https://example.com/hook"}
EVENT_ID = "01a20410-8530-7b12-8c44-51d0a2f6b7e8"
URLS = [
    *("https://example.com", "https://example.com:8443/a?b=c", "https://EXAMPLE.com/", "https://xn--e1afmkfd.com/"),
    *("https://8.8.8.8/", "https://[2606:4700::1111]/", "https://a.b_c.example/", "https://example.com./"),
    *("http://example.com/", "ftp://example.com", "example.com", "https://", "https:///x", "https://:443/", "//x.y"),
    *("https://user@example.com", "https://a:b@example.com/", "https://example.com/#x", "https://example.com:0/"),
    *("https://example.com:99999/", "https://exa mple.com/", "https://example.com/\n", "https://exämple.com/"),
    *("https://10.0.0.1/", "https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://0177.0.0.1/"),
    *("https://[::ffff:8.8.8.8]/", "https://[::1", "https://example.com\\@x/", "https://x/" + "a" * 600, "https://-/"),
]
EVENTS: list[object] = [
    ["*"],
    ["message.*"],
    ["message.sent", "message.sent"],
    ["webhook.disabled"],
    ["verification.*", "*"],
]
EVENTS += [[], ["provider.down"], ["webhook.test"], ["message"], ["*", 1], [None], ["MESSAGE.SENT"], ["*"] * 21, "*"]
MOMENTS = [
    *((datetime.now(UTC) - timedelta(days=days)).isoformat() for days in (0, 1, 30, 32, -1, -365)),
    *("2026-11-22T12:00:00", "2026-11-22", "now", "2026-13-01T00:00:00Z", "١٩٧٠-01-01T00:00:00Z"),
]
ENDPOINT_VALUES = {"url": URLS, "events": EVENTS, "description": ["", "a" * 100, "a" * 101, "a\x00", "\ud800", "é"]}
ROTATE_VALUES = {"overlap_seconds": [0, 1, 604800, 604801, -1, 1.5, "60", True]}
REPLAY_VALUES = {
    "event_id": [EVENT_ID, EVENT_ID.upper(), EVENT_ID + " ", EVENT_ID[:-1], "{" + EVENT_ID + "}", ""],
    "since": MOMENTS,
    "until": MOMENTS,
    "failed_only": [True, False, "true", 1],
}
SERIALIZERS = {
    EndpointRequest: (partial(drafts.read_endpoint, new=True), ENDPOINT, ENDPOINT_VALUES),
    EndpointChange: (partial(drafts.read_endpoint, new=False), {}, ENDPOINT_VALUES),
    RotateRequest: (drafts.read_rotate, {}, ROTATE_VALUES),
    ReplayRequest: (drafts.read_replay, {"since": MOMENTS[0]}, REPLAY_VALUES),
}


def corpus(serializer):
    _, good, values = SERIALIZERS[serializer]
    found = [good, {}, {**good, "more": 1}, {"event_id": EVENT_ID}, {**good, "event_id": EVENT_ID}, *ANYTHING]
    return found + [{**good, name: value} for name, some in values.items() for value in [*some, *ANYTHING]]


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("plain", [True, False])
def test_the_corpus_is_read_alike(serializer, plain, settings):
    settings.WEBHOOK_ALLOW_HTTP, settings.WEBHOOK_ALLOWED_NETWORKS = plain, []
    differing = []
    for body in corpus(serializer):
        door, document = (
            refused_by_the_door(SERIALIZERS[serializer][0], body),
            refused_by_the_document(serializer, body),
        )
        if door != document:
            differing.append((str(body)[:200], door, document))

    assert differing == []


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_the_corpus_has_both_kinds(serializer):
    refused = [bool(refused_by_the_door(SERIALIZERS[serializer][0], body)) for body in corpus(serializer)]

    assert refused.count(True) > 20
    assert refused.count(False) >= 2


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_any_body_is_read_alike(serializer):
    _, good, values = SERIALIZERS[serializer]

    @given(bodies(good, values))
    @settings(deadline=None, max_examples=150)
    def check(body):
        assert refused_by_the_door(SERIALIZERS[serializer][0], body) == refused_by_the_document(serializer, body)

    check()


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_the_json_schema_refuses_nothing_that_the_door_takes(serializer):
    root = {"$ref": f"#/components/schemas/{serializer.__name__}", "components": document()["components"]}
    schema = jsonschema_rs.Draft202012Validator(root, validate_formats=True)
    right = [body for body in corpus(serializer) if not refused_by_the_door(SERIALIZERS[serializer][0], body)]

    assert [str(body) for body in right if not schema.is_valid(body)] == []
