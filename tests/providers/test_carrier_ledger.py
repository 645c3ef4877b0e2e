import json
from collections.abc import Callable
from pathlib import Path

import pytest

from providers.simulator.ledger import Ledger, summarise


class Turns:
    """An event loop by hand: what was deferred runs when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def defer(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def fill(ledger: Ledger, *references: str, event: str = "accepted", to: str = "+380501234567") -> None:
    for reference in references:
        ledger.append(carrier="carrier-a", event=event, reference=reference, to=to, text="hi")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def test_answer_waits_until_its_entry_is_in_the_file(path: Path) -> None:
    turns = Turns()
    ledger = Ledger(path, turns.defer)
    seen: list[str] = []

    fill(ledger, "r1")
    ledger.after_write(lambda: seen.append(path.read_text()))

    assert (seen, path.read_text()) == ([], "")
    turns.run()
    assert [json.loads(text)["reference"] for text in seen] == ["r1"]
    ledger.close()


def test_entries_of_one_turn_are_written_together(path: Path) -> None:
    turns = Turns()
    ledger = Ledger(path, turns.defer)

    fill(ledger, "r1", "r2", "r3")

    assert len(turns.calls) == 1
    turns.run()
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [1, 2, 3]
    ledger.close()


def test_earlier_run_is_read_back(path: Path) -> None:
    first = Ledger(path, Turns().defer)
    fill(first, "r1", "r2")
    first.close()

    again = Ledger(path, Turns().defer)
    fill(again, "r3")

    assert [entry["reference"] for entry in again.entries()] == ["r1", "r2", "r3"]
    assert again.read(2)["reference"] == "r2"
    assert [entry["seq"] for entry in again.entries()] == [1, 2, 3]
    again.close()


def test_torn_last_line_of_a_killed_run_is_dropped(path: Path) -> None:
    first = Ledger(path, Turns().defer)
    fill(first, "r1")
    first.close()
    path.write_bytes(path.read_bytes() + b'{"seq":2,"refer')

    again = Ledger(path, Turns().defer)
    fill(again, "r2")

    assert [(entry["seq"], entry["reference"]) for entry in again.entries()] == [(1, "r1"), (2, "r2")]
    again.close()


def test_questions_filter_by_field_place_and_number(path: Path) -> None:
    ledger = Ledger(path, Turns().defer)
    fill(ledger, "r1", "r2", "r1", "r3")

    assert [entry["seq"] for entry in ledger.entries({"reference": "r1"})] == [1, 3]
    assert [entry["seq"] for entry in ledger.entries({"reference": "r1"}, after=1)] == [3]
    assert [entry["seq"] for entry in ledger.entries(after=1, limit=2)] == [2, 3]
    assert ledger.entries({"reference": "r9"}) == []
    assert ledger.entries(after=4) == []
    ledger.close()


def test_text_that_looks_like_an_entry_is_not_one() -> None:
    ledger = Ledger(None, Turns().defer)
    ledger.append(event="accepted", carrier="c", reference="r1", to="+1", text='"reference":"r2"\n{"seq":9}')

    assert ledger.entries({"reference": "r2"}) == []
    assert len(ledger.entries()) == 1
    ledger.close()


@pytest.mark.parametrize("named", [True, False])
def test_reset_starts_again(path: Path, named: bool) -> None:
    ledger = Ledger(path if named else None, Turns().defer)
    fill(ledger, "r1")

    ledger.reset()
    fill(ledger, "r2")

    assert [(entry["seq"], entry["reference"]) for entry in ledger.entries()] == [(1, "r2")]
    ledger.close()


def test_summary_counts_sms_beyond_the_first() -> None:
    ledger = Ledger(None, Turns().defer)
    fill(ledger, "r1", "r2", "r2")
    fill(ledger, "r1", event="replay")
    fill(ledger, "r4", to="+4915112345678")

    by_reference, by_text = (summarise(ledger.entries(), by) for by in ("reference", "text"))

    assert (by_reference["accepted"], by_reference["sent"], by_reference["duplicates"]) == (4, 3, 1)
    assert by_reference["repeated"] == [{"reference": "r2", "count": 2, "seqs": [2, 3], "carriers": ["carrier-a"]}]
    assert by_reference["replays"] == 1
    assert (by_text["sent"], by_text["duplicates"]) == (2, 2)
    assert by_text["repeated"][0]["to"] == "+380501234567"
    ledger.close()
