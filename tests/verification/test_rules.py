"""The fraud rules, by tables of cases: no database, no clock."""

import uuid

import pytest

from verification import limits
from verification.fraud_models import Mode
from verification.profiles import Policy
from verification.rules import Count, Facts, Standing, Start, block_seconds, findings, unusual

LONDON, KYIV = "+447400123456", "+380671234567"


def start(msisdn=KYIV, country="UA", **fields):
    return Start(uuid.UUID(int=1), "core", "login", msisdn, country, **fields)


@pytest.fixture(autouse=True)
def floors(settings):
    """Those of Authgear's specification."""
    floors = {"unverified_day": 20, "unverified_hour": 3, "unverified_ip": 10, "ip_countries": 3}
    settings.VERIFY_RULES = {"unverified_percent": 20, **floors}


class Known:
    """Evidence that was found, and limits without room."""

    def __init__(self, facts=Facts(), full=(), failed=()):  # noqa: B008  immutable
        self._facts, self._full, self._failed, self.taken = facts, full, failed, []

    def facts(self, start):
        return self._facts

    def take(self, wanted):
        self.taken = [limit.kind for limit in wanted]
        return [limits.Full(limit, 60.0) for limit in wanted if limit.kind in self._full]

    def peek(self, wanted):
        return [limits.Full(limit, 90.0) for limit in wanted if limit.kind in self._failed]


def rules_for(facts, mode=Mode.FILTER, policy=Policy(), one=None, **known):  # noqa: B008  immutable
    return [finding.rule for finding in findings(one or start(), policy, mode, Known(facts, **known))]


def country(day=(0, 0), best=0, hour=(0, 0)):
    """(verified, unverified) of the day and of the hour."""
    return Facts(day=Count(sum(day), day[0]), best=best, hour=Count(sum(hour), hour[0]))


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        # The table of Authgear's specification, by its thresholds: the last that passes, the first that does not.
        (country(day=(300, 59), hour=(300, 59)), []),
        (country(day=(300, 60), hour=(300, 59)), ["country_day"]),
        (country(day=(300, 59), hour=(300, 60)), ["country_hour"]),
        (country(day=(1000, 199), best=1000, hour=(200, 39)), []),
        (country(day=(1000, 200), best=1000, hour=(200, 40)), ["country_day", "country_hour"]),
        (country(day=(2000, 399), best=1000, hour=(400, 79)), []),
        (country(day=(2000, 400), best=1000, hour=(400, 80)), ["country_day", "country_hour"]),
        (country(day=(500, 199), best=1000, hour=(50, 33)), []),
        (country(day=(500, 199), best=1000, hour=(50, 34)), ["country_hour"]),
        # Quiet countries have the floors: 20 a day, and 3 an hour there.
        (country(day=(10, 19), hour=(10, 2)), []),
        (country(day=(0, 20), hour=(0, 0)), ["country_day"]),
        (country(day=(30, 3), hour=(10, 4)), ["country_hour"]),
        # A good day long ago carries today, and its night.
        (country(day=(0, 199), best=1000, hour=(0, 33)), []),
        (country(day=(0, 200), best=1000, hour=(0, 33)), ["country_day"]),
    ],
)
def test_unverified_ratio_of_a_country(settings, facts, found):
    settings.VERIFY_RULES = {**settings.VERIFY_RULES, "unverified_hour": 3, "unverified_percent": 20}

    assert [finding.rule for finding in unusual(facts)] == found


@pytest.mark.parametrize(
    ("verified", "unverified", "refused"), [(0, 9, False), (0, 10, True), (100, 19, False), (100, 20, True)]
)
def test_unverified_ratio_of_a_network(settings, verified, unverified, refused):
    settings.VERIFY_RULES = {**settings.VERIFY_RULES, "unverified_percent": 20}
    facts = Facts(ip_day=Count(verified + unverified, verified))

    assert [finding.rule for finding in unusual(facts)] == ["ip_day"] * refused


def test_network_that_asks_for_many_countries():
    assert not list(unusual(Facts(ip_countries=3)))
    assert [finding.rule for finding in unusual(Facts(ip_countries=4))] == ["ip_countries"]


@pytest.mark.parametrize(
    ("hours", "refused"),
    [
        ([(49, 0)], False),
        ([(50, 9)], True),
        ([(50, 10)], False),
        ([(30, 0), (20, 10)], False),
        ([(30, 0), (20, 9)], True),
        ([(30, 0), (20, 9), (1000, 1000)], True),  # what was long ago excuses nothing
        ([(50, 50), (1000, 0)], False),
        ([], False),
    ],
)
def test_prefix_needs_a_fifth_of_its_last_fifty(hours, refused):
    facts = Facts(prefix=[Count(*hour) for hour in hours])

    assert [finding.rule for finding in unusual(facts)] == ["prefix_ratio"] * refused


def test_block_doubles_up_to_a_day():
    assert [block_seconds(level) / 3600 for level in range(7)] == [1, 2, 4, 8, 16, 24, 24]
    assert block_seconds(60_000) == 86_400


BAD = Facts(prefix=[Count(50, 0)], day=Count(20, 0), hour=Count(20, 0))


def test_filter_finds_everything_the_hardest_first():
    blocked = Facts(blocks=[Standing("ip", False)], prefix=BAD.prefix, day=BAD.day, hour=BAD.hour)

    found = rules_for(blocked, full=("number",), failed=("failed",))

    assert found == ["blocked_ip", "prefix_ratio", "country_day", "country_hour", "limit_number", "limit_failed"]


def test_mode_allow_keeps_limits_but_neither_velocity_nor_ratio():
    known = Known(BAD, full=("prefix", "number"))

    found = [finding.rule for finding in findings(start(), Policy(), Mode.ALLOW, known)]

    assert found == ["limit_number"]
    assert "prefix" not in known.taken


def test_trusted_number_is_spared_all_but_wrong_guesses_and_what_staff_decided():
    facts = Facts(trusted=True, blocks=[Standing("number", False), Standing("prefix", True)], prefix=BAD.prefix)

    assert rules_for(facts, full=("number",), failed=("failed",)) == ["blocked_number", "limit_failed"]


def test_standing_block_of_a_rule_is_no_new_reason_to_block():
    assert rules_for(Facts(blocks=[Standing("prefix", True)], prefix=BAD.prefix)) == ["prefix_blocked"]


@pytest.mark.parametrize(
    ("msisdn", "kind"),
    [
        ("+18002345678", "toll_free"),
        ("+19002345678", "premium_rate"),
        ("+445612345678", "voip"),
        ("+48801234567", "shared_cost"),
        ("+447640123456", "pager"),
        ("+442012345678", "fixed_line"),
    ],
)
def test_type_of_number_is_refused_unless_the_profile_takes_it(msisdn, kind):
    one = start(msisdn, "GB")

    found = list(findings(one, Policy(), Mode.FILTER, Known()))

    assert [(finding.rule, finding.hard) for finding in found] == [("number_type", True)]
    assert kind in found[0].detail
    assert rules_for(Facts(), policy=Policy(number_types=frozenset([kind])), one=one) == []


def test_countries_of_the_profile_and_a_blocked_country_are_hard():
    policy = Policy(countries=frozenset(["PL"]))

    found = list(findings(start(), policy, Mode.BLOCK, Known()))

    assert [(finding.rule, finding.hard) for finding in found] == [("profile_country", True), ("country", True)]
    assert rules_for(Facts(), policy=Policy(countries=frozenset(["UA"]))) == []


def test_limit_that_lasts_longest_is_told():
    full = [("number", 60.0), ("ip", 70.0)]
    known = Known(full=("number", "ip"))
    known.take = lambda wanted: [
        limits.Full(limit, seconds) for kind, seconds in full for limit in wanted if limit.kind == kind
    ]

    (found,) = findings(start(ip="192.0.2.1"), Policy(), Mode.FILTER, known)

    assert (found.rule, found.seconds) == ("limit_ip", 70.0)
