"""Past starts against the rules: the same verdicts as from the database, in a form that people can read."""

import csv
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from messaging.errors import Refusal
from tests.factories import ProviderFactory
from tests.verification.phone import NUMBER, URL, check, code_of, start
from tests.verification.traffic import LAX, WIDE, number, same_hour
from verification import challenges, countries
from verification.fraud_models import Block, CountryRule, Mode, Refused, StartCount, TrustedNumber
from verification.management.commands.verify_simulate_fraud import HELP
from verification.models import Bucket, Challenge
from verification.replay import Past, replay

pytestmark = pytest.mark.django_db
BEGIN = datetime(2026, 6, 1, 9, tzinfo=UTC)
COLUMNS = ("at", "to", "client", "purpose", "verified", "ip")


@pytest.fixture(autouse=True)
def provider(db, settings):
    settings.VERIFY_LIMITS = dict(WIDE)
    settings.VERIFY_RULES = dict(LAX)
    same_hour()
    return ProviderFactory(price="0.04")


def past(n=0, to=NUMBER, country="UA", verified=False, ip="", seconds=0.0, client="core"):
    at = BEGIN.timestamp() + n + seconds
    return Past(at, to, country, client, "login", ip, "", verified)


def refused(starts):
    return [verdict.refused.rule if verdict.refused else "" for verdict in replay(starts)]


def test_trusted_number_passes_a_cap_and_uses_it_up():
    CountryRule.objects.create(country="UA", daily_cap=Decimal("0.05"), currency="EUR")
    TrustedNumber.objects.create(msisdn=NUMBER, reason="a test")
    countries.rules.forget()

    assert refused([past(), past(1), past(2, to=number(1)), past(3)]) == ["", "", "spend_cap", ""]


def test_limit_counts_in_the_time_of_the_file(settings):
    settings.VERIFY_LIMITS["number_hour"] = 2

    found = refused([past(), past(1), past(2), past(3599), past(3600), past(3601)])

    assert found == ["", "", "limit_number", "limit_number", "", ""]


def test_refused_start_counts_against_nothing(settings):
    settings.VERIFY_LIMITS |= {"number_hour": 1, "prefix_hour": 2}

    assert refused([past(0), past(1), past(2), past(3, to=number(1))]) == ["", "limit_number", "limit_number", ""]


def test_prefix_is_blocked_for_an_hour_and_then_for_two():
    starts = [past(n, to=number(n % 10_000)) for n in range(0, 5 * 3600, 10)]

    rules = refused(starts)

    def blocked_at(n):
        return rules[n * 6] == "prefix_blocked"  # of each minute

    assert rules.index("prefix_ratio") == 50
    assert [blocked_at(minute) for minute in (10, 60, 67)] == [True, True, True]
    assert rules.count("prefix_ratio") == 3
    second = rules.index("prefix_ratio", 51)
    assert second == 50 + 360 + 50
    assert rules[second + 1 : second + 700] == ["prefix_blocked"] * 699
    assert rules[second + 720 : second + 770] == [""] * 50


def test_verified_traffic_goes_on():
    assert set(refused(past(n, to=number(n), verified=n % 4 == 0) for n in range(500))) == {""}


def test_ratio_of_a_country_follows_its_days(settings):
    settings.VERIFY_RULES |= {"unverified_day": 20, "unverified_percent": 20}
    day = 86_400
    good = [past(n, to=number(n), verified=True) for n in range(200)]

    bad = [past(day + n, to=number(n, prefix=f"+38067{n:03d}")) for n in range(60)]

    assert refused([*good, *bad]) == [""] * 240 + ["country_day"] * 20
    assert refused(bad) == [""] * 20 + ["country_day"] * 40


# The floors of a quiet country; shares as by default.
RULES_BY_DEFAULT = {**settings.VERIFY_RULES, "unverified_day": 20, "unverified_hour": 10}


def day_of(verified_of_ten, starts, seconds):
    """Traffic of a whole country, in which so many of ten codes are entered."""
    prefixes = 997
    return [
        past(
            seconds + n * 86_400 // starts,
            to=number(n // prefixes, prefix=f"+38067{n % prefixes:03d}"),
            verified=n * 7 % 10 < verified_of_ten,
        )
        for n in range(starts)
    ]


@pytest.mark.parametrize(("verified_of_ten", "refusals"), [(9, False), (7, False), (6, False), (2, True)])
def test_people_who_do_not_all_enter_their_code_are_served(settings, verified_of_ten, refusals):
    settings.VERIFY_RULES = RULES_BY_DEFAULT
    starts = [past for day in range(3) for past in day_of(verified_of_ten, 600, day * 86_400)]

    assert any(refused(starts)) is refusals


def test_attack_on_many_prefixes_at_once_stops_within_a_sixth_of_a_good_day(settings):
    settings.VERIFY_RULES = RULES_BY_DEFAULT
    attack = [past(86_400 + n, to=number(9999, prefix=f"+38067{n:03d}")) for n in range(500)]

    found = refused([*day_of(7, 600, -9 * 3600), *attack])[600:]  # from midnight to midnight

    assert found.index("country_hour") == 420 // 6
    assert set(found[70:]) == {"country_hour"}


def test_network_with_too_many_countries(settings):
    settings.VERIFY_RULES["ip_countries"] = 1
    abroad = past(1, to="+48512345678", country="PL", ip="192.0.2.9")

    assert refused([past(ip="192.0.2.1"), abroad]) == ["", "ip_countries"]
    assert refused([past(ip="192.0.2.1", verified=True), abroad]) == ["", ""]


def test_what_staff_decided_holds(client_row):
    CountryRule.objects.create(country="PL", mode=Mode.BLOCK)
    CountryRule.objects.create(country="UA", mode=Mode.MONITOR, client=client_row)
    countries.rules.forget()
    Block.objects.create(kind="ip", value="192.0.2.0/24", reason="abuse")
    Block.objects.create(kind="ip", value="198.51.100.0/24", reason="over", lifted_at=datetime.now(UTC))
    poland = {"to": "+48512345678", "country": "PL"}

    found = refused([past(**poland), past(ip="192.0.2.1"), past(ip="198.51.100.1")])

    assert found == ["country", "blocked_ip", ""]


def test_monitor_notes_and_trusted_passes(settings, client_row):
    settings.VERIFY_LIMITS["number_hour"] = 1
    CountryRule.objects.create(country="UA", mode=Mode.MONITOR, client=client_row)
    countries.rules.forget()
    TrustedNumber.objects.create(msisdn="+380671234568", reason="probe")

    ours = list(replay([past(client=client_row.slug), past(1, client=client_row.slug)]))
    trusted = refused([past(n, to="+380671234568") for n in range(3)])

    assert [(one.refused, [note.rule for note in one.noted]) for one in ours] == [(None, []), (None, ["limit_number"])]
    assert trusted == [""] * 3


def test_cap_of_the_day_begins_anew_at_midnight():
    CountryRule.objects.create(country="UA", mode=Mode.FILTER, daily_cap=Decimal("0.08"), currency="EUR")
    countries.rules.forget()
    last = 15 * 3600 - 1

    found = refused(past(n, to=number(n)) for n in (0, 1, 2, last, last + 1, last + 2, last + 3))

    assert found == ["", "", "spend_cap", "spend_cap", "", "", "spend_cap"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("rule", "limits_now", "rules_now"),
    [
        ("limit_number", {"number_hour": 4, "prefix_hour": 40}, {}),
        ("limit_prefix", {"number_hour": 6, "prefix_hour": 9}, {"ip_countries": 2}),
        ("limit_ip", {"ip_hour": 20, "number_day": 8}, {"unverified_hour": 60}),
        ("ip_day", {"number_hour": 9}, {"unverified_ip": 14}),
        ("ip_countries", {"number_hour": 6}, {"ip_countries": 1}),
        ("country_hour", {"prefix_hour": 25}, {"unverified_hour": 20, "unverified_day": 60}),
        ("country_day", {"prefix_hour": 25}, {"unverified_day": 30}),
        ("prefix_blocked", {}, {}),
    ],
)
def test_verdicts_are_those_of_the_service(api, caller, settings, rule, limits_now, rules_now):
    """The same starts through the door, now, and through the replay."""
    settings.VERIFY_LIMITS |= limits_now
    settings.VERIFY_RULES |= rules_now
    told, starts = [], []
    abroad = [("+48512345670", "PL"), ("+447400123456", "GB")]
    for n in range(120):
        to, country = abroad[n % 2] if n % 7 == 6 else (number(n % 9, prefix=f"+3806712{n % 3 // 2}"), "UA")
        ip, verified = f"192.0.{n % 4 // 3}.1", n % 8 == 0
        starts.append(past(n, to=to, country=country, ip=ip, verified=verified, client=caller.slug))
        try:
            body = {"to": to, "purpose": "login", "client_ip": ip}
            reference = challenges.start(caller, body).body["reference"]
        except Refusal:
            told.append(Refused.objects.latest("pk").rule)
            continue
        told.append("")
        if verified:
            assert check(api, reference, code_of(reference)).json()["valid"] is True

    assert refused(starts) == told
    assert rule in told


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture
def simulate(tmp_path, capsys):
    def run(rows, columns=COLUMNS):
        file = tmp_path / "starts.csv"
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([columns, *rows])
        call_command("verify_simulate_fraud", str(file))
        return capsys.readouterr()

    return run


def pumped(count=40):
    return [
        ((BEGIN + timedelta(seconds=n)).isoformat(), number(n), "core", "login", "yes" if n > 35 else "no", "")
        for n in range(count)
    ]


def test_it_tells_what_is_refused_by_rule_and_country_and_the_money(simulate, settings):
    settings.VERIFY_LIMITS["prefix_hour"] = 30

    out = simulate(reversed(pumped())).out

    assert "40 starts from 2026-06-01 09:00 UTC to 2026-06-01 09:00 UTC" in out
    assert "refused 10 (25.0%), of which 4 were verified in truth" in out
    assert "saved   0.40 EUR\n" in out
    assert out.count("      10        4") == 3
    assert "25.0% of its starts" in out
    assert "limit_prefix" in out


def test_it_changes_nothing(simulate, settings):
    settings.VERIFY_LIMITS["prefix_hour"] = 30

    simulate(pumped(200))

    assert not any(model.objects.exists() for model in (Bucket, Block, Refused, StartCount, Challenge))


def test_numbers_are_masked(simulate, settings):
    settings.VERIFY_LIMITS["prefix_hour"] = 1

    told = simulate(pumped())

    assert "+38067123" not in told.out + told.err
    assert "+380**123" in told.out


def test_bad_rows_are_named_with_line_and_reason_and_the_rest_goes_on(simulate):
    good = ("2026-06-01T09:00:00Z", NUMBER, "core", "login", "true", "192.0.2.1", "UA")
    bad = [
        ("yesterday", *good[1:]),
        (good[0], "0671234567", *good[2:]),
        (good[0], "+380671", *good[2:]),
        (*good[:4], "perhaps", *good[5:]),
        (*good[:5], "300.0.0.1", "UA"),
        (*good[:5], "fe80::1%eth0", "UA"),
        (*good[:6], "PL"),
        (*good[:3], "Log In", *good[4:]),
        good[:3],
    ]

    told = simulate([good, *bad, good], columns=(*COLUMNS, "country"))

    assert told.err.splitlines() == [
        "line 3: at: a time like 2026-06-01T09:30:00Z is expected",
        "line 4: to: not_e164",
        "line 5: to: not_possible",
        "line 6: verified: true or false is expected",
        "line 7: ip: an IPv4 or IPv6 address is expected",
        "line 8: ip: an IPv4 or IPv6 address is expected",
        "line 9: country: the number is one of UA",
        "line 10: client and purpose: a slug each is expected",
        "line 11: verified: true or false is expected",
        "9 rows were left out",
    ]
    assert told.out.startswith("2 starts")


def test_export_of_the_help_can_be_replayed(api, tmp_path, capsys):
    """`\\copy` writes a boolean as t and f."""
    check(api, reference := start(api, client_ip="192.0.2.1"), code_of(reference))
    api.post(f"{URL}/{start(api, to=number(1))}/cancel")
    api.post(f"{URL}/{start(api, to=number(2))}/cancel")
    Challenge.objects.filter(to=number(2)).update(to="+380*********")
    start(api, to=number(3))  # pending
    file = tmp_path / "starts.csv"
    (statement,) = re.findall(r"COPY \(.*HEADER", HELP, re.DOTALL)

    with connection.cursor() as cursor, cursor.copy(statement) as copied:
        file.write_bytes(b"".join(copied))
    call_command("verify_simulate_fraud", str(file))

    told = capsys.readouterr()
    assert (told.out.splitlines()[0][:8], told.err) == ("2 starts", "")


def test_many_bad_rows_are_told_in_short(simulate):
    told = simulate([*pumped(1), *[("x",)] * 50])

    assert len(told.err.splitlines()) == 21
    assert told.err.endswith("50 rows were left out, the first 20 are above\n")


def test_long_file_tells_how_far_it_is(simulate, monkeypatch):
    monkeypatch.setattr("verification.management.commands.verify_simulate_fraud.STEP", 10)

    assert simulate(pumped(25)).err.splitlines() == ["10 of 25 starts", "20 of 25 starts"]


def test_memory_of_what_is_over_is_dropped_without_changing_a_verdict(monkeypatch, settings):
    settings.VERIFY_LIMITS["number_hour"] = 1
    starts = [past(n * 700, to=number(n % 3)) for n in range(60)]
    whole = refused(starts)

    monkeypatch.setattr("verification.replay.PRUNE", 2)

    assert refused(starts) == whole
    assert "limit_number" in whole


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("at,to\n", "lacks client, purpose, verified"),
        ("", "lacks at, to"),
        ("at,to,client,purpose,verified\n", "there is no start"),
        ("at,to,client,purpose,verified\nx,y,z,a,b\n", "there is no start"),
    ],
)
def test_file_without_starts_is_refused(tmp_path, text, error):
    file = tmp_path / "starts.csv"
    file.write_text(text)

    with pytest.raises(CommandError, match=error):
        call_command("verify_simulate_fraud", str(file))


def test_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80")

    for name in ("binary.csv", "missing.csv"):
        with pytest.raises(CommandError, match="cannot be read"):
            call_command("verify_simulate_fraud", str(tmp_path / name))
