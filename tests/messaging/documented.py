"""Is an answer of the door as the OpenAPI document says? The messaging tests ask it of every answer they get."""

import copy
import re
from functools import cache

import jsonschema_rs

from messaging.openapi import asyncapi
from messaging.openapi.schema import document

HEADERS = ("Idempotency-Replayed", "Retry-After", "WWW-Authenticate")


def assert_documented(answer):
    request = answer.wsgi_request
    path = re.sub(r"<\w+:(\w+)>", r"{\1}", "/" + getattr(request.resolver_match, "route", ""))
    method = {"HEAD": "GET"}.get(request.method, request.method).lower()
    told = f"{request.method} {path} {answer.status_code}"
    item = document()["paths"].get(path, {})
    if method not in item:
        assert not item or answer.status_code == 405, f"{told}: an undocumented call"
        return
    responses = item[method]["responses"]
    assert str(answer.status_code) in responses, f"{told}: an undocumented status"
    response = responses[str(answer.status_code)]
    for header in HEADERS:
        assert header not in answer.headers or header in response.get("headers", {}), f"{told}: undocumented {header}"
    media_type = answer.headers.get("Content-Type", "")
    if answer.status_code == 204:
        return
    assert media_type in response["content"], f"{told}: undocumented {media_type}"
    if request.method != "HEAD" and "json" in media_type:
        validator(path, method, answer.status_code, media_type).validate(answer.json())


@cache
def validator(path, method, status, media_type):
    schema = document()["paths"][path][method]["responses"][str(status)]["content"][media_type]["schema"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": _closed_components()}, validate_formats=True)


@cache
def _closed_components():
    """The document lets answers grow; here every field must be in it."""
    components = copy.deepcopy(document()["components"])
    for schema in components["schemas"].values():
        schema.setdefault("additionalProperties", False)
    return components


def message_headers(name):
    """The headers that the AsyncAPI document gives to what goes out: event, webhook or dead_letter."""
    told = asyncapi.TRAITS.get(name, asyncapi.DEAD_LETTER)
    return told["headers"]["properties"].keys()
