"""The documents, and the page that shows the calls."""

from functools import cache

import orjson
import yaml
from django.http import HttpResponse
from django.template.loader import render_to_string
from rest_framework.request import Request

from messaging.errors import FieldError, InvalidRequest
from messaging.openapi import asyncapi
from messaging.openapi.calls import JSON
from messaging.openapi.schema import document
from messaging.views import OpenView

MEDIA_TYPES = {"json": JSON, "yaml": "application/yaml"}  # RFC 9512
# Nothing inline and nothing from elsewhere: a key is typed into this page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class SchemaView(OpenView):
    """GET the OpenAPI document."""

    refusals = {"GET": (InvalidRequest,)}

    def get(self, request: Request) -> HttpResponse:
        wanted = "yaml" if "yaml" in request.headers.get("Accept", "") else "json"
        form = request.query_params.get("format", wanted)
        if form not in MEDIA_TYPES:
            raise InvalidRequest(errors=(FieldError("format", "bad_choice", "One of json, yaml."),))
        return HttpResponse(_written(form), content_type=MEDIA_TYPES[form], headers={"Vary": "Accept"})


class AsyncSchemaView(OpenView):
    """GET the AsyncAPI document."""

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(_events(), content_type=JSON)


class DocsView(OpenView):
    """GET the page on which people read the document and try the calls."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(render_to_string("api/docs.html"), headers={"Content-Security-Policy": POLICY})


@cache
def _written(form: str) -> bytes:
    if form == "yaml":
        return yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120).encode()
    return orjson.dumps(document())


@cache
def _events() -> bytes:
    return orjson.dumps(asyncapi.document())
