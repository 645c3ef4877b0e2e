"""How the web process is started: by `make up`, the tests and the benchmarks, as the compose file does it."""


def command(port: int, *, workers: int = 1) -> list[str]:
    """Arguments of this Python: `workers` processes that serve the port of loopback."""
    return [
        *("-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--http", "1", "--no-ws"),
        *("--workers", str(workers), "--workers-kill-timeout", "20", "--log-config", "config/granian.json"),
        "config.asgi:application",
    ]
