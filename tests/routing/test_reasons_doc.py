"""The page on routing has every reason of the code, with the same words."""

import re
from pathlib import Path

from routing.lcr import REASONS
from routing.order_models import Rule

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "routing.md").read_text(encoding="utf-8")


def table(title: str) -> dict[str, str]:
    section = re.split(r"\n#+ ", PAGE.split(f"# {title}\n", 1)[1])[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))


def test_every_reason_is_explained_in_the_same_words() -> None:
    assert table("Reasons") == REASONS


def test_no_reason_of_the_code_is_missing_in_the_table() -> None:
    source = "".join((ROOT / "routing" / name).read_text() for name in ("lcr.py", "rules.py", "snapshot.py"))
    given = re.findall(r'(?:route\.id, |return |reason=|fault = |refused = |else )"([a-z_]{5,})"', source)
    states = [f"sender_{state}" for state in ("pending", "rejected")]

    assert {*given, *states} - {"dearest"} == set(REASONS)


def test_every_action_of_a_rule_is_explained() -> None:
    assert set(table("Rules")) == set(Rule.Action.values)
