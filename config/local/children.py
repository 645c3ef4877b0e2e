"""The processes of one terminal: started in sessions of their own, their output prefixed, stopped in a given order."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from config.local.postgres import LocalError, die_with_parent

COLOURS = {
    "up": 37,
    "database": 35,
    "setup": 34,
    "carriers": 32,
    "web": 36,
    "worker": 33,
    "sweeper": 31,
} | dict.fromkeys(("imports", "kafka", "relay", "bridge"), 90)
STOP_TIMEOUT = 30  # seconds: a worker first settles its calls in flight
READ_TIMEOUT = 2  # seconds for the last lines of a process that ended; one it left behind may hold the pipe open


class Console:
    """Whole lines on standard output, each with the name of the process that wrote it."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._lock = threading.Lock()

    def say(self, name: str, line: str) -> None:
        prefix = f"{name:>8} |"
        if self._coloured:
            prefix = f"\x1b[{COLOURS[name]}m{prefix}\x1b[0m"
        with self._lock:
            try:
                print(prefix, line.rstrip(), flush=True)
            except OSError:
                return  # the terminal is gone; the children's pipes still have to be read


class Children:
    """Start them from the main thread only: the kernel ends them when the thread that started them is killed."""

    def __init__(self, console: Console, directory: Path, environment: dict[str, str]) -> None:
        self._console = console
        self._directory = directory
        self._environment = environment
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._readers: dict[str, threading.Thread] = {}
        self.codes: dict[str, int] = {}  # how the stopped ones ended

    def start(self, name: str, *arguments: str) -> None:
        """Run this Python with `arguments`."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self._directory,
            env={**self._environment, "PROCESS_NAME": name, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C goes to the whole process group of the terminal: these are told one after the other instead.
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        self._running[name] = process
        self._readers[name] = threading.Thread(target=self._read, args=(name, process), daemon=True)
        self._readers[name].start()

    def run(self, name: str, *arguments: str) -> None:
        """Run to the end. Raises LocalError when it fails."""
        self.start(name, *arguments)
        code = self._running[name].wait()
        del self._running[name]
        self._readers[name].join(READ_TIMEOUT)
        if code:
            raise LocalError(f"{name} failed with code {code}: its lines above say why.")

    def check(self) -> None:
        """Raises LocalError when one has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                self._readers[name].join(READ_TIMEOUT)
                raise LocalError(f"{name} ended by itself with code {process.returncode}: stopping everything.")

    def stop(self, *names: str) -> None:
        """Ask these to stop (all at once), wait, and kill the ones that do not follow together with their children."""
        stopping = {name: self._running.pop(name) for name in names if name in self._running}
        for process in stopping.values():
            # The leader alone: dramatiq passes the signal on, and a second one would make its workers drop everything.
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        for name, process in stopping.items():
            try:
                self.codes[name] = process.wait(max(0.1, deadline - time.monotonic()))
                self._readers[name].join(READ_TIMEOUT)
                self._console.say("up", f"{name} stopped")
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                self.codes[name] = process.wait()
                self._console.say("up", f"{name} did not stop within {STOP_TIMEOUT} s: killed")

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101
        with process.stdout as lines:
            for line in filter(str.strip, lines):
                self._console.say(name, line)
