"""What docs/verification.md says about profiles is what the code does."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from django.conf import settings

from verification import codes
from verification.admin.profiles import ProfileAdmin
from verification.models import Profile
from verification.profiles import DEFAULTS, Policy

PROFILES = (Path(settings.BASE_DIR) / "docs" / "verification.md").read_text().partition("\n## Profiles\n")[2]
PROFILES = PROFILES.partition("\n## ")[0]
ODDS = re.findall(r"^\| ([0-9]+) \| (.*) \|$", PROFILES, re.MULTILINE)


def described():
    return set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", PROFILES, re.MULTILINE))))


def test_every_field_is_described():
    assert described() == {field.name for field in fields(Policy)}


def test_every_field_can_be_edited():
    edited = {name for _, group in ProfileAdmin.fieldsets for name in group["fields"]}

    assert edited == {field.name for field in Profile._meta.get_fields() if field.name != "id"}


@pytest.mark.parametrize(("live", "lines"), [(1, ODDS[:7]), (codes.LIVE_GENERATIONS, ODDS[7:])])
def test_odds_are_those_of_the_code(live, lines):
    assert [int(length) for length, _ in lines] == list(range(codes.SHORTEST, codes.LONGEST + 1))
    for length, cells in lines:
        for checks, cell in zip((1, 3, 5, 10), cells.split(" | "), strict=True):
            odds = codes.odds(int(length), checks, live)
            assert float(cell.strip("*").replace(",", "")) == pytest.approx(odds, rel=1e-3)
            assert cell.startswith("**") is (odds > codes.ODDS_LIMIT), (length, checks)


def test_odds_of_the_defaults_are_at_most_five_in_a_million():
    assert {purpose: policy.odds for purpose, policy in DEFAULTS.items()} == pytest.approx(
        {"login": 5, "signup": 5, "payment": 0.05}
    )
