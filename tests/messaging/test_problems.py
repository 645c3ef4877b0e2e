import json

import pytest
from django.core.exceptions import SuspiciousOperation
from django.db import DataError, IntegrityError, InterfaceError, InternalError, OperationalError, ProgrammingError
from django.http import Http404
from rest_framework import exceptions

from messaging import problems
from messaging.context import request_id
from messaging.errors import FieldError, InvalidRequest, Refusal, Unauthenticated
from messaging.views import MessagesView


def handle(error):
    answer = problems.handler(error, {"view": MessagesView()})
    return answer, json.loads(answer.content)


def raised(error):
    """An error as it arrives: with its traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_refusal_becomes_a_problem():
    refusal = InvalidRequest("Look again.", errors=(FieldError("to", "required", "It is needed."),), retry_after=3)

    answer, body = handle(refusal)

    assert answer["Content-Type"] == "application/problem+json"
    assert answer["Retry-After"] == "3"
    assert body == {
        "type": "about:blank",
        "title": "Some fields are not valid",
        "status": 422,
        "code": "validation_failed",
        "detail": "Look again.",
        "errors": [{"field": "to", "code": "required", "message": "It is needed."}],
        "retry_after": 3,
    }


def test_what_is_empty_is_left_out():
    answer, body = handle(Refusal())

    assert sorted(body) == ["code", "status", "title", "type"]
    assert "Retry-After" not in answer


def test_a_database_that_goes_away_leaves_open_whether_the_request_was_carried_out():
    _, body = handle(raised(OperationalError("the connection is lost")))

    assert body["detail"] == "It may have been carried out. Send it again with the same Idempotency-Key."


def test_401_says_how_to_authenticate():
    answer, _ = handle(Unauthenticated())

    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Http404("no such thing"), 404, "not_found"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (exceptions.ParseError("quoting the body"), 400, "bad_request"),
        (SuspiciousOperation("quoting the header"), 400, "bad_request"),
        (OperationalError("away"), 503, "unavailable"),
        (InterfaceError("connection already closed"), 503, "unavailable"),
        (InternalError("read-only"), 503, "unavailable"),
        (IntegrityError("the client is gone"), 503, "unavailable"),
        (DataError("a value no column takes"), 500, "internal_error"),
        (ProgrammingError("no such table"), 500, "internal_error"),
        (KeyError("+380671234567"), 500, "internal_error"),
        (exceptions.APIException("x"), 500, "internal_error"),
    ],
)
def test_every_other_error_has_a_code(error, status, code):
    answer, body = handle(raised(error))

    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer["Content-Type"] == "application/problem+json"
    assert ("Retry-After" in answer) == (status == 503)
    assert str(error) not in answer.content.decode() or not str(error)


@pytest.mark.parametrize("error", [KeyError("+380671234567"), DataError('"+380671234567" secret text')])
def test_an_unexpected_error_is_logged_without_its_words(error, lines):
    handle(raised(error))

    (line,) = lines.of("unexpected error in a request")
    assert line["error"].endswith(type(error).__name__)
    assert line["where"][-1].endswith(" raised")
    assert "380671234567" not in lines.text


def test_a_fault_of_ours_names_its_request():
    token = request_id.set("4711")
    try:
        bodies = [handle(error)[1] for error in (KeyError("x"), OperationalError("away"), Refusal())]
    finally:
        request_id.reset(token)

    assert [body.get("request_id") for body in bodies] == ["4711", "4711", None]


def test_the_handlers_of_django_answer_alike(rf):
    request = rf.get("/")

    answers = [
        problems.bad_request(request, Exception("x")),
        problems.not_found(request, Exception("x")),
        problems.server_error(request),
    ]

    assert [json.loads(answer.content)["code"] for answer in answers] == ["bad_request", "not_found", "internal_error"]
    assert {answer["Content-Type"] for answer in answers} == {"application/problem+json"}
