"""Carriers inside the current process, on a thread of their own: for tests and interactive work."""

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from providers.simulator.config import SimulatorConfig, load
from providers.simulator.server import CarrierServer


class Background:
    """Speaks to the control port, so it sees what any other client would see."""

    def __init__(self, port: int) -> None:
        self.control = f"http://127.0.0.1:{port}"

    def call(self, method: str, path: str, data: object = None) -> Any:
        """Raises urllib.error.HTTPError for a refusal."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.control + path, body, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return json.load(response)

    def url(self, slug: str) -> str:
        carriers = {carrier["slug"]: carrier for carrier in self.call("GET", "/api/carriers")["carriers"]}
        return f"http://127.0.0.1:{carriers[slug]['port']}"

    def faults(self, slug: str, *rules: dict[str, Any]) -> None:
        self.call("PUT", f"/api/carriers/{slug}/faults", list(rules))

    def ledger(self, query: str = "") -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.call("GET", f"/api/ledger?limit=100000&{query}")["entries"]
        return entries


@contextmanager
def carriers(config: SimulatorConfig | None = None, ledger: Path | None = None) -> Iterator[Background]:
    """Plays the carriers on free ports of 127.0.0.1 while the block runs."""
    started: Future[tuple[CarrierServer, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with CarrierServer(config or load(), ledger=ledger) as server:
            started.set_result((server, stop))
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="carriers", daemon=True)
    thread.start()
    server, stop = started.result(10)
    try:
        yield Background(server.port)
    finally:
        server.loop.call_soon_threadsafe(stop.set)
        thread.join(10)
