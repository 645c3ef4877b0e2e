"""What staff see of limits and fraud, and what they do about it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry

from routing.models import ExchangeRate
from routing.snapshot import tables
from tests.factories import ClientFactory, ProviderFactory
from tests.verification.conftest import login
from tests.verification.phone import NUMBER
from tests.verification.traffic import attempt
from verification import limits
from verification.fraud_models import Block, CountryRule, Refused, TrustedNumber
from verification.guard import RULES
from verification.models import Bucket

pytestmark = pytest.mark.django_db
MASKED = "+380******567"
NAMES = ("countryrule", "block", "trustednumber", "refused", "bucket")
SECRETS = ("1234567", "671234567", "phone-of-olena")


def url(name, page="", pk=None):
    return f"/admin/verification/{name}/{f'{pk}/' if pk else ''}{page}"


def text(browser, address, **query):
    answer = browser.get(address, query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def rows(caller):
    """One of each, as the service writes them."""
    ProviderFactory(price="0.04")
    Block.objects.create(kind="device", value="core phone-of-olena", reason="farm")
    attempt(caller, NUMBER, device_id="phone-of-olena", client_ip="192.0.2.7")
    limits.take(limits.of_failure("login", NUMBER))
    block = Block.objects.create(kind="number", value=NUMBER, reason="chargeback")
    attempt(caller, NUMBER)
    CountryRule.objects.create(country="UA", mode="monitor", daily_cap=Decimal(100), currency="EUR")
    TrustedNumber.objects.create(msisdn=NUMBER, reason="probe")
    return block


@pytest.mark.parametrize("name", NAMES)
def test_list_opens_empty_and_with_rows_and_every_row_opens(boss, caller, name):
    text(boss, url(name))
    rows(caller)

    assert "UA" in text(boss, url("countryrule"))
    shown = text(boss, url(name))

    model = {"refused": Refused, "bucket": Bucket, "block": Block}.get(name)
    for row in model.objects.all() if model else ():
        shown += text(boss, url(name, "change/", row.pk))
    assert name == "countryrule" or MASKED in shown
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize("name", NAMES)
def test_pages_are_refused_without_permission(client, name):
    assert login(client).get(url(name)).status_code == 403


@pytest.mark.parametrize("name", ["refused", "bucket"])
def test_logs_are_neither_added_nor_changed_nor_deleted(boss, caller, name):
    rows(caller)
    pk = (Refused if name == "refused" else Bucket).objects.first().pk

    assert boss.get(url(name, "add/")).status_code == 403
    assert boss.post(url(name, "change/", pk), {}).status_code == 403
    assert boss.post(url(name, "delete/", pk), {"post": "yes"}).status_code == 403


def test_sidebar_shows_what_one_may_see(client):
    home = text(login(client, "view_block"), "/admin/")

    assert url("block") in home
    assert url("refused") not in home


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "typed", "stored"),
    [
        ("number", "+380 67 123-45-67", NUMBER),
        ("prefix", NUMBER, "+38067123"),
        ("prefix", "+38067123xxxx", "+38067123"),
        ("prefix", "+38067123****", "+38067123"),
        ("ip", "192.0.2.77", "192.0.2.0/24"),
        ("ip", "192.0.2.0/24", "192.0.2.0/24"),
        ("ip", "2001:db8:1:2:3::9", "2001:db8:1:2::/64"),
        ("device", "phone", "{client} phone"),
    ],
)
def test_block_is_added_as_starts_are_named_and_holds(boss, caller, client_row, kind, typed, stored):
    ProviderFactory(price="0.04")
    stored = stored.format(client=client_row.slug)
    fields = {"kind": kind, "value": typed, "reason": "abuse", "client": client_row.pk if kind == "device" else ""}

    answer = boss.post(url("block", "add/"), fields)

    assert answer.status_code == 302, answer.content.decode()
    block = Block.objects.get()
    assert (block.kind, block.value, block.by_rule, block.created_by.username) == (kind, stored, False, "boss")
    found = attempt(caller, NUMBER, device_id="phone", client_ip="2001:db8:1:2::1" if ":" in typed else "192.0.2.1")
    assert found == "destination_blocked"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"kind": "number", "value": "0671234567"}, "Not a phone number"),
        ({"kind": "prefix", "value": "+38067"}, "Not a phone number"),
        ({"kind": "ip", "value": "192.0.2.300"}, "An IPv4 or IPv6 address is expected"),
        ({"kind": "ip", "value": "10.0.0.0/16"}, "Networks are blocked as a /24"),
        ({"kind": "device", "value": "phone"}, "A device belongs to a client"),
        ({"kind": "number", "value": NUMBER, "reason": ""}, "This field is required"),
        ({"kind": "number", "value": NUMBER, "expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "That is over"),
    ],
)
def test_wrong_block_is_not_added(boss, fields, error):
    answer = boss.post(url("block", "add/"), {"reason": "abuse", **fields})

    assert answer.status_code == 200
    assert error in answer.content.decode()
    assert not Block.objects.exists()


def test_block_is_lifted_after_a_question(boss, caller):
    block = rows(caller)

    assert "Lift this block?" in text(boss, url("block", "lift/", block.pk))
    block.refresh_from_db()
    assert block.lifted_at is None

    assert boss.post(url("block", "lift/", block.pk)).status_code == 302

    block.refresh_from_db()
    assert block.lifted_by.username == "boss"
    assert attempt(caller, NUMBER) == ""
    assert LogEntry.objects.filter(change_message="Lifted.", object_repr=str(block)).exists()
    assert "/lift/" not in text(boss, url("block", "change/", block.pk))


def test_lifting_needs_its_permission(client, caller):
    block = rows(caller)

    assert login(client, "view_block", "add_block").post(url("block", "lift/", block.pk)).status_code == 403
    block.refresh_from_db()
    assert block.lifted_at is None


def test_block_is_never_changed_or_deleted(boss, caller):
    block = rows(caller)

    assert boss.post(url("block", "change/", block.pk), {"reason": "other"}).status_code == 403
    assert boss.post(url("block", "delete/", block.pk), {"post": "yes"}).status_code == 403


def test_blocks_are_found_by_number_and_state(boss, caller):
    now = datetime.now(UTC)
    rows(caller)
    Block.objects.create(kind="prefix", value="+38067123", reason="pumped", expires_at=now - timedelta(1))

    by_number = text(boss, url("block"), q="+380671234567")
    holding = text(boss, url("block"), state="holds")
    over = text(boss, url("block"), state="over")

    assert all(word in by_number for word in ("chargeback", "pumped"))
    assert "farm" not in by_number
    assert "pumped" not in holding
    assert "chargeback" in holding
    assert "pumped" in over
    assert "chargeback" not in over
    assert "chargeback" not in text(boss, url("block"), q="+38067")


# --- the others ----------------------------------------------------------------------------------


def test_trusted_number_is_added_and_shown_masked(boss):
    answer = boss.post(url("trustednumber", "add/"), {"msisdn": "+380 67 123 45 67", "reason": "probe"})

    assert answer.status_code == 302, answer.content.decode()
    row = TrustedNumber.objects.get()
    assert (row.msisdn, row.created_by.username) == (NUMBER, "boss")
    shown = text(boss, url("trustednumber", "change/", row.pk)) + text(boss, url("trustednumber"), q=NUMBER)
    assert MASKED in shown
    boss.post(url("trustednumber", "change/", row.pk), {"reason": "other"})
    row.refresh_from_db()
    assert (row.msisdn, row.reason) == (NUMBER, "other")


def test_number_is_trusted_once(boss):
    for _ in range(2):
        answer = boss.post(url("trustednumber", "add/"), {"msisdn": NUMBER, "reason": "probe"})

    assert answer.status_code == 200
    assert TrustedNumber.objects.count() == 1


def test_rule_is_added_and_a_cap_needs_a_currency_with_a_rate(boss, client_row):
    rule = {"country": "UA", "mode": "filter", "daily_cap": "100", "client": client_row.pk}

    without = boss.post(url("countryrule", "add/"), rule)
    unknown = boss.post(url("countryrule", "add/"), {**rule, "currency": "USD"})
    ExchangeRate.objects.create(currency="USD", rate=Decimal("1.1"), valid_from=datetime.now(UTC) - timedelta(1))
    tables.forget()
    right = boss.post(url("countryrule", "add/"), {**rule, "currency": "USD"})
    twice = boss.post(url("countryrule", "add/"), {**rule, "currency": "USD"})

    assert "A cap is not below zero, and has a currency." in without.content.decode()
    assert "There is no exchange rate for it" in unknown.content.decode()
    assert [right.status_code, twice.status_code] == [302, 200]
    assert CountryRule.objects.get().daily_cap == 100


@pytest.mark.parametrize("country", ["UK", "ZZ", "ua"])
def test_rule_of_a_country_that_no_number_has_is_refused(boss, country):
    answer = boss.post(url("countryrule", "add/"), {"country": country, "mode": "block"})

    assert list(answer.context["adminform"].form.errors) == ["country"]
    assert not CountryRule.objects.exists()


def test_two_rules_for_all_clients_and_one_country_are_refused(boss):
    rule = {"country": "UA", "mode": "filter"}

    answers = [boss.post(url("countryrule", "add/"), rule).status_code for _ in range(2)]

    assert answers == [302, 200]


def test_refusals_are_filtered_by_rule_country_client_and_monitoring(boss, caller, client_row):
    rows(caller)
    Refused.objects.create(
        client=ClientFactory(),
        purpose="signup",
        to="+48512345678",
        country="PL",
        rule="country_day",
        detail="x",
        monitored=True,
        created_at=datetime.now(UTC) - timedelta(days=20),
    )

    def shown(**query):
        found = text(boss, url("refused"), **query)
        return MASKED in found, "+485*****678" in found

    assert shown() == (True, False)
    assert shown(since="all") == (True, True)
    assert shown(since="all", rule="country_day") == (False, True)
    assert shown(since="all", country="PL") == (False, True)
    assert shown(since="all", client__id__exact=client_row.pk) == (True, False)
    assert shown(since="all", monitored__exact=1) == (False, True)
    assert shown(q=NUMBER) == (True, False)


def test_counter_is_reset_after_a_question(boss, caller, settings):
    settings.VERIFY_LIMITS = {**settings.VERIFY_LIMITS, "number_hour": 1}
    ProviderFactory(price="0.04")
    attempt(caller, NUMBER)
    assert attempt(caller, NUMBER) == "limit_reached"
    bucket = Bucket.objects.get(kind="number", span=3600)
    assert "1 of 1" in text(boss, url("bucket"), use="up", kind="number", q=NUMBER)

    assert "Reset number" in text(boss, url("bucket", "reset/", bucket.pk))
    assert boss.post(url("bucket", "reset/", bucket.pk)).status_code == 302

    assert attempt(caller, NUMBER) == ""


def test_reset_needs_its_permission(client, caller):
    rows(caller)
    bucket = Bucket.objects.first()

    assert login(client, "view_bucket").post(url("bucket", "reset/", bucket.pk)).status_code == 403
    assert Bucket.objects.filter(pk=bucket.pk).exists()


def test_every_reason_fits_its_column():
    assert len(RULES) == len(set(RULES))
    assert max(map(len, RULES)) <= Refused._meta.get_field("rule").max_length
