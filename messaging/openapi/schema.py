"""The OpenAPI document: what `calls` tells in words, together with what the views, refusals and serializers say."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from http import HTTPStatus
from itertools import groupby
from typing import Any, cast

from django.conf import settings
from django.utils.module_loading import import_string
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema

from messaging import problems
from messaging.errors import IdempotencyInProgress, IdempotencyMismatch, InvalidJson, Refusal
from messaging.openapi.answers import Problem
from messaging.openapi.calls import IDEMPOTENCY_KEY, JSON, OVERVIEW, SAMPLES, Call
from messaging.openapi.requests import Strict, Strings, Text, ecma
from messaging.views import ApiView

BEARER = {"type": "http", "scheme": "bearer", "bearerFormat": "mx_live_<id>_<secret>"}


@cache
def calls() -> dict[str, Call]:
    """By the name of the view and the method: what the modules of OPENAPI_CALLS tell together."""
    return _together("CALLS")


@cache
def path_parameters() -> dict[str, dict[str, Any]]:
    return _together("PATH_PARAMETERS")


def _together(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in settings.OPENAPI_CALLS:
        found |= import_string(f"{module}.{name}")
    return found


@cache
def document() -> dict[str, Any]:
    """Made once per process."""
    found = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    found["info"]["description"] = OVERVIEW
    found["servers"] = [{"url": "/", "description": "This installation"}]
    # What sends comes before what lists.
    found["paths"] = {path: dict(sorted(item.items(), reverse=True)) for path, item in found["paths"].items()}
    found["components"]["securitySchemes"] = {"api_key": BEARER}
    return found


class CallSchema(AutoSchema):
    """Describes one call; drf-spectacular finds the calls and turns serializers into JSON Schema."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> dict[str, Any]:
        self.path, self.method, self.registry = path, method, registry
        view = cast(ApiView, self.view)
        call = calls()[f"{type(view).__name__} {method}"]
        self.refusals = (*view.common_refusals, *view.refusals.get(method, ()))
        scope = view.scopes.get(method)
        operation: dict[str, Any] = {
            # The receipts of a provider have two addresses.
            "operationId": call.name + ("_of_attempt" if "{our_reference}" in path else ""),
            "tags": [call.tag],
            "summary": call.summary,
            "description": f"{call.text} Scope: `{scope}`." if scope else call.text,
        }
        if parameters := [*self._parameters(call)]:
            operation["parameters"] = parameters
        if body := self._body(call):
            operation["requestBody"] = {"required": True, "content": body}
        if scope:
            operation["security"] = [{"api_key": [scope]}]
        operation["responses"] = self._answer(call) | dict(self._problems())
        operation["description"] += "".join(_sample(*sample) for sample in call.samples)
        return operation

    def _parameters(self, call: Call) -> Iterator[dict[str, Any]]:
        for name in re.findall(r"{(\w+)}", self.path):
            yield {"name": name, "in": "path", "required": True, **path_parameters()[name]}
        yield from call.query
        if self._takes_key(call):
            text = " ".join(filter(None, (IDEMPOTENCY_KEY["description"], call.key_text)))
            yield IDEMPOTENCY_KEY | {"description": text}

    def _takes_key(self, call: Call) -> bool:
        return IdempotencyMismatch in self.refusals or bool(call.key_text)

    def _body(self, call: Call) -> dict[str, Any]:
        if call.body is None:
            # What providers send is theirs to define.
            return {"*/*": {"schema": {}}} if InvalidJson in self.refusals else {}
        examples = {name: {"value": value} for name, value in call.body_examples.items()}
        return {JSON: {"schema": self.resolve_serializer(call.body, "request").ref, "examples": examples}}

    def _answer(self, call: Call) -> dict[str, Any]:
        answer: dict[str, Any] = {"description": HTTPStatus(call.status).phrase}
        if call.answer:
            schema = self.resolve_serializer(call.answer, "response").ref
            answer["content"] = {JSON: {"schema": schema, "example": call.answer_example}}
        elif call.status != HTTPStatus.NO_CONTENT:
            answer["content"] = {
                media_type: {"schema": {"type": "string" if "text" in media_type else "object"}}
                for media_type in call.media_types
            }
        if self._takes_key(call):
            replayed = {"description": "The first answer to the same request, once more.", "schema": {"const": "true"}}
            answer["headers"] = {"Idempotency-Replayed": replayed}
        return {str(call.status): answer}

    def _problems(self) -> Iterator[tuple[str, dict[str, Any]]]:
        known = [refusal().problem() for refusal in dict.fromkeys(self.refusals)]
        known += [problems.problem(status) for status in problems.CODES if status != HTTPStatus.METHOD_NOT_ALLOWED]
        known.sort(key=lambda problem: problem["status"])
        for status, group in groupby(known, key=lambda problem: problem["status"]):
            yield str(status), self._problem(status, [*group])

    def _problem(self, status: int, known: list[dict[str, Any]]) -> dict[str, Any]:
        codes = [problem["code"] for problem in known]
        common = self.resolve_serializer(Problem, "response").ref
        schema = {"allOf": [common, {"properties": {"status": {"const": status}, "code": {"enum": codes}}}]}
        examples = {problem["code"]: {"value": problem} for problem in known}
        answer: dict[str, Any] = {
            "description": "\n".join(f"- `{problem['code']}`: {problem['title']}." for problem in known),
            "content": {problems.MEDIA_TYPE: {"schema": schema, "examples": examples}},
        }
        if headers := _headers(status, self.refusals):
            answer["headers"] = headers
        return answer

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        schema = super()._map_serializer_field(field, direction, bypass_extensions)  # type: ignore[no-untyped-call]
        if isinstance(field, Text) and field.pattern:
            schema["pattern"] = ecma(field.pattern)
        elif isinstance(field, Strings):
            schema |= {"maxProperties": field.most, "propertyNames": {"pattern": ecma(field.names)}}
        return schema

    def _postprocess_serializer_schema(self, schema: Any, serializer: Any, direction: Any) -> Any:
        if isinstance(serializer, Strict):
            schema |= {"additionalProperties": False, **serializer.rules}
        return schema


def _sample(title: str, language: str, file: str) -> str:
    source = (SAMPLES / file).read_text(encoding="utf-8")
    return f"\n\n<details><summary>{title}</summary>\n\n```{language}\n{source}```\n\n</details>"


def _headers(status: int, refusals: Iterable[type[Refusal]]) -> dict[str, Any]:
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": {"schema": {"const": "Bearer"}}}
    passing = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    if passing or (status == HTTPStatus.CONFLICT and IdempotencyInProgress in refusals):
        return {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return {}
