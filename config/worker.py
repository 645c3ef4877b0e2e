"""The master process of a worker, which `manage.py run_worker` becomes: Dramatiq's own, with our log lines.

It forks, so nothing else of Django is set up in it: a fork takes no threads along, and a broker has some.
"""

import os
import sys

from django.conf import settings
from dramatiq import cli

from config import logs

MODULES = ("django_dramatiq.setup", "messaging.tasks")


def main(arguments: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    logs.configure(settings.LOGGING)
    parser = cli.make_argument_parser()  # type: ignore[no-untyped-call]
    sys.argv = [sys.executable, "-m", "config.worker", *arguments]  # at SIGHUP Dramatiq starts itself again by it
    return int(cli.main(parser.parse_args([*MODULES, *arguments])))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
