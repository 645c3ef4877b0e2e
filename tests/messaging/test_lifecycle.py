"""Whom a process lets go first."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet import ROOT

AUTOGROUP = Path("/proc/self/autogroup")
TOLD = "import os; from messaging.lifecycle import give_way; {}; print(os.nice(0), open('/proc/self/autogroup').read())"
CHILD = "os.fork() and (os.wait(), os._exit(0)); give_way()"  # as dramatiq's worker, the child of what was started


def told(does: str, *, session: bool) -> list[str]:
    command = [sys.executable, "-c", TOLD.format(does)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, start_new_session=session)
    return done.stdout.split()


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel knows no autogroups")
@pytest.mark.parametrize("does", ["give_way()", CHILD])
def test_process_of_a_session_of_its_own_gives_way_to_other_sessions_too(does):
    assert [told(does, session=True)[index] for index in (0, -1)] == ["10", "10"]


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel knows no autogroups")
def test_process_in_the_session_of_others_gives_way_alone():
    before = AUTOGROUP.read_text()

    nice, *group = told(CHILD, session=False)

    assert nice == "10"
    assert group == before.split() == AUTOGROUP.read_text().split()
