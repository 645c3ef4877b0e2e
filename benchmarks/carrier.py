"""How fast the simulated carriers are: submits with the ledger on, and receipts.

    python benchmarks/carrier.py [--seconds 5] [--connections 32] [--receipts]

The carriers run in a process of their own. `requests/s` is what this client got through; the CPU time per
request is the carrier process's own, so `per core` holds on a busy machine as well.
"""

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from providers.simulator.config import load
from providers.simulator.http import Connection, Reply, Request
from providers.simulator.server import CarrierServer

CARRIER = "carrier-a"


@dataclass
class Tally:
    """What the client saw; latencies in seconds."""

    accepted: int = 0
    others: int = 0
    receipts: int = 0
    stopped: bool = False
    latencies: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection that always has one request in flight."""

    def __init__(self, tally: Tally, number: int, receipt_url: str, token: str) -> None:
        self.tally = tally
        self.number = number
        self.sent = 0
        self.started = 0.0
        self.buffer = b""
        self.transport: asyncio.Transport
        self.head = f"POST /v1/messages HTTP/1.1\r\nHost: carrier\r\nAuthorization: Bearer {token}\r\n"
        self.receipt_url = receipt_url

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.post()

    def post(self) -> None:
        self.sent += 1
        reference = f"{self.number:016x}{self.sent:016x}"
        url = f"{self.receipt_url}{reference}" if self.receipt_url else ""
        body = (
            f'{{"to":"+38067{self.sent % 10_000_000:07d}","text":"Your transfer {self.sent} is on its way.",'
            f'"sender":"MEXAR","reference":"{reference}","validity":3600,"receipt_url":"{url}"}}'
        )
        self.started = time.perf_counter()
        self.transport.write(
            f"{self.head}Content-Type: application/json\r\nIdempotency-Key: {reference}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.buffer.endswith(b"}"):
            return
        self.tally.latencies.append(time.perf_counter() - self.started)
        if self.buffer.startswith(b"HTTP/1.1 202"):
            self.tally.accepted += 1
        else:
            self.tally.others += 1
        self.buffer = b""
        if self.tally.stopped:
            self.transport.close()
        else:
            self.post()


class Receiver(Connection):
    def __init__(self, loop: asyncio.AbstractEventLoop, tally: Tally) -> None:
        super().__init__(loop, set())
        self.tally = tally

    def received(self, request: Request) -> None:
        self.tally.receipts += 1
        self.send(Reply(204))


def serve(ready: Pipe, ledger: Path) -> None:
    async def main() -> None:
        config = load()
        carriers = tuple(replace(carrier, receipt_after=0.0) for carrier in config.carriers)
        async with CarrierServer(replace(config, carriers=carriers), 0, ledger) as server:
            ready.send(server.served[CARRIER].port)
            await asyncio.get_running_loop().run_in_executor(None, ready.recv)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(port: int, pid: int, arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    tally = Tally()
    receiver = await loop.create_server(lambda: Receiver(loop, tally), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/receipts/carrier-a/" if arguments.receipts else ""
    token = load().carriers[0].token
    started, cpu = time.perf_counter(), cpu_seconds(pid)
    for number in range(arguments.connections):
        await loop.create_connection(lambda n=number: Client(tally, n, url, token), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(arguments.seconds)
    tally.stopped = True
    taken, used = time.perf_counter() - started, cpu_seconds(pid) - cpu
    latencies = sorted(tally.latencies)
    print(f"requests/s      {tally.accepted / taken:,.0f} ({tally.accepted:,} accepted, {tally.others} others)")
    p50, p99 = (latencies[int(len(latencies) * share)] * 1e3 for share in (0.5, 0.99))
    print(f"latency         p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    if not arguments.receipts:
        print(
            f"carrier CPU     {used / tally.accepted * 1e6:.1f} us a request: {tally.accepted / used:,.0f}/s per core"
        )
        return
    while tally.receipts < tally.accepted and time.perf_counter() - started < 120:
        await asyncio.sleep(0.05)
    taken, used = time.perf_counter() - started, cpu_seconds(pid) - cpu
    print(f"receipts/s      {tally.receipts / taken:,.0f} ({tally.receipts:,} of {tally.accepted:,} in {taken:.1f} s)")
    print(f"carrier CPU     {used / tally.accepted * 1e6:.1f} us for a request and its receipt")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the simulated carriers.")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--receipts", action="store_true", help="ask for a receipt of every message and wait for all")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(theirs, Path(folder) / "ledger.jsonl"))
        process.start()
        try:
            port = ours.recv()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure(port, process.pid or 0, arguments))
        finally:
            ours.send(None)
            process.join(10)


if __name__ == "__main__":
    main()
