"""Does /metrics agree with the database to the message? Asked while messages flow, and once more when they are done."""

import re
import threading
import urllib.request
from collections import Counter

import psycopg

from benchmarks import measure
from benchmarks.fleets import Ours
from benchmarks.measure import Failed, Sample
from benchmarks.world import say

PAUSE = 0.3  # seconds between two scrapes
LINE = re.compile(r'^messaging_messages_in_state\{class="(\w+)",state="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)
COUNT = "SELECT message_class, status, count(*) FROM messaging_message GROUP BY 1, 2"


def compare(ours: Ours, messages: int) -> Sample:
    """Delivers `messages` with somebody scraping beside. Raises Failed where a count is not the database's."""
    watch = Watch(ours)
    watch.start()
    try:
        sample = measure.end_to_end(ours, messages, receipts=True)
    finally:
        watch.end()
    with psycopg.connect(ours.url, autocommit=True) as connection:
        told, found = scrape(ours), _stored(connection)
    if told != found:
        raise Failed(f"/metrics says {told}, the database {found}")
    if watch.wrong or not watch.compared:
        raise Failed(f"/metrics under load, {watch.compared} times asked: {watch.wrong or 'never'}")
    say(f"/metrics: {watch.compared} times right while messages flowed; equal at the end: {dict(told)}")
    return sample


class Watch(threading.Thread):
    """Scrapes between two looks at the tables: what only grows must lie between them."""

    def __init__(self, ours: Ours) -> None:
        super().__init__(daemon=True)
        self._ours = ours
        self._ended = threading.Event()
        self.compared = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        try:
            with psycopg.connect(self._ours.url, autocommit=True) as connection:
                while not self._ended.wait(PAUSE):
                    self._look(connection)
        except Exception as error:
            self.wrong.append(f"{type(error).__name__}: {error}")

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _look(self, connection: psycopg.Connection) -> None:
        before, told, after = _stored(connection), scrape(self._ours), _stored(connection)
        for name, count in (("all", Counter.total), ("delivered", _delivered)):
            least, said, most = count(before), count(told), count(after)
            if least > most:  # the tables were emptied meanwhile
                return
            if not least <= said <= most:
                self.wrong.append(f"{said} {name}, and the tables {least} to {most}")
        self.compared += bool(after)


def scrape(ours: Ours) -> Counter[tuple[str, str]]:
    """(class, state) -> messages, without the zeros. Raises Failed where the page shows no such figure."""
    try:
        page = urllib.request.urlopen(f"http://127.0.0.1:{ours.port}/metrics", timeout=10).read().decode()
    except OSError as error:
        raise Failed(f"/metrics does not answer: {error}") from None
    found = LINE.findall(page)
    if not found:
        raise Failed("/metrics has no messaging_messages_in_state")
    return +Counter({(lane, state): int(float(value)) for lane, state, value in found})


def _stored(connection: psycopg.Connection) -> Counter[tuple[str, str]]:
    return Counter({(lane, state): count for lane, state, count in connection.execute(COUNT)})


def _delivered(counts: Counter[tuple[str, str]]) -> int:
    return sum(count for (_, state), count in counts.items() if state == "delivered")
