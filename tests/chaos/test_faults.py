"""Lost replies and `kill -9` by the dozen: nothing is lost, nothing is sent twice, nothing doubtful is hidden.

One run with three carriers: one honours a key, one has a look-up, one has neither. Two workers share the
lane; again and again the older one is killed while attempts of its own are open, and now and then the
sweeper. The carriers' ledger is the judge.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from messaging.models import Attempt, Message
from messaging.states import AttemptStatus, Status
from providers.sql import rows
from tests.chaos.stage import MODES, Stage, stage
from tests.fleet import Process, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.django_db, pytest.mark.timeout(420)]

HITS = 30  # kills of a worker with open attempts
MOST_KILLS = 2 * HITS  # it may have settled them at the last moment
BATCH = 67  # messages per kill and mode: 2,010 of each mode at least
SWEEPER_DIES = 6  # after every so many kills
OPEN = (Status.QUEUED, Status.SENDING, Status.UNKNOWN)
LOST_REPLIES = [
    {"fault": "drop_after_accept", "share": 0.02, "on": "send"},
    {"fault": "drop_before_accept", "share": 0.02, "on": "send"},
    {"fault": "hang_after_accept", "share": 0.01},
    {"fault": "server_error_after_accept", "share": 0.01},
]
FAULTS = [
    {"fault": "latency", "seconds": 0.3, "on": "send"},
    {"fault": "drop_before_accept", "share": 0.06, "on": "lookup"},
    *LOST_REPLIES,
]


@dataclass
class Story:
    """`orphans`: per kill that landed, mode -> texts of the killed worker's own open attempts."""

    texts: dict[str, list[str]] = field(default_factory=lambda: {mode: [] for mode in MODES})
    orphans: list[dict[str, set[str]]] = field(default_factory=list)
    kills: int = 0
    sweeper_kills: int = 0
    status: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)  # texts with an attempt that nobody knows the end of
    accepted: Counter[str] = field(default_factory=Counter)
    unanswered: set[str] = field(default_factory=set)  # texts that a carrier gave no readable reply to

    def statuses(self, mode: str) -> Counter[str]:
        return Counter(self.status[text] for text in self.texts[mode])

    def doubtful(self, mode: str) -> set[str]:
        """What the killers and the carriers know to have been left without an outcome."""
        killed = {text for orphans in self.orphans for text in orphans[mode]}
        return killed | (self.unanswered & set(self.texts[mode]))


class Worker:
    """A real worker of two lanes, and what it has claimed."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.name = f"worker-{number}"
        self._journal: Path = stage.directory / self.name
        self._process: Process = stage.fleet.worker(
            "transactional",
            "events",
            extra_module="tests.chaos.journal",
            JOURNAL=str(self._journal),
            PROCESS_NAME=self.name,
        )

    def wait_until_up(self) -> None:
        wait_for(lambda: self._process.ended or self._journal.exists(), 30)
        assert not self._process.ended, self._process.output

    def open_attempts(self) -> dict[str, set[str]]:
        claimed = self._journal.read_text().split()
        found = Attempt.objects.filter(id__in=claimed, status=AttemptStatus.INTENT)
        texts: dict[str, set[str]] = {mode: set() for mode in MODES}
        for slug, text in found.values_list("provider__slug", "message__text"):
            texts[slug.removeprefix("carrier-")].add(text)
        return texts

    def kill(self) -> None:
        self._process.kill()
        # What it had sent to the database is done or rolled back when its connections are gone.
        wait_for(lambda: not rows("SELECT FROM pg_stat_activity WHERE application_name = %(n)s", {"n": self.name}))


@pytest.fixture(scope="module")
def story(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[Story]:
    with django_db_blocker.unblock():
        with stage(tmp_path_factory.mktemp("faults")) as found:
            happened = play(found)
        yield happened


def play(stage: Stage) -> Story:
    story = Story()
    for mode in MODES:
        stage.carriers.faults(f"carrier-{mode}", *FAULTS)
    sweeper = stage.fleet.sweeper()
    workers = [Worker(stage, number) for number in range(2)]
    while len(story.orphans) < HITS and story.kills < MOST_KILLS:
        victim = workers.pop(0)
        victim.wait_until_up()
        queue_batch(stage, story)
        wait_for(partial(is_busy, stage, story, victim), 30)
        victim.kill()
        story.kills += 1
        orphans = victim.open_attempts()
        if any(orphans.values()):
            story.orphans.append(orphans)
        workers.append(Worker(stage, story.kills + 1))
        if story.kills % SWEEPER_DIES == 0:
            sweeper.kill()
            story.sweeper_kills += 1
            sweeper = stage.fleet.sweeper()
    with suppress(AssertionError):
        wait_for(lambda: not unfinished(), 180, pause=0.5)
    assert unfinished() == [], f"these messages have not come to an end\n{stage.fleet.report()}"
    gather(stage, story)
    return story


def queue_batch(stage: Stage, story: Story) -> None:
    first = len(story.texts[MODES[0]])
    names = range(first, first + BATCH)
    stage.queue(*names)
    for mode in MODES:
        story.texts[mode] += [f"{name} {mode}" for name in names]


def is_busy(stage: Stage, story: Story, worker: Worker) -> bool:
    """Has it an open attempt? Where the other one has taken everything, there is more to do."""
    if not Message.objects.filter(status=Status.QUEUED).exists():
        queue_batch(stage, story)
    return any(worker.open_attempts().values())


def unfinished() -> list[dict[str, Any]]:
    """The first of what is still on its way, with all that tells why."""
    times = ("started_at", "finished_at", "resolve_at", "resolve_lease_until")
    attempt = {f"attempts__{name}" for name in ("id", "status", "error_code", "not_found", *times)}
    message = {"text", "status", "not_before", "lease_until", "tried", "barred", "rounds", "spent", "decision"}
    found = Message.objects.filter(status__in=OPEN).values(*message, *attempt)
    return list(found.order_by("id", "attempts__seq")[:5])


def gather(stage: Stage, story: Story) -> None:
    story.status = dict(Message.objects.values_list("text", "status"))
    story.unknown = set(Attempt.objects.filter(status=AttemptStatus.UNKNOWN).values_list("message__text", flat=True))
    story.accepted = stage.accepted()
    lost = {fault["fault"] for fault in LOST_REPLIES}
    story.unanswered = {
        entry["text"] for entry in stage.carriers.entries() if entry.get("fault") in lost and "text" in entry
    }


def test_enough_kills_hit_a_worker_with_open_attempts(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{len(story.orphans)} of {story.kills} kills hit open attempts, {story.sweeper_kills} sweepers killed")
        for mode in MODES:
            hits = sum(bool(orphans[mode]) for orphans in story.orphans)
            left = sum(len(orphans[mode]) for orphans in story.orphans)
            twice = sum(count > 1 for text, count in story.accepted.items() if text in set(story.texts[mode]))
            print(
                f"  {mode}: {len(story.texts[mode])} messages, {hits} kills left {left} attempts open, "
                f"{len(story.unanswered & set(story.texts[mode]))} replies lost, sent twice {twice}, "
                f"{dict(story.statuses(mode))}"
            )

    assert len(story.orphans) >= HITS
    assert story.sweeper_kills >= 5
    for mode in MODES:
        assert len(story.texts[mode]) >= 2000
        assert len(story.unanswered & set(story.texts[mode])) >= 0.05 * len(story.texts[mode])


@pytest.mark.parametrize("mode", ["key", "lookup"])
def test_where_it_can_be_found_out_nothing_is_lost_and_nothing_is_sent_twice(story: Story, mode: str) -> None:
    texts = story.texts[mode]

    assert story.statuses(mode) == {Status.SENT: len(texts)}
    assert {text: story.accepted[text] for text in texts if story.accepted[text] != 1} == {}


def test_where_nothing_can_tell_nothing_is_sent_twice_and_every_doubt_is_visible(story: Story) -> None:
    texts = set(story.texts["none"])
    held = {text for text in texts if story.status[text] in (Status.UNKNOWN, Status.HELD)}
    doubtful = story.doubtful("none")

    assert [text for text in texts if story.accepted[text] > 1] == []
    assert doubtful
    assert doubtful <= held <= story.unknown
    assert {(story.status[text], story.accepted[text]) for text in texts - held} == {(Status.SENT, 1)}
    assert {story.accepted[text] for text in held} == {0, 1}
