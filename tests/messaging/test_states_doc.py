"""docs/states.md says what messaging/states.py does."""

import re
from pathlib import Path

import pytest

from messaging.states import (
    ATTEMPT_TRANSITIONS,
    FINAL,
    NOT_LIFTED_BY_DELIVERY,
    PUBLIC,
    TRANSITIONS,
    AttemptStatus,
    Status,
    allowed,
)

PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text(encoding="utf-8")
MESSAGE, ATTEMPT = PAGE.split("\n## ")[1:]


def arrows(section):
    (diagram,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", section, re.DOTALL)
    return re.findall(r"^ +(\S+) --> (\S+)$", diagram, re.MULTILINE)


def table(section):
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")
    ]


@pytest.mark.parametrize(
    ("section", "transitions", "starts"),
    [(MESSAGE, TRANSITIONS, {"scheduled", "queued"}), (ATTEMPT, ATTEMPT_TRANSITIONS, {"intent"})],
    ids=["message", "attempt"],
)
def test_the_diagram_has_exactly_the_moves(section, transitions, starts):
    drawn = arrows(section)

    moves = {(origin.value, target.value) for origin, onward in transitions.items() for target in onward}
    ends = {origin.value for origin, onward in transitions.items() if not onward}
    assert len(drawn) == len(set(drawn))
    assert {arrow for arrow in drawn if "[*]" not in arrow} == moves
    assert {target for origin, target in drawn if origin == "[*]"} == starts
    assert {origin for origin, target in drawn if target == "[*]"} == ends


@pytest.mark.parametrize(
    ("section", "statuses"), [(MESSAGE, Status), (ATTEMPT, AttemptStatus)], ids=["message", "attempt"]
)
def test_the_table_explains_every_status_once(section, statuses):
    names = [row[0].strip("`") for row in table(section)]

    assert sorted(names) == sorted(statuses)
    assert all(re.fullmatch(r"[^.]+[^.]\.", row[-1]) for row in table(section))


def test_the_table_marks_what_clients_are_told():
    marked = {name.strip("`") for name, event, _ in table(MESSAGE) if event == "yes"}

    assert marked == PUBLIC


def test_the_page_names_what_a_delivered_receipt_does_not_lift():
    sentence = re.search(r"lifts every status except\n?([^.]+)\.", PAGE)

    assert sentence
    assert set(re.findall(r"`(\w+)`", sentence[1])) == NOT_LIFTED_BY_DELIVERY


def test_a_delivered_receipt_lifts_all_others():
    lifted = {status for status in Status if allowed(status, Status.DELIVERED)}

    assert lifted == set(Status) - NOT_LIFTED_BY_DELIVERY


def test_nothing_but_proof_of_delivery_leaves_a_final_status():
    onward = {(origin, target) for origin in FINAL for target in Status if allowed(origin, target)}

    assert {target for _, target in onward} == {Status.DELIVERED}
    assert Status.DELIVERED not in {origin for origin, _ in onward}
