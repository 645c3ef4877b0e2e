"""One guess at each of many numbers is under every limit: the share of wrong ones is an alarm."""

from datetime import timedelta

import pytest

from providers.sql import rows
from tests.factories import ChallengeFactory, ClientFactory
from verification import alarms, conversions
from verification.models import Hour
from verification.states import ChallengeStatus

pytestmark = pytest.mark.django_db
WARNING = "far more guesses are wrong than in the last seven days"


def closed(verified, wrong, minutes_ago=1):
    ((now,),) = rows("SELECT clock_timestamp()")
    client = ClientFactory()
    when = {"client": client, "seed": None, "closed_at": now - timedelta(minutes=minutes_ago)}
    for _ in range(verified):
        ChallengeFactory(status=ChallengeStatus.VERIFIED, **when)
    for _ in range(wrong):
        ChallengeFactory(status=ChallengeStatus.EXPIRED, checks=1, **when)


def usual(verified, wrong, days_ago=1):
    ((hour,),) = rows("SELECT date_trunc('hour', clock_timestamp())")
    sums = {**dict.fromkeys(conversions.SUMS, 0), "verified": verified, "wrong": wrong, "cost": 0, "times": [0] * 13}
    Hour.objects.create(hour=hour - timedelta(days=days_ago), client=ClientFactory(), country="UA", **sums)


def warned(lines):
    alarms.guessing()
    return [line["count"] for line in lines.of(WARNING)]


@pytest.mark.parametrize(
    ("now", "before", "alarm"),
    [
        ((0, 50), (0, 0), True),
        ((0, 49), (0, 0), False),  # too few to tell
        ((60, 60), (900, 100), True),  # a half, and a tenth before
        ((160, 60), (900, 100), False),  # 27 percent
        ((340, 60), (1000, 1), False),  # 15 percent: people mistype
        ((339, 61), (1000, 1), True),
        ((500, 0), (0, 1000), False),
    ],
)
def test_share_of_wrong_guesses_is_an_alarm_beside_the_usual_one(lines, now, before, alarm):
    closed(*now)
    usual(*before)

    assert warned(lines) == ([now[1]] if alarm else [])


def test_what_is_old_is_not_now_and_what_is_very_old_is_not_usual(lines):
    closed(0, 60, minutes_ago=6)
    assert warned(lines) == []

    closed(90, 60)
    usual(0, 1000, days_ago=8)
    assert warned(lines) == [60]


def test_wrong_guesses_are_counted_in_the_hours(settings):
    closed(2, 3)

    conversions.count()

    assert sum(Hour.objects.values_list("wrong", flat=True)) == 3
    assert sum(Hour.objects.values_list("verified", flat=True)) == 2
