"""How the web process reads bodies: what it keeps of them, and how long it waits."""

import asyncio

import pytest

from config import web

PART = b"x" * 65_536


def application(seen):
    def django(environ, start_response):
        seen.append(len(environ["wsgi.input"].read()))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    return web.Application(django)


def scope(path, length):
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-length", b"%d" % length)],
    }


async def post(app, path, parts, length=None):
    """Its status, and how many of the parts were asked for."""
    told, asked = [], 0

    async def receive():
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        part = parts[asked - 1]
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": asked < len(parts)}

    async def send(message):
        told.append(message)

    await app(scope(path, len(PART) * len(parts) if length is None else length), receive, send)
    return told[0]["status"], asked


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/api/v1/messages", 64 * 1024 + 1),
        ("/nowhere", 64 * 1024 + 1),
        ("/api/v1/messages/batch", 20 * len(PART)),
        ("/admin/upload", 20 * len(PART)),
    ],
)
def test_no_more_is_kept_of_a_body_than_its_view_wants_and_the_rest_is_read(path, kept):
    seen: list[int] = []

    assert asyncio.run(post(application(seen), path, [PART] * 20)) == (200, 20)
    assert seen == [kept]


def test_a_body_without_end_is_not_read_for_ever():
    seen: list[int] = []

    status, asked = asyncio.run(post(application(seen), "/api/v1/messages", [PART] * 1000))

    assert (status, asked) == (200, 65)  # 4 MB


def test_who_goes_or_dawdles_is_no_request(monkeypatch):
    monkeypatch.setattr(web, "PATIENCE", 0.05)
    seen: list[int] = []
    app = application(seen)

    async def never():
        await asyncio.sleep(20)

    async def dawdle():
        told = []

        async def send(message):
            told.append(message)

        await app(scope("/api/v1/messages", 10), never, send)
        return told[0]["status"]

    assert asyncio.run(post(app, "/api/v1/messages", [PART, None])) == (400, 2)
    assert asyncio.run(dawdle()) == 400
    assert seen == []


def test_long_files_are_read_two_at_a_time_and_hold_up_nobody_else(monkeypatch):
    monkeypatch.setattr(web, "PATIENCE", 0.2)
    seen: list[int] = []
    app, reading, most = application(seen), 0, 0

    async def slow():
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        try:
            await asyncio.sleep(20)
        finally:
            reading -= 1

    async def nobody(message):
        pass

    async def all_at_once():
        uploads = [app(scope("/admin/upload", 10_000_000), slow, nobody) for _ in range(4)]
        return (await asyncio.gather(*uploads, post(app, "/admin/upload", [PART]), post(app, "/x", [b"x"])))[4:]

    assert asyncio.run(all_at_once()) == [(200, 1), (200, 1)]
    assert most == web.UPLOADS
