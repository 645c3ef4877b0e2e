"""A worker that dies, or freezes, at each point of the send path: what its messages become, by the ledger."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from messaging.models import Attempt, Message
from messaging.states import Status
from tests.chaos.stage import MODES, SETTINGS, Stage, stage
from tests.fleet import Process, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.django_db, pytest.mark.timeout(300)]

KILLS = ("after_intent_commit", "after_send", "before_settle")
FREEZES = ("after_intent_commit", "before_gate")
OPEN = (Status.QUEUED, Status.SENDING, Status.UNKNOWN)

SENT_AT_ONCE = (Status.SENT, ["accepted"], 1)
RESOLVED = (Status.SENT, ["accepted"], 1)
SENT_AGAIN = (Status.SENT, ["not_sent", "accepted"], 1)
HELD_NOT_OUT = (Status.HELD, ["unknown"], 0)
HELD_GONE_OUT = (Status.HELD, ["unknown"], 1)

NOTHING_LEFT = {"key": RESOLVED, "lookup": SENT_AGAIN, "none": HELD_NOT_OUT}
ALL_LEFT = {"key": RESOLVED, "lookup": RESOLVED, "none": HELD_GONE_OUT}
#: scenario -> mode -> (message, its attempts, SMS that the carrier accepted)
EXPECTED = {
    "killed before_intent_commit": dict.fromkeys(MODES, SENT_AT_ONCE),
    "killed after_intent_commit": NOTHING_LEFT,
    "killed after_send": ALL_LEFT,
    "killed before_settle": ALL_LEFT,
    "frozen after_intent_commit": NOTHING_LEFT,
    "frozen before_gate": NOTHING_LEFT,
    "thawed before its lease was over": dict.fromkeys(MODES, SENT_AGAIN),
}


@dataclass(frozen=True)
class Story:
    """What was found when all was over: by text, "scenario mode"."""

    messages: dict[str, str]
    attempts: dict[str, list[tuple[str, str]]]
    accepted: Counter[str]


@pytest.fixture(scope="module")
def story(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[Story]:
    with django_db_blocker.unblock():
        with stage(tmp_path_factory.mktemp("interruptions")) as found:
            happened = play(found)
        yield happened


def play(stage: Stage) -> Story:
    for point in KILLS:
        interrupted(stage, f"killed {point}", point, "SIGKILL").kill()
    thawed_early = interrupted(stage, "thawed before its lease was over", "after_intent_commit", "SIGSTOP")
    time.sleep(SETTINGS["GATE"] + 0.5)
    thawed_early.signal(signal.SIGCONT)
    wait_for(lambda: not Message.objects.filter(text__startswith="thawed").exclude(status=Status.SENT).exists())
    thawed_early.stop()
    frozen = [interrupted(stage, f"frozen {point}", point, "SIGSTOP") for point in FREEZES]
    # The last one: its messages are in the queue again at once, and the next worker takes them.
    interrupted(stage, "killed before_intent_commit", "before_intent_commit", "SIGKILL").kill()
    stage.fleet.worker()
    stage.fleet.sweeper()
    wait_for(lambda: not Message.objects.filter(status__in=OPEN).exists(), 60)
    for worker in frozen:
        worker.signal(signal.SIGCONT)
        worker.stop()
    messages = dict(Message.objects.values_list("text", "status"))
    attempts: dict[str, list[tuple[str, str]]] = {text: [] for text in messages}
    for text, status, code in Attempt.objects.order_by("seq").values_list("message__text", "status", "error_code"):
        attempts[text].append((status, code))
    return Story(messages, attempts, stage.accepted())


def interrupted(stage: Stage, scenario: str, point: str, by: str) -> Process:
    """Queues one message per mode for a worker that is interrupted while it has all of them at once."""
    mark = stage.directory / scenario.replace(" ", "-")
    stage.queue(scenario)
    # Past the send all requests must have left: three are written before the interruption.
    count = len(MODES) - 1 if point == "after_send" else 0
    worker = stage.fleet.worker(
        "transactional",
        extra_module="tests.chaos.interruptions",
        INTERRUPT_AT=point,
        INTERRUPT_BY=by,
        INTERRUPT_COUNT=str(count),
        INTERRUPT_MARK=str(mark),
    )
    wait_for(lambda: mark.exists() or worker.ended, 30)
    assert mark.exists(), worker.output
    return worker


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", EXPECTED)
def test_interrupted_message(story: Story, scenario: str, mode: str) -> None:
    text = f"{scenario} {mode}"

    attempts = [status for status, _ in story.attempts[text]]
    assert (story.messages[text], attempts, story.accepted[text]) == EXPECTED[scenario][mode]


@pytest.mark.parametrize("mode", MODES)
def test_gate_refuses_what_was_frozen_for_longer_than_it_is_open(story: Story, mode: str) -> None:
    attempts = story.attempts[f"thawed before its lease was over {mode}"]

    assert attempts == [("not_sent", "gate_refused"), ("accepted", "")]
