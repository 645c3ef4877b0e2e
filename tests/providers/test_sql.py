"""Work in groups: to the end where it is short, for its time where it is long."""

import time

from providers.sql import in_groups


def test_groups_end_with_the_first_that_is_not_full():
    sizes = [3, 3, 1, 3]

    in_groups(lambda: sizes.pop(0), 3)

    assert sizes == [3]


def test_full_groups_end_with_their_time():
    groups = []

    def step() -> int:
        groups.append(time.monotonic())
        time.sleep(0.01)
        return 3

    in_groups(step, 3, seconds=0.05)

    assert 2 <= len(groups) <= 6
    assert groups[-1] - groups[0] < 1
