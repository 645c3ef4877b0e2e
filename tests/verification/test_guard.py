"""Who is refused, who is let through, and what is on record about it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from messaging.models import Event, Message
from routing.models import ExchangeRate, Price
from tests.conftest import caller_for
from tests.factories import ClientFactory, ProviderFactory
from tests.verification.phone import NUMBER, URL, check, code_of, only, start, wrong_for
from tests.verification.traffic import LAX, WIDE, at_once, attempt, happened, number, same_hour
from verification import countries, evidence, guard, limits, maintenance
from verification.fraud_models import Block, CountryRule, Mode, Refused, StartCount, TrustedNumber
from verification.models import Bucket, Challenge, Profile

pytestmark = pytest.mark.django_db(transaction=True)
PREFIX = NUMBER[:-4]


@pytest.fixture(autouse=True)
def provider(transactional_db, settings):
    settings.VERIFY_LIMITS = dict(WIDE)
    settings.VERIFY_RULES = dict(LAX)
    same_hour()
    return ProviderFactory(price="0.04")


def rule(country="UA", mode=Mode.FILTER, **fields):
    row = CountryRule.objects.create(country=country, mode=mode, **fields)
    countries.rules.forget()
    return row


def refusals(**where):
    return list(Refused.objects.filter(**where).order_by("pk").values_list("rule", "monitored"))


def post(api, to=NUMBER, **fields):
    answer = api.post(URL, {"to": to, "purpose": "login", **fields}, format="json")
    return answer.status_code, answer.json().get("code"), answer.json().get("detail")


# --- what is refused is on record --------------------------------------------------------------------


def test_refusal_is_stored_with_its_reason_though_the_start_was_rolled_back(api, client_row):
    rule(mode=Mode.BLOCK)

    assert post(api) == (403, "destination_blocked", "Nothing is sent to UA.")

    row = Refused.objects.get()
    assert (row.client_id, row.purpose, row.to, row.country) == (client_row.pk, "login", NUMBER, "UA")
    assert (row.rule, row.detail, row.monitored) == ("country", "Nothing is sent to UA.", False)
    assert not Challenge.objects.exists()
    assert not Message.objects.exists()
    assert not StartCount.objects.exists()


def test_number_is_in_no_text_of_a_refusal(api, lines):
    Block.objects.create(kind="number", value=NUMBER, reason="chargeback")

    post(api)

    row = Refused.objects.get()
    assert NUMBER[-7:] not in f"{row} {row.detail} {lines.text}"
    assert not Event.objects.exists()


@pytest.mark.parametrize("countries_of_profile", [["PL"], ["UA"]])
def test_countries_of_the_profile(api, client_row, countries_of_profile):
    Profile.objects.create(client=client_row, purpose="login", countries=countries_of_profile)

    status, code, _ = post(api)

    assert (status, code) == ((403, "destination_blocked") if countries_of_profile == ["PL"] else (201, None))


def test_answer_is_the_same_whether_or_not_a_number_is_known(api):
    start(api)
    rule(mode=Mode.BLOCK)

    assert post(api) == post(api, to="+380671234599")


def test_refused_repeat_under_a_key_is_on_record_each_time(api):
    rule(mode=Mode.BLOCK)
    body, key = {"to": NUMBER, "purpose": "login"}, {"HTTP_IDEMPOTENCY_KEY": "one"}

    answers = [api.post(URL, body, format="json", **key).status_code for _ in range(2)]

    assert answers == [403, 403]
    assert Refused.objects.count() == 2


def test_resend_that_is_refused_is_on_record(api, client_row):
    Profile.objects.create(client=client_row, purpose="login", max_sends=2)
    reference = start(api)
    for moment in (None, only().created_at, only().created_at):
        if moment:
            Challenge.objects.update(resend_at=moment)
        api.post(f"{URL}/{reference}/resend")

    assert refusals(reference=reference) == [("resend_too_early", False), ("no_sends_left", False)]


# --- modes ---------------------------------------------------------------------------------------


def unlucky_country():
    happened("country", 20_000, 0)


def test_filter_is_the_default_and_refuses(api):
    unlucky_country()

    assert post(api) == (403, "destination_blocked", "Too few codes to this country were entered today.")
    assert refusals() == [("country_day", False)]


def test_other_countries_go_on(api):
    unlucky_country()

    assert post(api, to="+48512345678")[0] == 201


def test_mode_monitor_notes_everything_and_lets_through(api, settings):
    settings.VERIFY_LIMITS["number_hour"] = 1
    rule(mode=Mode.MONITOR)
    start(api)
    unlucky_country()

    assert post(api)[0] == 201
    assert refusals() == [("country_day", True), ("limit_number", True)]
    assert Message.objects.count() == 2


def test_profile_that_monitors_does_so_too(api, client_row):
    Profile.objects.create(client=client_row, purpose="login", monitor_only=True)
    unlucky_country()

    assert post(api)[0] == 201
    assert post(api, purpose="signup")[0] == 403
    assert refusals() == [("country_day", True), ("country_day", False)]


def test_monitoring_spares_no_decision_of_staff_and_no_guessing(api, settings):
    settings.VERIFY_LIMITS["failed_hour"] = 1
    rule(mode=Mode.MONITOR)
    reference = start(api)
    check(api, reference, wrong_for(reference))
    Block.objects.create(kind="prefix", value="+48512345"[:-1], reason="staff")

    assert post(api)[:2] == (429, "limit_reached")
    assert post(api, to="+485123451234"[:12])[:2] == (403, "destination_blocked")


def test_mode_allow_has_limits_and_no_fraud_rules(api, settings):
    settings.VERIFY_LIMITS |= {"number_hour": 2, "prefix_hour": 1}
    rule(mode=Mode.ALLOW)
    unlucky_country()
    happened("prefix", 50, 0, value=PREFIX)

    assert [post(api)[0] for _ in range(3)] == [201, 201, 429]
    assert refusals() == [("limit_number", False)]


def test_mode_of_a_client_wins_over_that_of_all(api, client_row):
    rule(mode=Mode.BLOCK)
    assert post(api)[0] == 403

    rule(mode=Mode.FILTER, client=client_row)

    assert post(api)[0] == 201
    assert attempt(caller_for(ClientFactory()), NUMBER) == "destination_blocked"


def test_rule_is_known_to_running_processes(api, settings):
    settings.SNAPSHOT_MAX_AGE = 0.0001
    assert post(api)[0] == 201

    CountryRule.objects.create(country="UA", mode=Mode.BLOCK)

    assert post(api)[0] == 403


# --- counts --------------------------------------------------------------------------------------


def counts():
    """(kind, value, span): (starts, verified), the shards together."""
    found: dict[tuple[str, str, int], tuple[int, int]] = {}
    for row in StartCount.objects.all():
        starts, verified = found.get((row.kind, row.value, row.span), (0, 0))
        found[row.kind, row.value, row.span] = (starts + row.starts, verified + row.verified)
    return found


@pytest.mark.parametrize("ip", ["192.0.2.77", "2001:db8:1:2:3:4:5:6", "2001:db8::1", "::1", "fe80:0:0:1::"])
def test_start_and_success_count_in_the_windows_of_the_start(api, ip):
    reference, other = start(api, client_ip=ip), start(api, to="+380671234568", client_ip=ip)
    Challenge.objects.update(created_at=F("created_at") - timedelta(hours=30))
    StartCount.objects.filter(span=3600).update(at=F("at") - timedelta(hours=30))
    StartCount.objects.filter(span=86400).update(at=F("at") - timedelta(hours=30))
    for row in StartCount.objects.filter(span=86400):
        row.at = row.at.replace(hour=0)
        row.save()
    Challenge.objects.update(created_at=StartCount.objects.filter(span=3600).first().at)

    check(api, other, wrong_for(other))
    check(api, reference, code_of(reference))
    check(api, reference, code_of(reference))

    assert counts() == {
        ("country", "", 3600): (2, 1),
        ("country", "", 86400): (2, 1),
        ("ip", limits.network(ip), 86400): (2, 1),
        ("prefix", PREFIX, 3600): (2, 1),
    }


def test_start_without_an_address_counts_for_none(api):
    start(api)

    assert {kind for kind, _, _ in counts()} == {"country", "prefix"}


def test_parallel_starts_and_checks_are_all_counted(caller, api):
    references = [start(api, to=number(n)) for n in range(40)]
    codes = {reference: code_of(reference) for reference in references}

    def work(n):
        if n % 2:
            return check(api, references[n // 2], codes[references[n // 2]]).json()["valid"]
        return attempt(caller, number(100 + n))

    found = at_once(work, range(80))

    assert found == {True: 40, "": 40}
    assert set(counts().values()) == {(80, 40)}


def test_one_phone_started_and_checked_at_once_never_deadlocks(api, caller, settings):
    settings.VERIFY_LIMITS |= dict.fromkeys(("failed_hour", "failed_day", "failed_row"), 1000)

    def work(n):
        reference = Challenge.objects.filter(to=NUMBER).order_by("-created_at").values_list("reference", flat=True)
        if n % 2 and reference:
            return check(api, reference[0], "000000").status_code
        return attempt(caller, NUMBER, client_ip="192.0.2.1")

    assert set(at_once(work, range(80))) == {200, ""}


def test_hours_and_days_of_others_are_not_ours():
    happened("country", 1, 1, ago=timedelta(days=1))
    happened("country", 3, 3, ago=timedelta(days=13))
    happened("country", 9, 9, ago=timedelta(days=15))
    happened("country", 5, 2)
    happened("country", 4, 1, span=3600)
    happened("country", 7, 7, span=3600, ago=timedelta(hours=1))
    happened("country", 8, 8, country="PL")
    happened("ip", 2, 1, value="192.0.2.0/24")
    happened("ip", 6, 0, value="192.0.2.0/24", country="PL")
    happened("ip", 6, 0, value="198.51.100.0/24", country="DE")
    happened("prefix", 10, 1, value=PREFIX)
    happened("prefix", 20, 2, value=PREFIX, ago=timedelta(hours=1))

    facts = evidence.Database().facts(about(ip="192.0.2.9"))

    assert (facts.day, facts.best, facts.hour) == ((5, 2), 3, (4, 1))
    assert (facts.ip_day, facts.ip_countries) == ((8, 1), 1)
    assert facts.prefix == [(10, 1), (20, 2)]


def about(to=NUMBER, country="UA", ip="", device=""):
    client = caller_for(ClientFactory())
    return guard.Start(client.id, client.slug, "login", to, country, ip, device)


def test_network_that_asks_for_a_fourth_country_is_refused(api, settings):
    settings.VERIFY_RULES["ip_countries"] = 3
    numbers = {"PL": "+48512345678", "GB": "+447400123456", "DE": "+4915123456789", "UA": NUMBER}

    found = [post(api, to=to, client_ip="192.0.2.1")[0] for to in numbers.values()]

    assert found == [201, 201, 201, 403]
    assert post(api, client_ip="198.51.100.1")[0] == 201


def test_country_with_a_verified_code_is_no_sign_of_fraud(api, settings):
    settings.VERIFY_RULES["ip_countries"] = 1
    reference = start(api, to="+48512345678", client_ip="192.0.2.1")
    check(api, reference, code_of(reference))

    assert post(api, client_ip="192.0.2.1")[0] == 201


# --- blocks --------------------------------------------------------------------------------------


def test_prefix_that_nobody_verifies_is_blocked_for_an_hour(caller):
    happened("prefix", 49, 4, value=PREFIX)
    assert attempt(caller, number(1)) == ""

    assert attempt(caller, number(2)) == "destination_blocked"

    block = Block.objects.get()
    assert (block.kind, block.value, block.by_rule, block.level) == ("prefix", PREFIX, True, 0)
    assert (block.expires_at - block.created_at) == timedelta(hours=1)
    assert attempt(caller, number(3)) == "destination_blocked"
    assert attempt(caller, "+380671240001") == ""
    assert refusals() == [("prefix_ratio", False), ("prefix_blocked", False)]


def expire_block(by=timedelta(hours=1)):
    """As if so much time had passed since."""
    Block.objects.update(created_at=F("created_at") - by, expires_at=F("expires_at") - by)
    StartCount.objects.update(at=F("at") - by - timedelta(hours=1))


def test_block_doubles_when_it_comes_again(caller):
    hours = []
    for _ in range(3):
        happened("prefix", 50, 0, value=PREFIX)
        assert attempt(caller, number(1)) == "destination_blocked"
        block = Block.objects.latest("created_at")
        hours.append((block.expires_at - block.created_at) / timedelta(hours=1))
        expire_block(by=block.expires_at - block.created_at)
        assert attempt(caller, number(2)) == ""

    assert hours == [1, 2, 4]


def test_block_begins_anew_after_a_quiet_week(caller):
    happened("prefix", 50, 0, value=PREFIX)
    attempt(caller, number(1))
    expire_block(by=timedelta(days=7, hours=1, seconds=1))
    happened("prefix", 50, 0, value=PREFIX)

    attempt(caller, number(1))

    assert [block.level for block in Block.objects.order_by("created_at")] == [0, 0]


def test_parallel_starts_block_once(caller):
    happened("prefix", 50, 0, value=PREFIX)

    found = at_once(lambda n: attempt(caller, number(n)), range(80))

    assert found == {"destination_blocked": 80}
    assert Block.objects.count() == 1


def test_lifted_block_lets_through_and_its_past_is_forgiven(caller):
    happened("prefix", 50, 0, value=PREFIX)
    attempt(caller, number(1))
    user = User.objects.create_user("staff")

    lifted = guard.lift(Block.objects.values_list("pk", flat=True), user.pk)

    assert lifted == 1
    assert attempt(caller, number(1)) == ""
    block = Block.objects.get()
    assert block.lifted_by == user
    assert abs(block.lifted_at - datetime.now(UTC)) < timedelta(seconds=10)
    assert guard.lift([block.pk], user.pk) == 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [("number", NUMBER), ("prefix", PREFIX), ("ip", "192.0.2.0/24"), ("device", "{client} phone")],
)
def test_staff_block_what_they_name(api, client_row, kind, value):
    fields = {"client_ip": "192.0.2.7", "device_id": "phone"}
    other = {"to": "+380931234567", "client_ip": "198.51.100.1", "device_id": "other"}
    block = Block.objects.create(kind=kind, value=value.format(client=client_row.slug), reason="abuse")

    assert post(api, **fields) == (403, "destination_blocked", f"The {kind} is blocked.")
    assert post(api, **other)[0] == 201

    guard.lift([block.pk], User.objects.create_user("staff").pk)

    assert post(api, **fields)[0] == 201


@pytest.mark.parametrize(
    ("kind", "value"),
    [("number", NUMBER), ("prefix", PREFIX), ("ip", "192.0.2.0/24"), ("device", "{client} phone")],
)
def test_what_staff_block_is_not_sent_to_again(api, client_row, kind, value):
    reference = start(api, client_ip="192.0.2.7", device_id="phone")
    Challenge.objects.update(resend_at=F("created_at"))
    block = Block.objects.create(kind=kind, value=value.format(client=client_row.slug), reason="abuse")

    refused = api.post(f"{URL}/{reference}/resend")
    guard.lift([block.pk], User.objects.create_user("staff").pk)
    again = api.post(f"{URL}/{reference}/resend")

    assert (refused.status_code, refused.json()["code"]) == (403, "destination_blocked")
    assert refusals(reference=reference) == [(f"blocked_{kind}", False)]
    assert again.status_code == 202
    assert Message.objects.count() == 2


def test_country_that_is_closed_after_a_start_has_no_resend(api):
    reference = start(api)
    Challenge.objects.update(resend_at=F("created_at"))
    rule(mode=Mode.BLOCK)

    assert api.post(f"{URL}/{reference}/resend").status_code == 403
    assert refusals(reference=reference) == [("country", False)]
    assert Message.objects.count() == 1


def test_block_ends_with_its_time_and_belongs_to_its_client(api):
    past, future = datetime.now(UTC) - timedelta(seconds=1), datetime.now(UTC) + timedelta(hours=1)
    Block.objects.create(kind="number", value=NUMBER, reason="over", expires_at=past)
    Block.objects.create(kind="number", value=NUMBER, reason="other", expires_at=future, client=ClientFactory())

    assert post(api)[0] == 201


# --- trusted numbers -----------------------------------------------------------------------------


def test_trusted_number_passes_limits_and_rules_and_the_next_one_does_not(api, settings):
    settings.VERIFY_LIMITS |= {"number_hour": 1, "prefix_hour": 1}
    unlucky_country()
    happened("prefix", 50, 0, value=PREFIX)
    TrustedNumber.objects.create(msisdn=NUMBER, reason="monitoring probe")

    assert [post(api)[0] for _ in range(4)] == [201] * 4
    assert post(api, to=number(1))[0] == 403
    assert not Refused.objects.filter(to=NUMBER).exists()
    assert not Bucket.objects.filter(value=NUMBER).exists()


def test_wrong_guesses_at_a_trusted_number_count(api, settings):
    settings.VERIFY_LIMITS["failed_hour"] = 2
    TrustedNumber.objects.create(msisdn=NUMBER, reason="probe")
    reference = start(api)
    for _ in range(2):
        check(api, reference, wrong_for(reference))

    assert check(api, reference, wrong_for(reference) if only().seed else "0").json()["status"] == "locked"
    assert post(api)[:2] == (429, "limit_reached")


@pytest.mark.parametrize("held", [{"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, {"client": "other"}])
def test_trust_ends_and_belongs_to_its_client(api, held):
    unlucky_country()
    held = {**held, **({"client": ClientFactory()} if "client" in held else {})}
    TrustedNumber.objects.create(msisdn=NUMBER, reason="probe", **held)

    assert post(api)[0] == 403


# --- money ---------------------------------------------------------------------------------------


def spent():
    return Bucket.objects.get(kind="spend").n


def test_cap_of_the_day_is_exact_under_threads(caller):
    rule(daily_cap=Decimal("0.99"), currency="EUR")

    found = at_once(lambda n: attempt(caller, number(n)), range(80))

    assert found == {"": 24, "limit_reached": 56}
    assert spent() == Decimal("0.96")
    assert refusals() == [("spend_cap", False)] * 56


@pytest.mark.parametrize("starts", [0, 1])
def test_cap_tells_when_the_day_ends(api, starts):
    rule(daily_cap=Decimal("0.04") if starts else Decimal("0.01"), currency="EUR")
    before = datetime.now(UTC)
    for _ in range(starts):
        start(api)

    answer = api.post(URL, {"to": NUMBER, "purpose": "login"}, format="json")

    midnight = (before + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert answer.json()["detail"] == "The cap of the day for UA is used up."
    assert abs(int(answer["Retry-After"]) - (midnight - before).total_seconds()) <= 5


def test_resend_counts_against_the_cap_and_is_refused_by_it(api):
    rule(daily_cap=Decimal("0.05"), currency="EUR")
    reference = start(api)
    Challenge.objects.update(resend_at=only().created_at)

    answer = api.post(f"{URL}/{reference}/resend")

    assert (answer.status_code, answer.json()["code"]) == (429, "limit_reached")
    assert only().sends == 1
    assert spent() == Decimal("0.04")
    assert refusals(reference=reference) == [("spend_cap", False)]


def test_what_costs_nothing_is_under_every_cap(api):
    Price.objects.update(price=0)
    rule(daily_cap=Decimal("0.01"), currency="EUR")

    assert post(api)[0] == 201


def test_each_client_and_country_has_its_own_cap(caller):
    rule(daily_cap=Decimal("0.05"), currency="EUR")
    rule(country="PL", daily_cap=Decimal("0.05"), currency="EUR")
    other = caller_for(ClientFactory())

    found = [attempt(who, to) for who in (caller, other) for to in (NUMBER, "+48512345678", number(1))]

    assert found == ["", "", "limit_reached"] * 2


def test_cap_of_a_client_without_one_is_that_of_all_and_else_of_the_settings(caller, client_row, settings):
    settings.VERIFY_DAILY_CAP = 0.05
    rule(client=client_row)
    assert countries.cap(caller.id, "UA", datetime.now(UTC)) == Decimal("0.05")

    rule(daily_cap=Decimal("7"), currency="EUR")

    assert countries.cap(caller.id, "UA", datetime.now(UTC)) == 7


def test_cap_in_another_currency_counts_in_ours(caller):
    ExchangeRate.objects.create(currency="USD", rate=Decimal(2), valid_from=datetime.now(UTC) - timedelta(days=1))
    rule(daily_cap=Decimal("0.17"), currency="USD")

    assert [attempt(caller, number(n)) for n in range(3)] == ["", "", "limit_reached"]
    assert Bucket.objects.get(kind="spend").most == Decimal("0.085")


def test_cap_whose_currency_nobody_can_convert_lets_nothing_through(caller):
    rule(daily_cap=Decimal(100), currency="JPY")

    assert attempt(caller, NUMBER) == "limit_reached"


def test_trusted_number_goes_on_when_the_cap_is_used_up(caller):
    rule(daily_cap=Decimal("0.01"), currency="EUR")
    TrustedNumber.objects.create(msisdn=NUMBER, reason="probe")

    assert attempt(caller, NUMBER) == ""
    assert attempt(caller, number(1)) == "limit_reached"


def test_used_up_cap_is_only_noted_where_the_country_is_monitored(caller):
    rule(mode=Mode.MONITOR, daily_cap=Decimal("0.05"), currency="EUR")

    assert [attempt(caller, number(n)) for n in range(3)] == [""] * 3
    assert refusals() == [("spend_cap", True)] * 2


def test_alarm_rings_once_at_four_fifths_and_not_for_what_was_rolled_back(caller, client_row, lines):
    rule(daily_cap=Decimal("0.20"), currency="EUR")
    text = "80 percent of a daily spend cap are used up"
    for n in range(3):
        attempt(caller, number(n))
    with transaction.atomic():
        attempt(caller, number(3))
        transaction.set_rollback(True)
    assert lines.of(text) == []

    for n in range(3, 6):
        attempt(caller, number(n))

    assert [(line["client"], line["country"]) for line in lines.of(text)] == [(client_row.slug, "UA")]


def test_without_a_cap_nothing_is_counted(caller):
    attempt(caller, NUMBER)

    assert not Bucket.objects.filter(kind="spend").exists()


# --- test numbers, purge -------------------------------------------------------------------------


def test_test_number_skips_limits_and_rules_and_costs_nothing(api, settings):
    settings.VERIFY_TEST_NUMBERS = {NUMBER: "123456"}
    settings.VERIFY_LIMITS["number_hour"] = 1
    rule(daily_cap=Decimal("0.01"), currency="EUR")
    unlucky_country()

    references = [start(api) for _ in range(3)]

    assert not Message.objects.exists()
    assert check(api, references[-1], "123456").json()["valid"] is True


def test_what_is_old_is_purged(api):
    happened("country", 1, 1, ago=timedelta(days=17))
    happened("country", 1, 1, ago=timedelta(days=10))
    happened("country", 1, 1, span=3600, ago=timedelta(days=4))
    happened("ip", 1, 1, value="192.0.2.0/24", ago=timedelta(days=4))
    happened("prefix", 1, 1, value=PREFIX, ago=timedelta(days=4))
    rule(mode=Mode.BLOCK)
    post(api)
    post(api)
    Refused.objects.filter(pk=Refused.objects.earliest("pk").pk).update(
        created_at=datetime.now(UTC) - timedelta(days=31)
    )
    for days in (89, 91):
        Block.objects.create(
            kind="number", value=NUMBER, reason="x", expires_at=datetime.now(UTC) - timedelta(days=days)
        )
    Block.objects.create(kind="number", value=NUMBER, reason="for good")

    maintenance.purge()

    assert list(StartCount.objects.values_list("kind", "span")) == [("country", 86400)]
    assert Refused.objects.count() == 1
    assert Block.objects.count() == 2
