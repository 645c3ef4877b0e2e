"""What staff see of verification, what they may do, and that no page ever has a code."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from messaging.models import Event, Message, Receipt, Template
from messaging.states import AttemptStatus
from routing.models import Quality
from routing.numbers import NumberType
from tests.factories import AttemptFactory, ClientFactory, MessageFactory, ProviderFactory
from tests.verification import traffic
from tests.verification.conftest import login
from tests.verification.phone import NUMBER, PAYMENT, challenge_of, check, code_of, start, wrong_for
from verification import conversions, texts
from verification.fraud_models import Block, Refused
from verification.models import Challenge, Hour, Profile

pytestmark = pytest.mark.django_db(transaction=True)
MASKED = "+380******567"
PROFILE = {
    "purpose": "login",
    "name": "",
    "enabled": "on",
    "code_length": "6",
    "ttl_seconds": "300",
    "max_checks": "5",
    "max_sends": "5",
    "cooldowns": "30,60",
    "receipt_wait_seconds": "20",
    "number_types": ["mobile", "unknown"],
    "countries": "",
}


@pytest.fixture(autouse=True)
def provider(db):
    return ProviderFactory(slug="carrier-a", price="0.04")


def page(browser, url, **query):
    answer = browser.get(f"/admin/{url}", query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def detail(reference):
    return f"verification/challenge/{Challenge.objects.get(reference=reference).pk}/change/"


def attempt(reference, provider, seq=1, **fields):
    message = Message.objects.get(code__challenge__reference=reference, code__seq=seq)
    return AttemptFactory(message=message, provider=provider, seq=1, **fields)


# --- who may see what -----------------------------------------------------------------------------

PAGES = ("verification/challenge/", "verification/challenge/figures/", "verification/profile/")


@pytest.mark.parametrize("url", PAGES)
def test_page_opens_empty_and_is_refused_without_permission(client, url):
    page(login(client, "view_challenge", "view_profile"), url)

    User.objects.get().user_permissions.clear()

    assert client.get(f"/admin/{url}").status_code == 403


def test_challenge_is_refused_without_permission(client, api):
    reference = start(api)

    assert login(client, "view_message").get(f"/admin/{detail(reference)}").status_code == 403


def test_challenges_are_neither_added_nor_changed_nor_deleted(boss, api):
    url = f"/admin/{detail(start(api))}"

    assert boss.get("/admin/verification/challenge/add/").status_code == 403
    assert boss.post(url.replace("change", "delete"), {"post": "yes"}).status_code == 403
    boss.post(url, {"status": "verified"})
    assert Challenge.objects.get().status == "pending"


@pytest.mark.parametrize("full", [True, False])
def test_number_and_address_are_masked_without_the_permission(client, api, full):
    reference = start(api, client_ip="203.0.113.77", device_id="device-1")
    browser = login(client, "view_challenge", *(["view_full_number"] if full else []))

    for url in ("verification/challenge/", detail(reference)):
        found = page(browser, url)
        assert (NUMBER in found, MASKED in found) == (full, not full)
    assert ("203.0.113.77" in found, "203.0.113.0/24" in found, "device-1" in found) == (full, not full, full)


def test_payee_is_shown_to_those_who_may_see_texts(client, api):
    reference = start(api, purpose="payment", context=PAYMENT)
    browser = login(client, "view_challenge")

    assert PAYMENT["payee"] not in page(browser, detail(reference))
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_text"))
    assert PAYMENT["payee"] in page(browser, detail(reference))


def test_no_page_has_a_code_a_seed_or_a_token(boss, api, provider):
    secrets = []
    for number in range(3):
        reference = start(api, to=f"+38067123450{number}")
        attempt(reference, provider, status=AttemptStatus.ACCEPTED)
        secrets += [code_of(reference), bytes(challenge_of(reference).seed).hex()]
        if number:
            token = check(api, reference, code_of(reference)).json()["result_token"]
            secrets += [token, token.partition(".")[2], bytes(challenge_of(reference).token_salt).hex()]

    urls = list(PAGES) + [detail(reference) for reference in Challenge.objects.values_list("reference", flat=True)]
    urls += [f"messaging/message/{pk}/change/" for pk in Message.objects.values_list("pk", flat=True)]
    urls += ["messaging/message/", "messaging/event/", "messaging/attempt/"]
    for url in urls:
        found = page(boss, url)
        # Digits of ids are hexadecimal: a code stands for itself, with no letter or digit beside it.
        assert not [one for one in secrets if re.search(rf"(?<![0-9A-Za-z]){re.escape(one)}(?![0-9A-Za-z])", found)], (
            url
        )


def test_secrets_are_not_even_read(boss, api):
    url = detail(start(api))

    with CaptureQueriesContext(connection) as queries:
        page(boss, url)
        page(boss, "verification/challenge/")

    assert not [query for query in queries if '"seed"' in query["sql"] or '"token_salt"' in query["sql"]]


# --- challenges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["{reference}", " {id} ", NUMBER, "+380 67 123-45-67"])
def test_challenge_is_found_by_reference_id_and_number(boss, api, term):
    wanted, other = start(api), start(api, to="+380671230000")
    wanted_id = Challenge.objects.get(reference=wanted).pk

    found = page(boss, "verification/challenge/", q=term.format(reference=wanted, id=wanted_id))

    assert wanted in found
    assert other not in found


@pytest.mark.parametrize("term", ["a" * 22, NUMBER, "0198f0a0-0000-7000-8000-000000000000"])
def test_search_reads_indexes_only(boss, term):
    with CaptureQueriesContext(connection) as queries:
        page(boss, "verification/challenge/", q=term)

    look_ups = [q["sql"] for q in queries if 'FROM "verification_challenge"' in q["sql"]]
    assert look_ups
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for statement in look_ups:
            cursor.execute(f"EXPLAIN {statement}")
            assert "Seq Scan" not in "\n".join(line for (line,) in cursor.fetchall()), statement


def test_part_of_a_number_finds_nothing(boss, api):
    reference = start(api)

    assert reference not in page(boss, "verification/challenge/", q="1234567")


def test_challenge_filters(boss, api, client_row):
    wanted, other = start(api), start(api, to="+48512345678", purpose="signup")
    check(api, wanted, code_of(wanted))

    for query in ({"status__exact": "verified"}, {"purpose": "login"}, {"country": "UA"}):
        found = page(boss, "verification/challenge/", **query)
        assert (wanted in found, other in found) == (True, False), query
    assert wanted in page(boss, "verification/challenge/", client__id__exact=str(client_row.pk))
    assert wanted not in page(boss, "verification/challenge/", client__id__exact=str(ClientFactory().pk))


def test_list_never_counts_and_takes_few_queries(boss, api):
    for number in range(20):
        reference = start(api, to=f"+3806712{number:05d}")
        check(api, reference, code_of(reference))

    with CaptureQueriesContext(connection) as queries:
        page(boss, "verification/challenge/")

    statements = [query["sql"] for query in queries]
    assert not [sql for sql in statements if "COUNT(" in sql]
    assert len(statements) <= 12, statements


def test_timeline_tells_everything_in_the_order_of_time(boss, api, provider):
    reference = start(api)
    first = attempt(reference, provider, status=AttemptStatus.UNDELIVERED, cost=Decimal("0.04"), currency="EUR")
    Receipt.objects.create(
        provider=provider,
        attempt=first,
        dedupe_key=b"1",
        status="undelivered",
        received_at=datetime.now(UTC),
        apply_at=datetime.now(UTC),
    )
    Challenge.objects.update(resend_at=datetime.now(UTC) - timedelta(seconds=1))
    assert api.post(f"/api/v1/verifications/{reference}/resend").status_code == 202
    second = ProviderFactory(slug="carrier-b")
    attempt(reference, second, seq=2, status=AttemptStatus.ACCEPTED, cost=Decimal("0.0510"), currency="USD")
    check(api, reference, wrong_for(reference))
    token = check(api, reference, code_of(reference)).json()["result_token"]
    api.post("/api/v1/verifications/redeem", {"token": token, "purpose": "login"}, format="json")

    found = page(boss, detail(reference))

    titles = re.findall(r"<h3>([^<]+)</h3>", found)
    assert [title for title in titles if not title.startswith("Event")] == [
        f"Started by {Challenge.objects.get().client}",
        "Message 1",
        "Message 1: attempt 1 by carrier-a",
        "Message 1: receipt of carrier-a for attempt 1",
        "Message 2",
        "Message 2: attempt 1 by carrier-b",
        "Closed",
        "Result redeemed",
    ]
    assert "Event verification.verified" in titles
    assert "0.04 EUR + 0.051 USD" in found
    assert "1 of 5" in found


def test_refusals_of_the_same_number_nearby_are_in_the_timeline(boss, api, client_row):
    reference = start(api)
    begun = Challenge.objects.get().created_at
    for number, hours, detail_text, monitored in (
        (NUMBER, -0.5, "The limit by number is used up.", False),
        (NUMBER, 0.5, "Few of the prefix verify.", True),
        (NUMBER, -30, "Too long ago.", False),
        ("+380671230000", -0.5, "Somebody else.", False),
    ):
        what = {"to": number, "country": "UA", "purpose": "login", "rule": "number", "detail": detail_text}
        when = begun + timedelta(hours=hours)
        Refused.objects.create(client=client_row, monitored=monitored, created_at=when, **what)

    found = page(boss, detail(reference))

    titles = re.findall(r"<h3>([^<]+)</h3>", found)
    assert [titles[0], titles[-1]] == ["Start refused", "Start would have been refused"]
    assert "The limit by number is used up." in found
    assert "Too long ago." not in found
    assert "Somebody else." not in found


def test_one_entry_of_the_navigation_is_where_one_is(boss, api):
    for url, where in (
        ("verification/challenge/figures/", "Figures"),
        ("verification/challenge/", "Challenges"),
        (detail(start(api)), "Challenges"),
        ("verification/profile/", "Profiles"),
    ):
        groups = boss.get(f"/admin/{url}").context["sidebar_navigation"]
        items = [item for group in groups for item in group["items"]]
        assert [item["title"] for item in items if item["active"]] == [where]


def test_message_leads_to_its_challenge_and_back(boss, api):
    reference = start(api)
    message_url = f"messaging/message/{Message.objects.get().pk}/change/"

    assert f"/admin/{detail(reference)}" in page(boss, message_url)
    assert f"/admin/{message_url}" in page(boss, detail(reference))
    assert "verification/challenge/" not in page_body(page(boss, f"messaging/message/{MessageFactory().pk}/change/"))


def page_body(html):
    """Without the sidebar."""
    return html.partition('id="header-inner"')[2] or html.partition('class="message-page"')[2]


# --- cancel ---------------------------------------------------------------------------------------


def test_cancel_needs_its_permission(client, api):
    reference = start(api)
    browser = login(client, "view_challenge")
    url = f"/admin/{detail(reference).replace('change', 'cancel')}"

    assert url not in page(browser, detail(reference))
    assert browser.post(url).status_code == 403
    assert Challenge.objects.get().status == "pending"


def test_cancel_asks_first_and_is_on_record(client, api):
    reference = start(api)
    browser = login(client, "view_challenge", "cancel_challenge")
    url = f"/admin/{detail(reference).replace('change', 'cancel')}"

    assert "Cancel the verification" in browser.get(url).content.decode()
    assert Challenge.objects.get().status == "pending"
    browser.post(url)

    found = Challenge.objects.get()
    assert (found.status, found.reason) == ("cancelled", "staff")
    assert Event.objects.get(subject=reference).type == "verification.cancelled"
    assert LogEntry.objects.get().change_message == "Cancelled."
    assert check(api, reference, "123456").json()["status"] == "cancelled"


def test_what_is_closed_cannot_be_cancelled(boss, api):
    reference = start(api)
    check(api, reference, code_of(reference))
    url = f"/admin/{detail(reference).replace('change', 'cancel')}"

    assert url not in page(boss, detail(reference))
    assert "It is verified already." in boss.post(url, follow=True).content.decode()
    assert Challenge.objects.get().status == "verified"
    assert not LogEntry.objects.exists()


def test_what_has_expired_meanwhile_cannot_be_cancelled(boss, api):
    reference = start(api)
    Challenge.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))

    answer = boss.post(f"/admin/{detail(reference).replace('change', 'cancel')}", follow=True)

    assert "it was closed meanwhile" in answer.content.decode()
    assert not LogEntry.objects.exists()


# --- block ----------------------------------------------------------------------------------------


def test_number_is_blocked_from_the_page_and_the_block_lifted_again(client, api, caller):
    reference = start(api)
    browser = login(client, "view_challenge", "add_block", "view_block", "change_block")
    url = f"/admin/{detail(reference).replace('change', 'block')}"

    assert MASKED in browser.get(url).content.decode()
    assert not Block.objects.exists()
    browser.post(url)

    block = Block.objects.get()
    assert (block.kind, block.value, block.client, block.created_by.username) == ("number", NUMBER, None, "helper")
    assert traffic.attempt(caller, NUMBER) == "destination_blocked"
    shown = page(browser, detail(reference))
    assert (url in shown, f"/admin/verification/block/{block.pk}/lift/" in shown) == (False, True)
    assert "1234567" not in shown + str(LogEntry.objects.values())
    assert "blocked already" in browser.post(url, follow=True).content.decode()
    assert Block.objects.count() == 1

    browser.post(f"/admin/verification/block/{block.pk}/lift/")

    assert url in page(browser, detail(reference))
    assert traffic.attempt(caller, NUMBER) == ""


def test_blocking_needs_its_permission(client, api):
    reference = start(api)
    browser = login(client, "view_challenge", "cancel_challenge", "change_block")
    url = f"/admin/{detail(reference).replace('change', 'block')}"

    assert url not in page(browser, detail(reference))
    assert browser.post(url).status_code == 403
    assert not Block.objects.exists()


def test_erased_number_cannot_be_blocked(boss, api):
    reference = start(api)
    Challenge.objects.update(to="+380*********")
    url = f"/admin/{detail(reference).replace('change', 'block')}"

    assert url not in page(boss, detail(reference))
    boss.post(url)
    assert not Block.objects.exists()


# --- profiles -------------------------------------------------------------------------------------


def save(browser, client_row, **fields):
    """None when it was saved, else the errors."""
    data = {**PROFILE, "client": str(client_row.pk), **fields}
    answer = browser.post("/admin/verification/profile/add/", {k: v for k, v in data.items() if v is not None})
    if answer.status_code == 302:
        return None
    return answer.context["adminform"].form.errors.get_json_data()


def test_profile_is_saved_as_it_was_typed(boss, client_row):
    assert save(boss, client_row, countries="ua, PL,UA", locale="pl") is None

    found = Profile.objects.get()
    assert (found.cooldowns, found.countries, found.locale) == ([30, 60], ["UA", "PL"], "pl")
    assert (found.number_types, found.context_fields) == (["mobile", "unknown"], [])


def test_every_type_of_number_can_be_allowed(boss, client_row):
    kinds = [str(kind) for kind in NumberType]

    assert save(boss, client_row, number_types=kinds) is None

    assert Profile.objects.get().number_types == kinds


@pytest.mark.parametrize(
    ("fields", "risky"),
    [
        ({"code_length": "6", "max_checks": "5"}, False),  # 5 in a million
        ({"code_length": "6", "max_checks": "10"}, False),  # 10
        ({"code_length": "6", "max_checks": "10", "code_per_attempt": "on"}, True),  # 30
        ({"code_length": "6", "max_checks": "6", "code_per_attempt": "on"}, False),  # 18
        ({"code_length": "5", "max_checks": "2"}, False),  # 20
        ({"code_length": "5", "max_checks": "3"}, True),  # 30
        ({"code_length": "4", "max_checks": "1"}, True),  # 100
        ({"code_length": "10", "max_checks": "10"}, False),
    ],
)
def test_profile_above_twenty_in_a_million_needs_its_risk_accepted(boss, client_row, fields, risky):
    errors = save(boss, client_row, **fields)

    assert bool(errors) is risky
    assert not risky or list(errors) == ["accept_risk"]
    assert save(boss, ClientFactory(), accept_risk="on", **fields) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("locale", "english!"),
        ("locale", "sv"),  # there is no such text
        ("template", "no-such-template"),
        ("template", "code_payment"),  # which shows what no start is asked for
        ("sender", "a sender that is too long"),
        ("cooldowns", "30,never"),
        ("cooldowns", "0"),
        ("cooldowns", ""),
        ("countries", "Ukraine"),
        ("countries", "U1"),
        ("countries", "UK"),  # is GB
        ("number_types", ["carrier_pigeon"]),
        ("number_types", None),
        ("context_fields", ["colour"]),
        ("webotp_host", "https://app.example.com/"),
        ("app_hash", "short"),
        ("code_length", "3"),
        ("ttl_seconds", "601"),
        ("purpose", "Log in"),
    ],
)
def test_wrong_field_is_named(boss, client_row, field, value):
    assert field in save(boss, client_row, **{field: value})
    assert not Profile.objects.exists()


def test_template_without_the_code_is_refused(boss, client_row):
    Template.objects.create(name="mine", locale="en", text="Hello. It is valid for {minutes}.")

    errors = save(boss, client_row, template="mine")

    assert "{code}" in errors["template"][0]["message"]


def test_template_of_another_client_is_refused(boss, client_row):
    Template.objects.create(name="mine", locale="en", text="{code}, {minutes}", client=ClientFactory())

    assert list(save(boss, client_row, template="mine")) == ["template"]


def test_second_profile_of_the_same_name_is_refused(boss, client_row):
    save(boss, client_row)

    assert save(boss, client_row)


def test_defaults_and_odds_are_shown(boss, client_row):
    save(boss, client_row, code_length="4", accept_risk="on")

    found = page(boss, "verification/profile/")

    assert "1 in 200,000 (5 in a million)" in found  # login and signup
    assert "1 in 20,000,000 (0.05 in a million)" in found  # payment
    assert "1 in 2,000 (500 in a million)" in found  # the row
    assert "1 in 2,000 (500 in a million)" in page(boss, "verification/challenge/figures/")


# --- previews -------------------------------------------------------------------------------------


def preview(browser, client_row, **fields):
    answer = browser.post("/admin/verification/profile/preview/", {**PROFILE, "client": str(client_row.pk), **fields})
    assert answer.status_code == 200
    return answer


def test_preview_measures_every_language(boss, client_row):
    answer = preview(boss, client_row, webotp_host="app.example.com", app_hash="FA+9qCX9VSu", ttl_seconds="120")

    shown = {one.locale: one for one in answer.context["previews"]}
    assert set(shown) == {"de", "en", "es", "fr", "pl", "tr", "uk"}
    assert (shown["en"].encoding, shown["en"].segments) == ("GSM-7", 1)
    assert shown["uk"].encoding == "UCS-2"
    assert shown["en"].text.endswith("FA+9qCX9VSu\n@app.example.com #000000")
    assert "2 minutes" in answer.content.decode()


def test_preview_tells_what_is_wrong_and_saves_nothing(boss, client_row):
    answer = preview(boss, client_row, code_length="4", template="no-such-template", purpose="")

    found = answer.content.decode()
    assert "There is no such template." in found
    assert "above 20 in a million" in found
    assert not Profile.objects.exists()


def test_preview_warns_where_android_gives_an_app_no_such_text(boss, client_row):
    long = "x" * 120
    Template.objects.create(name="long", locale="en", text=f"{long} {{code}} {{minutes}}")

    answer = preview(boss, client_row, template="long", app_hash="FA+9qCX9VSu")

    expected = texts.problems(answer.context["previews"][0].text, "FA+9qCX9VSu")
    assert expected
    assert expected[0] in answer.content.decode()


def test_preview_escapes_what_was_typed(boss, client_row):
    Template.objects.create(name="mine", locale="en", text="<script>{code}</script> {minutes}")

    assert "<script>" not in preview(boss, client_row, template="mine").content.decode()


@pytest.mark.parametrize("url", ["verification/profile/preview/", "messaging/template/size/"])
def test_previews_are_refused_to_who_may_only_look(client, url):
    browser = login(client, "view_profile", "view_template")

    assert browser.post(f"/admin/{url}", {}).status_code == 403


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello", ("GSM-7", 5, 1)),
        ("Hello {name}", ("GSM-7", 16, 1)),
        ("two\r\nlines", ("GSM-7", 9, 1)),
        ("€" * 81, ("GSM-7", 162, 2)),
        ("Привіт", ("UCS-2", 6, 1)),
        ("", ("GSM-7", 0, 1)),
    ],
)
def test_template_is_measured_while_it_is_typed(boss, text, expected):
    found = boss.post("/admin/messaging/template/size/", {"text": text}).context

    assert (found["encoding"], found["units"], found["segments"]) == expected


def test_saved_template_has_one_character_for_a_line_break(boss):
    fields = {"name": "welcome", "locale": "en", "text": "two\r\nlines"}

    assert boss.post("/admin/messaging/template/add/", fields).status_code == 302

    assert Template.objects.get().text == "two\nlines"


# --- figures --------------------------------------------------------------------------------------


def hours_ago(hours, client_row, country="UA", **fields):
    when = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)
    sums = {**dict.fromkeys(conversions.SUMS, 0), "cost": 0, "times": [0] * 13, **fields}
    return Hour.objects.create(hour=when, client=client_row, country=country, purpose="login", **sums)


def test_figures_are_of_the_chosen_range(boss, client_row):
    hours_ago(1, client_row, starts=1, verified=1)
    hours_ago(30, client_row, starts=10, verified=5)
    hours_ago(24 * 8, client_row, starts=100, verified=50)
    hours_ago(24 * 40, client_row, starts=1000, verified=500)

    starts = [
        boss.get("/admin/verification/challenge/figures/", {"range": name}).context["total"].starts
        for name in ("24h", "7d", "30d", "nonsense")
    ]

    assert starts == [1, 11, 111, 1]


def test_figures_tell_conversion_time_and_cost(boss, client_row, provider):
    times = [0, 0, 40, 40] + [0] * 9
    hours_ago(
        1, client_row, starts=110, superseded=10, delivered=95, verified=80, cost=4, times=times, expired=20, wrong=20
    )
    hours_ago(1, client_row, "PL", starts=10, delivered=1, expired=10)
    when = Hour.objects.first().hour
    Quality.objects.create(
        **{"hour": when, "message_class": "otp", "provider": provider, "country": "UA"},
        **{"attempts": 100, "delivered": 90, "converted": 60, "unattributed": 20},
    )

    found = boss.get("/admin/verification/challenge/figures/").context

    rows = {row[0]: row[1:] for row in found["by_country"]["rows"]}
    assert rows["UA"] == ["110", "10", "95", "80", "80.0%", "15 s", "4.00", "0.0500"]
    assert rows["PL"] == ["10", "0", "1", "0", "0.0%", "-", "0.00", "-"]
    assert found["by_provider"]["rows"] == [["carrier-a", "100", "90", "90.0%", "80", "60", "75.0%"]]
    assert "Of all guesses 20.0% were wrong." in str(found["cards"])
    assert (found["total"].persons, round(found["total"].conversion, 4)) == (110, 0.7273)


def test_bars_add_up_to_the_total(boss, client_row):
    for hours in range(0, 24 * 30, 7):
        hours_ago(hours, client_row, starts=1, verified=1)

    for name in ("24h", "7d", "30d"):
        found = boss.get("/admin/verification/challenge/figures/", {"range": name}).context
        bars = re.search(r'"label": "Verified", "data": \[([^]]*)\]', found["over_time"]["data"])
        assert sum(map(int, bars[1].split(","))) == found["total"].verified


def test_money_is_for_those_who_may_see_it(client, client_row):
    hours_ago(1, client_row, starts=1, verified=1, cost=Decimal("7.31"))
    browser = login(client, "view_challenge")

    assert "7.31" not in page(browser, "verification/challenge/figures/")
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_attempt"))
    assert "7.31" in page(browser, "verification/challenge/figures/")


def test_figures_take_as_many_queries_for_a_full_table(boss, client_row):
    def queries():
        with CaptureQueriesContext(connection) as found:
            page(boss, "verification/challenge/figures/", range="30d")
        return len(found)

    hours_ago(0, client_row, starts=1)
    few = queries()
    for hours in range(1, 40):
        for country in ("UA", "PL", "GB"):
            hours_ago(hours, client_row, country, starts=1)

    assert queries() == few <= 10


def test_closed_challenge_reaches_the_page(boss, api, provider):
    reference = start(api)
    attempt(reference, provider, status=AttemptStatus.ACCEPTED)
    check(api, reference, code_of(reference))
    Challenge.objects.update(closed_at=datetime.now(UTC) - timedelta(minutes=1))
    conversions.count()

    found = boss.get("/admin/verification/challenge/figures/").context

    assert found["by_provider"]["rows"] == [["carrier-a", "1", "1", "100.0%", "1", "1", "100.0%"]]
    assert (found["total"].starts, found["total"].verified) == (1, 1)
