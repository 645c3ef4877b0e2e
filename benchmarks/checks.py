"""Checks of codes: how long one takes when people arrive, alone and beside senders; and how many go at most."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmarks import arrivals, load
from benchmarks.cpu import Meter
from benchmarks.fleets import Ours
from benchmarks.measure import CLIENTS, WARM_UP, Failed, Sample, sample
from tests.fleet import wait_for

LEAST, MOST = 100.0, 300.0  # checks a second, from the beginning to the end of a step
EVERY_WRONG = 5  # every fifth guess is wrong
POSTERS = 4  # connections that post batches of 100 without a pause
BACKLOG = 8_000  # messages for each second: more than the workers send
AT_MOST = 2_500.0  # checks a second: so many challenges are made for a closed loop


def alone(ours: Ours, seconds: float) -> Sample:
    """Open loop, without workers."""
    ours.world.rest()
    at = arrivals.moments(LEAST, MOST, seconds)
    return _counted(ours, *_guesses(ours, len(at)), at)


def beside_senders(ours: Ours, seconds: float) -> Sample:
    """The same, while the workers send a backlog as fast as they can."""
    ours.world.rest()
    at = arrivals.moments(LEAST, MOST, seconds)
    guesses = _guesses(ours, len(at))
    backlog = int(BACKLOG * (seconds + 1))
    waiting = load.batches("/api/v1/messages/batch", ours.world.api_key, 500, backlog // 500)
    load.run(ours.port, waiting, connections=POSTERS)
    ours.connection.execute("ANALYZE")  # as autovacuum does within a minute: plans were made for empty tables
    ours.world.reset_carriers(receipts=False)
    ours.work(True)
    found = _counted(ours, *guesses, at)
    if not ours.is_busy(until="sent"):
        raise Failed(f"a backlog of {backlog:,} messages was not enough")
    return found


def beside_posters(ours: Ours, seconds: float) -> Sample:
    """The same, while the web processes take batches without a pause and the workers send them."""
    ours.world.rest()
    at = arrivals.moments(LEAST, MOST, seconds)
    guesses = _guesses(ours, len(at))
    ours.world.reset_carriers(receipts=False)
    ours.work(True)
    with _posters(ours):
        return _counted(ours, *guesses, at)


def one_after_the_other(ours: Ours, seconds: float) -> Sample:
    """Closed loop of CLIENTS connections, without workers."""
    ours.world.rest()
    requests, _ = _guesses(ours, int(AT_MOST * seconds))
    with Meter(ours.pids()) as meter:
        seen = load.run(ours.port, iter(requests), connections=CLIENTS, seconds=seconds)
    _assert_ok(seen)
    return sample(meter, seen.answered, seen.answered / seen.seconds, seen)


def _counted(ours: Ours, requests: list[bytes], right: int, at: list[float]) -> Sample:
    with Meter(ours.pids()) as meter:
        seen = arrivals.run(ours.port, iter(requests), at)
    _assert_ok(seen)
    verified = ours.one("SELECT count(*) FROM verification_challenge WHERE status = 'verified'")
    if verified != right:
        raise Failed(f"{right} right codes, and {verified} challenges are verified")
    return sample(meter, seen.answered, seen.answered / seen.seconds, seen)


def _assert_ok(seen: load.Load) -> None:
    if set(seen.statuses) != {"200"}:
        raise Failed(f"checks were answered with {dict(seen.statuses)}")


def _guesses(ours: Ours, number: int) -> tuple[list[bytes], int]:
    """One for each of so many fresh challenges; and how many are right. The processes are warm then."""
    ours.clear()
    made = ours.world.run("-m", "benchmarks.challenges", str(number + WARM_UP), **ours.django()).split()
    warm = (_post(ours, reference, "0") for reference in made[-2 * WARM_UP :: 2])
    load.run(ours.port, warm, connections=CLIENTS)
    del made[-2 * WARM_UP :]
    requests = []
    for index, (reference, code) in enumerate(zip(made[::2], made[1::2], strict=True)):
        guess = code if index % EVERY_WRONG else f"{(int(code) + 1) % 1_000_000:06}"
        requests.append(_post(ours, reference, guess))
    return requests, number - -(-number // EVERY_WRONG)


def _post(ours: Ours, reference: str, guess: str) -> bytes:
    body = json.dumps({"code": guess, "purpose": "login"})
    return load.post(f"/api/v1/verifications/{reference}/check", ours.world.api_key, body)


@contextmanager
def _posters(ours: Ours) -> Iterator[None]:
    """A process of its own, so that it takes no turn of the one that measures."""
    process = ours.world.start("posters", "-m", "benchmarks.checks", str(ours.port), ours.world.api_key)
    try:
        wait_for(lambda: process.ended or ours.one("SELECT count(*) > 2000 FROM messaging_message"), 30)
        if process.ended:
            raise Failed(process.output[-400:])
        ours.connection.execute("ANALYZE")
        yield
    finally:
        process.kill()


def main() -> None:
    port, token = int(sys.argv[1]), sys.argv[2]
    with suppress(KeyboardInterrupt):
        load.run(port, load.batches("/api/v1/messages/batch", token, 100), connections=POSTERS)


if __name__ == "__main__":
    main()
