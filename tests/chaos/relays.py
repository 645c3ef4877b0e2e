"""Relays, each of which kills itself between Kafka's acknowledgement and the mark when its turn to lead has come.

python -m tests.chaos.relays KILLS: every one publishes and marks a group, publishes another, and is gone; some stand by
to take over. They are forked from this process, which has loaded everything and has opened nothing. It prints how many
died as they should.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import django

STANDBYS = 3  # each is connected by the time it is elected


def relay() -> None:
    """Never returns."""
    from django.core.management import call_command

    from messaging.kafka import Published, Publisher

    publish = Publisher.publish
    groups = 0

    def interrupted(self: Publisher, records: Sequence[Any], stopping: Any) -> Published:
        nonlocal groups
        found = publish(self, records, stopping)
        groups += bool(found.taken)
        if groups == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Publisher.publish = interrupted
    call_command("run_relay")


def start() -> None:
    if os.fork() == 0:
        try:
            relay()
        finally:
            os._exit(1)


def main() -> None:
    django.setup()
    kills, died = int(sys.argv[1]), 0
    for number in range(kills + STANDBYS):
        if number < kills:
            start()
        if number >= STANDBYS:
            _, status = os.wait()
            died += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            print(died, flush=True)


if __name__ == "__main__":
    main()
