"""A RabbitMQ node of this run's own, with files, ports and port mapper of its own."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from config.local.postgres import free_port
from tests.fleet import Process, wait_for

# The packages' script, not /usr/sbin's, which becomes the user rabbitmq and its directories.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@contextmanager
def node(directory: Path) -> Iterator[tuple[str, Process]]:
    """Gives its address and its process; it and its port mapper are gone afterwards."""
    port, mapper = free_port(), free_port()
    directory.mkdir()
    (directory / "plugins").write_text("[].")
    (directory / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_NODENAME": f"bench-{os.getpid()}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_MNESIA_BASE": str(directory),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
    }
    process = Process("rabbitmq", [str(SERVER)], environment, directory / "output.log")
    try:
        wait_for(lambda: process.ended or _listens(port), 60)
        assert not process.ended, process.output[-500:]
        yield f"amqp://guest:guest@127.0.0.1:{port}", process
    finally:
        process.stop()
        with suppress(FileNotFoundError):
            subprocess.run(["epmd", "-kill"], env=environment, capture_output=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
