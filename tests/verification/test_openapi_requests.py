"""The documenting serializers and the readers of the door take and refuse the same bodies, for the same fields."""

import jsonschema_rs
import pytest
from hypothesis import given, settings

from messaging.openapi.schema import document
from tests.messaging.corpus import refused_by_the_document, refused_by_the_door
from tests.verification import corpus
from verification import drafts
from verification.openapi.requests import CheckRequest, RedeemRequest, StartRequest

READERS = {
    StartRequest: (drafts.read_start, corpus.STARTS),
    CheckRequest: (drafts.read_check, corpus.CHECKS),
    RedeemRequest: (drafts.read_redeem, corpus.REDEEMS),
}


@pytest.mark.parametrize("serializer", READERS)
def test_the_corpus_is_read_alike(serializer):
    differing = []
    for body in READERS[serializer][1]:
        door, document = refused_by_the_door(READERS[serializer][0], body), refused_by_the_document(serializer, body)
        if door != document:
            differing.append((str(body)[:200], door, document))

    assert differing == []


@pytest.mark.parametrize("serializer", READERS)
def test_the_corpus_has_both_kinds(serializer):
    refused = [bool(refused_by_the_door(READERS[serializer][0], body)) for body in READERS[serializer][1]]

    assert refused.count(True) > 60
    assert refused.count(False) >= 5


@given(corpus.bodies(corpus.START, corpus.START_VALUES))
@settings(deadline=None, max_examples=400)
def test_any_start_is_read_alike(body):
    assert refused_by_the_door(READERS[StartRequest][0], body) == refused_by_the_document(StartRequest, body)


@given(corpus.bodies(corpus.CHECK, corpus.CHECK_VALUES))
@settings(deadline=None, max_examples=200)
def test_any_check_is_read_alike(body):
    assert refused_by_the_door(READERS[CheckRequest][0], body) == refused_by_the_document(CheckRequest, body)


@given(corpus.bodies(corpus.REDEEM, corpus.REDEEM_VALUES))
@settings(deadline=None, max_examples=100)
def test_any_redeeming_is_read_alike(body):
    assert refused_by_the_door(READERS[RedeemRequest][0], body) == refused_by_the_document(RedeemRequest, body)


@pytest.mark.parametrize("serializer", READERS)
def test_the_json_schema_refuses_nothing_that_the_door_takes(serializer):
    root = {"$ref": f"#/components/schemas/{serializer.__name__}", "components": document()["components"]}
    schema = jsonschema_rs.Draft202012Validator(root, validate_formats=True)
    right = [body for body in READERS[serializer][1] if not refused_by_the_door(READERS[serializer][0], body)]

    assert [str(body) for body in right if not schema.is_valid(body)] == []


@pytest.mark.parametrize(
    "context",
    [{"amount": "0.00", "currency": "EUR"}, {"amount": "1"}, {"payee": "A\u202eB"}, {"payee": " "}, {"fee": "1"}, None],
)
def test_the_json_schema_refuses_what_it_can_describe(context):
    root = {"$ref": "#/components/schemas/StartRequest", "components": document()["components"]}

    assert not jsonschema_rs.Draft202012Validator(root).is_valid({**corpus.START, "context": context})
