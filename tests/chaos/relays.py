"""Relays one after the other, each of which kills itself between Kafka's acknowledgement and the mark.

python -m tests.chaos.relays KILLS: every one publishes and marks a group, publishes another, and is gone. They are
forked from this process, which has loaded everything and has opened nothing. It prints how many died as they should.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import django


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


def main() -> None:
    django.setup()
    died = 0
    for _ in range(int(sys.argv[1])):
        pid = os.fork()
        if pid == 0:
            try:
                relay()
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        died += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(died, flush=True)


if __name__ == "__main__":
    main()
