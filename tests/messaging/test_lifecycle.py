"""Whom a process lets go first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet import ROOT

AUTOGROUP = Path("/proc/self/autogroup")
TOLD = "import os; from messaging.lifecycle import give_way; {}; print(os.nice(0), open('/proc/self/autogroup').read())"
BORN = "os.fork() and (os.wait(), os._exit(0)); "
SHELL = 'command=$1; shift; "$command" "$@"; cat /proc/self/autogroup'  # waits for its child

pytestmark = pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel knows no autogroups")


def told(does, *, session, by=()):
    command = [*by, sys.executable, "-c", TOLD.format(does)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, start_new_session=session)
    return done.stdout.split()


def given_way():
    return str(os.nice(0) + 10)


@pytest.mark.parametrize("does", ["give_way()", BORN + "give_way(leader=os.getppid())"])
def test_process_of_a_session_of_its_own_gives_way_to_other_sessions_too(does):
    nice, *group = told(does, session=True)

    assert (nice, group[-1]) == (given_way(), "10")


def test_process_in_the_session_of_others_gives_way_alone():
    before = AUTOGROUP.read_text()

    nice, *group = told(BORN + "give_way(leader=os.getppid())", session=False)

    assert nice == given_way()
    assert group == before.split() == AUTOGROUP.read_text().split()


def test_child_of_a_shell_does_not_speak_for_the_shell():
    nice, *groups = told("give_way()", session=True, by=("sh", "-c", SHELL, "sh"))

    assert nice == given_way()
    assert "10" not in groups
