"""The documenting serializers and the reader of the doors take and refuse the same bodies, for the same fields."""

import pytest
from hypothesis import given, settings

from messaging import drafts
from messaging.openapi.requests import BatchRequest, MessageRequest, QuoteRequest
from tests.messaging import corpus
from tests.messaging.corpus import refused_by_the_document, refused_by_the_door

READERS = {MessageRequest: drafts.read, QuoteRequest: drafts.read_quote, BatchRequest: drafts.read_batch}


@pytest.mark.parametrize(
    ("serializer", "bodies"),
    [(MessageRequest, corpus.MESSAGES), (QuoteRequest, corpus.QUOTES), (BatchRequest, corpus.BATCHES)],
    ids=["messages", "quotes", "batches"],
)
def test_the_corpus_is_read_alike(serializer, bodies):
    differing = []
    for body in bodies:
        door, document = refused_by_the_door(READERS[serializer], body), refused_by_the_document(serializer, body)
        if door != document:
            differing.append((str(body)[:200], door, document))

    assert differing == []


@pytest.mark.parametrize("serializer", READERS)
def test_the_corpus_has_both_kinds(serializer):
    bodies = {MessageRequest: corpus.MESSAGES, QuoteRequest: corpus.QUOTES, BatchRequest: corpus.BATCHES}[serializer]

    refused = [bool(refused_by_the_door(READERS[serializer], body)) for body in bodies]

    assert refused.count(True) > 20
    assert refused.count(False) >= 3
    assert serializer is BatchRequest or len(bodies) > 300


@given(corpus.bodies())
@settings(deadline=None, max_examples=400)
def test_any_message_is_read_alike(body):
    assert refused_by_the_door(READERS[MessageRequest], body) == refused_by_the_document(MessageRequest, body)


@given(corpus.bodies())
@settings(deadline=None, max_examples=150)
def test_any_quote_is_read_alike(body):
    assert refused_by_the_door(READERS[QuoteRequest], body) == refused_by_the_document(QuoteRequest, body)
