"""The process: one control port and one port per carrier, on one event loop."""

import asyncio
import os
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from providers.simulator.carrier import Carrier, Receipt
from providers.simulator.config import CarrierConfig, SimulatorConfig
from providers.simulator.control import ControlConnection
from providers.simulator.http import BadRequest, Connection, Reply, Request
from providers.simulator.inbox import Inbox
from providers.simulator.ledger import Entry, Ledger
from providers.simulator.receipts import ReceiptSender
from providers.simulator.wire import refusal

BACKLOG = 1024


class PortTaken(Exception):
    """A port we were told to use belongs to another process; the message names it."""


class CarrierConnection(Connection):
    def __init__(self, served: "Served", server: "CarrierServer") -> None:
        super().__init__(server.loop, served.connections)
        self._carrier = served.carrier
        self._ledger = server.ledger
        self._inbox = server.inbox

    def received(self, request: Request) -> None:
        self._inbox.touch(0)
        self._ledger.after_write(self.send, self._carrier.handle(request))

    def refused(self, error: BadRequest) -> Reply:
        return Reply(error.status, refusal("bad_request", str(error)).body)


class Served:
    """One carrier on its port; while its plan says refuse, nothing listens there."""

    def __init__(self, config: CarrierConfig, server: "CarrierServer", port: int) -> None:
        self.carrier = Carrier(config, server.config.seed, server.ledger, self._accepted, server.receipts.schedule)
        self.port = port
        self.connections: set[Connection] = set()
        self._server = server
        self._listener: asyncio.Server | None = None
        self._change = asyncio.Lock()

    async def follow_plan(self) -> None:
        """Opens or closes the port as the plan says; returns when it is so."""
        async with self._change:
            refusing = self.carrier.plan.refusing
            if refusing and self._listener is not None:
                await self.close()
            elif not refusing and self._listener is None:
                await self.open()

    async def open(self) -> None:
        """Raises PortTaken."""
        server = self._server
        self._listener = await listen(server, lambda: CarrierConnection(self, server), self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for connection in tuple(self.connections):
            connection.abort()
        if listener is not None:
            await listener.wait_closed()

    def describe(self) -> dict[str, Any]:
        config = self.carrier.config
        return {
            "slug": config.slug,
            "name": config.name,
            "mode": config.mode,
            "lag": config.lag,
            "port": self.port,
            "currency": config.currency,
            "prices": {country: str(price) for country, price in config.prices.items()},
            "listening": self._listener is not None,
            "faults": [rule.as_json() for rule in self.carrier.plan.rules],
            "counts": dict(self.carrier.counts),
        }

    def _accepted(self, seq: int, entry: Entry) -> None:
        self._server.inbox.add(seq, self.carrier.config.slug, time.time(), entry)


class CarrierServer:
    """Use as `async with CarrierServer(...)`; with port 0 every listener takes a free port."""

    def __init__(
        self, config: SimulatorConfig, port: int = 0, ledger: Path | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.config = config
        self.host = host
        self.port = port
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.ledger = Ledger(ledger, self.loop.call_soon)
        self.inbox = Inbox(self.loop)
        self.receipts = ReceiptSender(self.loop, self._receipt_due, self._receipt_done)
        ports = range(port + 1, port + 1 + len(config.carriers)) if port else [0] * len(config.carriers)
        self.served = {
            carrier.slug: Served(carrier, self, number) for carrier, number in zip(config.carriers, ports, strict=True)
        }
        self._control: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._restore()

    async def __aenter__(self) -> "CarrierServer":
        """Raises PortTaken."""
        try:
            self._control = await listen(self, lambda: ControlConnection(self), self.port)
            self.port = self._control.sockets[0].getsockname()[1]
            for served in self.served.values():
                await served.open()
        except PortTaken:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.receipts.reset()
        for served in self.served.values():
            await served.close()
        if self._control is not None:
            self._control.close()
        for connection in tuple(self.connections):
            connection.transport.abort()
        self.ledger.close()

    def describe(self) -> dict[str, Any]:
        return {"carriers": [served.describe() for served in self.served.values()]}

    async def reset(self) -> None:
        """Forgets everything: plans, counters, receipts on their way, inbox and ledger."""
        self.receipts.reset()
        self.ledger.reset()
        for served in self.served.values():
            served.carrier.reset()
            await served.follow_plan()
        self.inbox.reset()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _restore(self) -> None:
        for entry in self.ledger.entries():
            served = self.served.get(entry["carrier"])
            if served is None:
                continue
            served.carrier.restore(entry)
            if entry["event"] == "accepted":
                self.inbox.add(entry["seq"], entry["carrier"], entry["at"], entry)
            elif entry["event"] == "receipt_sent":
                self.inbox.receipt(
                    entry["message_seq"], status=entry["status"], error_code=entry["error_code"], at=entry["at"]
                )

    def _receipt_due(self, receipt: Receipt) -> None:
        receipt.carrier.moved(receipt.seq, receipt.status)
        self.inbox.receipt(receipt.seq, status=receipt.status, error_code=receipt.error_code, at=time.time())

    def _receipt_done(self, receipt: Receipt, event: str, http_status: int, tries: int) -> None:
        receipt.carrier.receipt_result(receipt, event, http_status, tries)
        if event == "receipt_failed":
            self.inbox.receipt(receipt.seq, status="failed", error_code=f"http_{http_status}", at=time.time())


async def listen(server: CarrierServer, protocol: Any, port: int) -> asyncio.Server:
    """Raises PortTaken."""
    # Our own socket: REUSEADDR lets a port open again at once, and no REUSEPORT means a taken port is an error.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((server.host, port))
        return await server.loop.create_server(protocol, sock=sock, backlog=BACKLOG)
    except OSError as error:
        sock.close()
        raise PortTaken(f"Port {port} on {server.host} cannot be used: {os.strerror(error.errno or 0)}.") from error
