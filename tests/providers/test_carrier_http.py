import pytest

from providers.simulator.http import MAX_BODY, MAX_HEAD, BadRequest, Reply, encode, parse

POST = b"POST /v1/messages?a=1 HTTP/1.1\r\nHost: carrier\r\nContent-Length: 4\r\nX-Odd:  two words \r\n\r\nbody"


def test_request_is_read_whole() -> None:
    parsed = parse(POST)

    assert parsed is not None
    request, rest = parsed
    assert (request.method, request.target, request.body, rest) == ("POST", "/v1/messages?a=1", b"body", b"")
    assert request.headers == {"host": "carrier", "content-length": "4", "x-odd": "two words"}
    assert request.keep_alive


def test_split_request_is_incomplete_at_every_byte() -> None:
    results = [parse(POST[:length]) for length in range(len(POST))]

    assert results == [None] * len(POST)


def test_pipelined_request_is_left_over() -> None:
    parsed = parse(POST + POST)

    assert parsed is not None
    assert parsed[1] == POST


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("HTTP/1.1", "", True),
        ("HTTP/1.1", "Connection: close\r\n", False),
        ("HTTP/1.0", "", False),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", True),
    ],
)
def test_connection_is_kept_as_the_client_asks(version: str, connection: str, keeps: bool) -> None:
    parsed = parse(f"GET / {version}\r\n{connection}\r\n".encode())

    assert parsed is not None
    assert parsed[0].keep_alive is keeps


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (f"POST / HTTP/1.1\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode(), 413),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, 431),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    ],
)
def test_request_that_cannot_be_framed_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(data)

    assert caught.value.status == status


def test_answer_is_framed_by_its_length() -> None:
    data = encode(Reply(202, b'{"id":1}', headers="Retry-After: 3\r\n"), keep_alive=False)

    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert b"Content-Length: 8\r\nConnection: close\r\nRetry-After: 3" in head
    assert body == b'{"id":1}'
