"""docs/verification.md says what the code does."""

import json
import re
import tomllib

import pytest

from config.local.up import BASE_DIR
from messaging import schema
from messaging.openapi.calls import SAMPLES
from messaging.provisioning import provision
from verification import checking, codes, profiles
from verification.models import Profile
from verification.profiles import DEFAULTS
from verification.states import ChallengeStatus

PAGE = (BASE_DIR / "docs" / "verification.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_samples_are_those_that_run():
    assert block("python") == (SAMPLES / "verify.py").read_text(encoding="utf-8")
    assert block("sh") == (SAMPLES / "verify.sh").read_text(encoding="utf-8")


def test_the_event_keeps_to_its_schema():
    event = schema.validator("verification.event.v1.json")
    data = json.loads(block("json event"))

    assert not [error for error in event.iter_errors({"data": data}) if list(error.instance_path)[:1] == ["data"]]


@pytest.mark.django_db
def test_the_profile_of_the_example_can_be_provisioned_and_is_nearly_the_default():
    provision(tomllib.loads(block("toml")), environ={})

    row = Profile.objects.get()
    changed = {
        name
        for name in profiles.Policy.__dataclass_fields__
        if getattr(profiles.policy_of(row), name) != getattr(DEFAULTS["payment"], name)
    }
    assert changed == {"cooldowns", "locale", "sender", "countries", "webotp_host"}
    for name in profiles.Policy.__dataclass_fields__:
        assert f"\n{name} = " in block("toml"), name


def test_every_status_is_explained():
    assert set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE, re.MULTILINE)) >= set(ChallengeStatus)


def test_the_figures_are_those_of_the_code():
    assert DEFAULTS["login"].odds == pytest.approx(5)
    assert DEFAULTS["payment"].odds == pytest.approx(0.05)
    assert f"Above {codes.ODDS_LIMIT} in a million" in PAGE
    assert (checking.TOKEN_SECONDS, codes.LIVE_GENERATIONS) == (600, 3)


def test_every_threat_names_tests_that_are_there():
    threats = PAGE.split("\n## Threats\n")[1].split("\n## ")[0]
    lines = [line for line in threats.splitlines() if line.startswith("| ")][1:]

    assert len(lines) > 10
    for line in lines:
        shown = re.findall(r"`(tests/[\w/]+\.py)`", line.rsplit("|", 2)[1])
        assert shown, line
        assert all((BASE_DIR / name).exists() for name in shown), line
