import io
import json
from contextlib import suppress
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest

from messaging import bodies
from messaging.bodies import UnsupportedMediaType
from messaging.errors import BodyTooLarge, InvalidJson

LIMIT = 100


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a socket does."""

    def __init__(self, data):
        self.inner = io.BytesIO(data)
        self.taken = 0

    def read(self, size=-1):
        part = self.inner.read(min(size, 7))
        self.taken += len(part)
        return part


def request(body, *, length=None, content_type="application/json", chunked=False):
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "80"}
    environ |= {"CONTENT_TYPE": content_type, "wsgi.input": Trickle(body)}
    if chunked:
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"
    else:
        environ["CONTENT_LENGTH"] = str(len(body)) if length is None else length
    return WSGIRequest(environ)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_body_within_the_limit_is_read_whole(chunked, size):
    assert bodies.read(request(b"x" * size, chunked=chunked), LIMIT) == b"x" * size


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(chunked):
    with pytest.raises(BodyTooLarge):
        bodies.read(request(b"x" * 101, chunked=chunked), LIMIT)


def test_a_length_over_the_limit_is_refused_unread():
    found = request(b"x" * 101)

    with pytest.raises(BodyTooLarge):
        bodies.read(found, LIMIT)

    assert found.META["wsgi.input"].taken == 0


def test_of_a_chunked_body_no_more_than_the_limit_is_read():
    found = request(b"x" * 5000, chunked=True)

    with pytest.raises(BodyTooLarge):
        bodies.read(found, LIMIT)

    assert found.META["wsgi.input"].taken == LIMIT + 1


@pytest.mark.parametrize("length", ["abc", "-1", "1.0", "²", "+5", " 5"])
def test_a_length_that_is_no_number(length):
    with pytest.raises(InvalidJson):
        bodies.read(request(b"{}", length=length), LIMIT)


def test_a_length_of_absurd_size():
    with pytest.raises(BodyTooLarge):
        bodies.read(request(b"{}", length="9" * 5000), LIMIT)


def test_a_body_shorter_than_its_length_is_not_json():
    with pytest.raises(InvalidJson):
        bodies.read_json(request(b'{"to": 1}', length="50"), LIMIT)


@pytest.mark.parametrize(
    "content_type", ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8", " application/json ;a"]
)
def test_json_is_read(content_type):
    assert bodies.read_json(request('{"a": "ї"}'.encode(), content_type=content_type), LIMIT) == {"a": "ї"}


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"]
)
def test_another_type_is_refused_unread(content_type):
    found = request(b"{}", content_type=content_type)

    with pytest.raises(UnsupportedMediaType):
        bodies.read_json(found, LIMIT)

    assert found.META["wsgi.input"].taken == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"b": {"a": 1, "a": 1}}',
        b'{"a": "\xed\xa0\x80"}',  # a surrogate in UTF-8
        b'{"a": "\xff"}',
        '{"a": "ї"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"a": 1}',  # a byte order mark
        b'{"a": "\x01"}',
        b"{} {}",
    ],
)
def test_what_is_not_json(body):
    with pytest.raises(InvalidJson) as caught:
        bodies.read_json(request(body), LIMIT)

    assert caught.value.__cause__ is None


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 10_000, b"9" * 60_000, b"[" * 30_000 + b"]" * 30_000])
def test_json_that_would_exhaust_the_parser(body):
    with pytest.raises(InvalidJson):
        bodies.read_json(request(body), 64 * 1024)


@pytest.mark.parametrize("depth", range(900, 1101, 20))
def test_nesting_that_one_parser_takes_and_the_other_does_not_is_read_or_refused(depth):
    """orjson ends at 1024 levels, and Python where the stack is full."""
    with suppress(InvalidJson):
        assert len(bodies.parse(b"[" * depth + b"]" * depth)) == 1


def test_an_escaped_surrogate_is_left_to_the_field_it_is_in():
    assert bodies.read_json(request(rb'{"a": "\ud800"}'), LIMIT) == {"a": "\ud800"}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2,"b" :3}',
        b'{"a":1,"b" :2,"b"\t:3}',
        b'{"a":{"b":1,"b":1},"c\\":":1}',
        b'[{"a":"\\":","a":1}]',
    ],
)
def test_a_repeated_name_is_found_however_it_is_written(raw):
    with pytest.raises(InvalidJson):
        bodies.parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"b\\":c"}',
        b"123456789012345678901234567890",
        b"-0",
        b'{"a" : [{}, 1.5, "\\ud800"]}',
        b'{"a":[{"b":18446744073709551616}],"c":-9223372036854775809}',
        b'{"a":-0.0,"b":[-0],"c":18446744073709551615,"d":9007199254740993}',
        b'"\\u0000"',
        b"1e400",
    ],
)
def test_the_short_way_reads_what_the_careful_way_reads(raw):
    assert repr(bodies.parse(raw)) == repr(json.loads(raw))
