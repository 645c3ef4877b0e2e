"""Plays the simulated carriers until it is told to stop."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import uvloop
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from providers.simulator.config import DEFAULT, ConfigError, SimulatorConfig, load
from providers.simulator.server import CarrierServer, PortTaken

EPILOG = """
One process plays several carriers, each on its own port, counted up from the control port:

  http://127.0.0.1:18000/   inbox page: messages arrive as on phones, buttons break the carriers
  http://127.0.0.1:18001    the first carrier (POST /v1/messages), 18002 the second, and so on

Break a carrier, look what it accepted, heal everything:

  curl -X PUT http://127.0.0.1:18000/api/carriers/carrier-a/faults -d '[{"fault": "refuse"}]'
  curl -X PUT http://127.0.0.1:18000/api/carriers/carrier-b/faults \\
       -d '[{"fault": "drop_after_accept", "share": 0.06}, {"fault": "latency", "seconds": 2, "to_prefix": "+380"}]'
  curl 'http://127.0.0.1:18000/api/ledger/summary?by=text'
  curl -X POST http://127.0.0.1:18000/api/reset

A rule is {fault, share 0..1, count, to_prefix, seconds, code, status, on}. Faults: latency, refuse, throttle,
server_error_before_accept, server_error_after_accept, drop_before_accept, drop_after_accept, read_and_close,
hang_before_accept, hang_after_accept, slow_bytes, wrong_json, out_of_balance, reject, receipt_delay,
receipt_duplicate, receipt_disorder, receipt_negative, receipt_never.
The ledger has one JSON object a line: every SMS that was accepted, replayed, refused or dropped.
"""


class Verbatim(DjangoHelpFormatter):
    """Keeps the line ends of the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text


class Command(BaseCommand):
    help = "Plays simulated SMS carriers with a ledger, faults on demand and an inbox page. Needs no database."
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, epilog=EPILOG, **kwargs)
        parser.formatter_class = Verbatim
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on, 127.0.0.1 by default")
        parser.add_argument("--port", type=int, default=18000, help="control port, 18000 by default; 0: free ports")
        parser.add_argument(
            "--ledger", type=Path, help="file that keeps the ledger; without it, it ends with the process"
        )
        parser.add_argument(
            "--config", type=Path, default=DEFAULT, help=f"carriers to play (TOML), {DEFAULT.name} by default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            config = load(options["config"])
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(config, options))
        except (ConfigError, PortTaken) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"The ledger {options['ledger']} cannot be used: {error.strerror}.") from error

    async def _serve(self, config: SimulatorConfig, options: dict[str, Any]) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with CarrierServer(config, options["port"], options["ledger"], options["host"]) as server:
            self._say(f"inbox and control http://{server.host}:{server.port}/")
            for slug, served in server.served.items():
                self._say(f"{slug} http://{server.host}:{served.port} (mode {served.carrier.config.mode})")
            await stop.wait()

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
