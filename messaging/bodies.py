"""JSON in and JSON out: strict, within limits, and without the cost of negotiating a format."""

import json
import re
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from messaging.errors import BodyTooLarge, InvalidJson, Refusal


class UnsupportedMediaType(Refusal):
    code = "unsupported_media_type"
    status = 415
    title = "The body must be application/json"


REFUSALS = (InvalidJson, BodyTooLarge, UnsupportedMediaType)  # of a call with a JSON body


def read(request: HttpRequest | Request, limit: int) -> bytes:
    """The body, at most `limit` bytes; what is declared longer is refused unread.

    Raises BodyTooLarge, InvalidJson where the Content-Length is wrong.
    """
    # Django takes a chunked body, which has no length, for an empty one: it is read from the server itself.
    chunked = "HTTP_TRANSFER_ENCODING" in request.META
    wanted = limit + 1 if chunked else _length(request.META.get("CONTENT_LENGTH") or "0", limit)
    stream = request.META["wsgi.input"]
    body = bytearray()
    while len(body) < wanted and (part := stream.read(wanted - len(body))):
        body += part
    if len(body) > limit:
        raise _too_large(limit)
    if len(body) < wanted and not chunked:
        raise InvalidJson("The body is shorter than its Content-Length.")
    return bytes(body)


def read_json(request: Request, limit: int) -> Any:
    """Raises UnsupportedMediaType, BodyTooLarge, InvalidJson."""
    if request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType
    return parse(read(request, limit))


# The end of a name, or of a quotation in a text that looks like one.
_NAME = re.compile(rb'"\s*:')


def parse(raw: bytes) -> Any:
    """Raises InvalidJson."""
    # orjson is several times as fast and lets the last of repeated names win. Where there are as many names as ends
    # of names none was repeated; all else is read with care, and so is what it takes for a fraction: see _names.
    try:
        found = orjson.loads(raw)
        if _names(found) == len(_NAME.findall(raw)):
            return found
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(raw.decode(), parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        # Without the cause: its words quote the body.
        raise InvalidJson("A JSON text (RFC 8259) in UTF-8 is expected, without repeated names.") from None


def response(
    body: Any, *, status: int = 200, headers: dict[str, str] | None = None, media_type: str = "application/json"
) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), status=status, headers=headers, content_type=media_type)


def _length(value: str, limit: int) -> int:
    if not value.isascii() or not value.isdigit():
        raise InvalidJson("The Content-Length is not a number.")
    if len(value) > 18 or int(value) > limit:
        raise _too_large(limit)
    return int(value)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"At most {limit} bytes are read here.")


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are not JSON


def _names(value: Any) -> int:
    """How many names it has. Raises ValueError for a fraction: to orjson minus zero and huge integers are such."""
    if type(value) is float:
        raise ValueError("a fraction")
    found = 0
    if type(value) is dict:
        found, value = len(value), value.values()
    elif type(value) is not list:
        return 0
    for one in value:
        if type(one) is not str:  # most are
            found += _names(one)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a repeated name")  # readers differ in which one counts (RFC 8259, section 4)
    return found
