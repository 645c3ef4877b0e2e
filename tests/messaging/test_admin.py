"""The admin as staff use it: what it shows to whom, what it lets them do, and what it costs on a full table."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from messaging import bridge, intake, staff
from messaging.admin.filters import first_id
from messaging.clients import issue_key, keys, split_key
from messaging.kafka import Incoming
from messaging.models import (
    ApiKey,
    Attempt,
    Client,
    DeadLetter,
    Event,
    Message,
    Receipt,
    Suppression,
    Template,
    uuid7,
)
from messaging.states import AttemptStatus, MessageClass, Status
from providers.models import Provider, ProviderHealth
from routing import books
from routing.models import ExchangeRate, Price, PriceList
from tests.conftest import caller_for
from tests.factories import (
    AttemptFactory,
    ClientFactory,
    MessageFactory,
    PriceFactory,
    PriceListFactory,
    ProviderFactory,
)
from tests.kafka import command
from tests.messaging.door import GOOD

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]
NUMBER = "+380671234567"
MASKED = "+380******567"
TEXT = "Your transfer of 100 EUR has arrived."


@pytest.fixture
def helper(client):
    """A browser of somebody who may look, and nothing else."""
    return login(client, "view_message", "view_client", "view_provider", "view_pricelist", "view_attempt")


def login(client, *permissions):
    user = User.objects.create_user("helper", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def page(browser, url, **query):
    answer = browser.get(f"/admin/{url}", query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def id_of(token):
    parts = split_key(token)
    assert parts
    return parts[0]


def held(**fields):
    message = MessageFactory(status=Status.HELD, to=NUMBER, text=TEXT, **fields)
    attempt = AttemptFactory(message=message, status=AttemptStatus.UNKNOWN, provider__price="0.05")
    return message, attempt


# --- every page -----------------------------------------------------------------------------------

LISTS = (
    "messaging/message",
    "messaging/attempt",
    "messaging/receipt",
    "messaging/event",
    "messaging/deadletter",
    "messaging/kafkaprocess",
    "messaging/template",
    "messaging/suppression",
    "messaging/webhookendpoint",
    "messaging/webhookdelivery",
    "messaging/client",
    "messaging/apikey",
    "providers/provider",
    "routing/pricelist",
    "routing/price",
    "routing/exchangerate",
    "auth/user",
    "auth/group",
)


@pytest.mark.parametrize("name", LISTS)
def test_list_opens_empty(boss, name):
    page(boss, f"{name}/")


@pytest.mark.parametrize("name", LISTS)
def test_list_opens_with_rows_and_searches(boss, name):
    everything()

    page(boss, f"{name}/")
    page(boss, f"{name}/", q="+380671234567")
    page(boss, f"{name}/", q="0198f0a0-0000-7000-8000-000000000000")


def test_every_row_opens(boss):
    for row in everything():
        name = f"{row._meta.app_label}/{row._meta.model_name}"
        page(boss, f"{name}/{row.pk}/change/")
        page(boss, f"{name}/{row.pk}/history/")


@pytest.mark.parametrize("name", ["template", "suppression", "client"])
def test_add_page_of_messaging_opens(boss, name):
    page(boss, f"messaging/{name}/add/")


@pytest.mark.parametrize("name", ["message", "attempt", "receipt", "event", "deadletter", "apikey"])
def test_logs_can_be_neither_added_nor_deleted(boss, name):
    row = next(row for row in everything() if row._meta.model_name == name)

    assert boss.get(f"/admin/messaging/{name}/add/").status_code == 403
    assert boss.post(f"/admin/messaging/{name}/{row.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("name", ["attempt", "receipt", "event", "deadletter", "apikey"])
def test_logs_cannot_be_changed(boss, name):
    row = next(row for row in everything() if row._meta.model_name == name)

    assert boss.post(f"/admin/messaging/{name}/{row.pk}/change/", {"status": "delivered"}).status_code == 403


@pytest.mark.parametrize("name", LISTS)
def test_list_is_refused_without_permission(client, name):
    login(client)

    assert client.get(f"/admin/{name}/").status_code == 403


def test_home_counts_what_needs_a_person(boss):
    held()
    ProviderHealth.objects.create(provider=ProviderFactory(enabled=False), state="open")

    found = page(boss, "")

    cards = re.findall(r"<strong>(\S+)</strong>\s*<span class=\"home-card-title\">([^<]+)<", found)
    assert cards == [("1", "held"), ("0", "unknown"), ("1", "open breakers"), ("1", "disabled")]


def test_home_and_sidebar_show_only_what_one_may_see(client):
    found = page(login(client, "view_pricelist"), "")

    assert "/admin/routing/pricelist/" in found
    assert "/admin/messaging/message/" not in found
    assert "home-card-title" not in found


def test_tasks_of_the_broker_have_no_page(boss):
    assert boss.get("/admin/django_dramatiq/task/").status_code == 404


def everything():
    message, attempt = held(reference="order-7")
    client = message.client
    issue_key(client)
    moment = datetime.now(UTC)
    receipt = Receipt.objects.create(
        provider=attempt.provider,
        attempt=attempt,
        dedupe_key=b"1",
        status="delivered",
        received_at=moment,
        apply_at=moment,
    )
    event = Event.objects.create(
        id=uuid7(), type="message.held", subject=str(message.pk), sequence=1, client=client, data={}, created_at=moment
    )
    letter = DeadLetter.objects.create(
        topic="messaging.commands",
        partition=0,
        offset=7,
        produced_at=moment,
        raw=NUMBER.encode() + TEXT.encode(),
        client=client,
        reason="invalid_json",
        received_at=moment,
    )
    return [
        message,
        attempt,
        receipt,
        event,
        letter,
        client,
        client.api_keys.get(),
        attempt.provider,
        PriceList.objects.get(),
        Price.objects.first(),
        ExchangeRate.objects.create(currency="USD", rate=Decimal("1.1"), valid_from=moment),
        Template.objects.create(name="welcome", text="Hello {name}"),
        Suppression.objects.create(msisdn=NUMBER, reason="opt-out"),
    ]


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["messaging/message/", "messaging/message/{id}/change/"])
def test_number_is_masked_without_the_permission(client, url):
    message, _ = held()
    browser = login(client, "view_message")

    found = page(browser, url.format(id=message.pk))

    assert MASKED in found
    assert NUMBER not in found


@pytest.mark.parametrize("url", ["messaging/message/", "messaging/message/{id}/change/"])
def test_number_is_whole_with_the_permission(client, url):
    message, _ = held()

    found = page(login(client, "view_message", "view_full_number"), url.format(id=message.pk))

    assert NUMBER in found


@pytest.mark.parametrize(
    ("permissions", "message_class", "shown"),
    [
        (["view_message"], MessageClass.TRANSACTIONAL, False),
        (["view_message", "view_text"], MessageClass.TRANSACTIONAL, True),
        (["view_message", "view_text"], MessageClass.OTP, False),
    ],
)
def test_text_needs_its_permission_and_a_code_is_never_shown(client, permissions, message_class, shown):
    message, _ = held(message_class=message_class)

    found = page(login(client, *permissions), f"messaging/message/{message.pk}/change/")

    assert (TEXT in found) is shown


def test_suppressed_number_is_masked_without_the_permission(client):
    row = Suppression.objects.create(msisdn=NUMBER, reason="opt-out")
    browser = login(client, "view_suppression", "change_suppression")

    for url in ("messaging/suppression/", f"messaging/suppression/{row.pk}/change/"):
        found = page(browser, url)
        assert MASKED in found
        assert NUMBER not in found


@pytest.mark.parametrize("term", ["{id}", " {reference} ", NUMBER, "+380 67 123-45-67"])
def test_message_is_found_by_id_reference_and_number(boss, term):
    wanted, _ = held(reference="order-7")
    other = MessageFactory(reference="order-8")

    found = page(boss, "messaging/message/", q=term.format(id=wanted.pk, reference="order-7"))

    assert str(wanted.pk) in found
    assert str(other.pk) not in found


def test_part_of_a_number_finds_nothing(boss):
    held()

    assert NUMBER not in page(boss, "messaging/message/", q="1234567").replace("?q=", "")


def test_message_filters(boss):
    wanted, attempt = held()
    other = MessageFactory(country="PL", message_class=MessageClass.BULK)

    for query in (
        {"status__exact": "held"},
        {"message_class__exact": "transactional"},
        {"country": "UA"},
        {"client__id__exact": str(wanted.client_id)},
        {"provider": attempt.provider.slug},
    ):
        found = page(boss, "messaging/message/", **query)
        assert str(wanted.pk) in found, query
        assert str(other.pk) not in found, query


def test_list_shows_a_week_unless_told_or_searched(boss):
    old = MessageFactory(id=first_id(datetime.now(UTC) - timedelta(days=8)))

    assert str(old.pk) not in page(boss, "messaging/message/")
    assert str(old.pk) in page(boss, "messaging/message/", since="30d")
    assert str(old.pk) in page(boss, "messaging/message/", since="all")
    assert str(old.pk) in page(boss, "messaging/message/", q=str(old.pk))


@pytest.mark.parametrize(
    "name", ["message", "attempt", "receipt", "event", "deadletter", "suppression", "webhookdelivery"]
)
def test_long_list_never_counts_and_takes_few_queries(boss, name):
    for number in range(30):
        attempt = AttemptFactory(message__reference=f"order-{number}")
        Receipt.objects.create(
            provider=attempt.provider,
            attempt=attempt,
            dedupe_key=bytes([number]),
            status="sent",
            received_at=attempt.started_at,
            apply_at=attempt.started_at,
        )

    with CaptureQueriesContext(
        connection,
    ) as queries:
        page(boss, f"messaging/{name}/")

    statements = [query["sql"] for query in queries]
    assert not [sql for sql in statements if "COUNT(" in sql and f"messaging_{name}" in sql]
    assert len(statements) <= 12, statements


@pytest.mark.parametrize("term", ["order-7", NUMBER, str(uuid7())])
def test_search_reads_indexes_only(boss, term):
    with CaptureQueriesContext(connection) as queries:
        page(boss, "messaging/message/", q=term)

    look_ups = [q["sql"] for q in queries if 'FROM "messaging_message"' in q["sql"] and "LIMIT" in q["sql"]]
    assert look_ups
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for statement in look_ups:
            cursor.execute(f"EXPLAIN {statement}")
            assert "Seq Scan on messaging_message" not in "\n".join(line for (line,) in cursor.fetchall())


def test_timeline_tells_everything_in_the_order_of_time(boss):
    start = datetime.now(UTC) - timedelta(minutes=5)
    decision = [
        {"provider": "alpha", "total": "0.04", "currency": "EUR", "reason": "already_tried"},
        {"provider": "beta", "total": "0.05", "currency": "EUR", "chosen": "next cheapest"},
        {"provider": "gamma", "reason": "no_price"},
    ]
    message = MessageFactory(status=Status.DELIVERED, created_at=start, decision=decision)
    alpha, beta = ProviderFactory(slug="alpha"), ProviderFactory(slug="beta")
    AttemptFactory(
        message=message,
        provider=alpha,
        seq=1,
        status=AttemptStatus.NOT_SENT,
        error_code="connect_refused",
        started_at=start + timedelta(seconds=1),
        finished_at=start + timedelta(seconds=1, milliseconds=20),
    )
    second = AttemptFactory(
        message=message,
        provider=beta,
        seq=2,
        status=AttemptStatus.DELIVERED,
        price=Decimal("0.051200"),
        currency="EUR",
        cost=Decimal("0.05"),
        started_at=start + timedelta(seconds=2),
        finished_at=start + timedelta(seconds=3),
    )
    Receipt.objects.create(
        provider=beta,
        attempt=second,
        dedupe_key=b"1",
        status="delivered",
        provider_status="DELIVRD",
        received_at=start + timedelta(seconds=9),
        apply_at=start,
    )
    Event.objects.create(
        id=uuid7(),
        type="message.delivered",
        subject=str(message.pk),
        sequence=2,
        data={},
        created_at=start + timedelta(seconds=10),
    )

    found = page(boss, f"messaging/message/{message.pk}/change/")

    words = [
        "Accepted from",
        "Attempt 1 by alpha",
        "connect_refused",
        "20 ms",
        "Routed to beta",
        "already_tried",
        "no_price",
        "Attempt 2 by beta",
        "0.0512 EUR",
        "1,000 ms",
        "Receipt of beta",
        "DELIVRD",
        "Event message.delivered",
    ]
    places = [found.index(word) for word in words]
    assert places == sorted(places)


def test_waiting_message_says_why_it_waits(boss):
    message = MessageFactory(decision=[{"provider": "alpha", "reason": "breaker: read_timeout"}])

    found = page(boss, f"messaging/message/{message.pk}/change/")

    assert "No provider now" in found
    assert "breaker: read_timeout" in found


@pytest.mark.parametrize("wrong", ["not-an-id", "0198f0a0-0000-7000-8000-000000000000"])
def test_unknown_message_is_not_found(boss, wrong):
    assert boss.get(f"/admin/messaging/message/{wrong}/change/").status_code == 404


# --- held messages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "status", "attempt_status", "duplicate"),
    [
        ("send-again", Status.QUEUED, AttemptStatus.SUPERSEDED, True),
        ("close-as-failed", Status.FAILED, AttemptStatus.SUPERSEDED, True),
        ("confirm-sent", Status.SENT, AttemptStatus.ACCEPTED, False),
    ],
)
def test_staff_decide_a_held_message_after_a_question(boss, verb, status, attempt_status, duplicate):
    message, attempt = held()
    url = f"/admin/messaging/message/{message.pk}/decide/{verb}/"

    asked = boss.get(url)
    message.refresh_from_db()
    assert (asked.status_code, message.status) == (200, Status.HELD)
    answer = boss.post(url)

    message.refresh_from_db()
    attempt.refresh_from_db()
    assert answer.status_code == 302
    assert (message.status, attempt.status, message.possible_duplicate) == (status, attempt_status, duplicate)
    assert LogEntry.objects.get().object_id == str(message.pk)


def test_decision_needs_its_own_permission(client):
    message, _ = held()
    browser = login(client, "view_message")

    assert "Send again" not in page(browser, f"messaging/message/{message.pk}/change/")
    assert browser.post(f"/admin/messaging/message/{message.pk}/decide/send-again/").status_code == 403
    message.refresh_from_db()
    assert message.status == Status.HELD


def test_message_that_a_receipt_settled_meanwhile_is_left_alone(boss):
    message, _ = held()
    Message.objects.update(status=Status.DELIVERED)

    boss.post(f"/admin/messaging/message/{message.pk}/decide/send-again/")

    message.refresh_from_db()
    assert (message.status, message.possible_duplicate) == (Status.DELIVERED, False)
    assert not LogEntry.objects.exists()


def test_message_past_its_validity_is_never_sent_again(boss):
    message, attempt = held(expires_at=datetime.now(UTC) - timedelta(seconds=1))

    answer = boss.post(f"/admin/messaging/message/{message.pk}/decide/send-again/", follow=True)

    message.refresh_from_db()
    attempt.refresh_from_db()
    assert (message.status, attempt.status) == (Status.HELD, AttemptStatus.UNKNOWN)
    assert "its validity is over" in answer.content.decode()
    assert staff.close_as_failed([message.pk]) == {message.pk}


def test_decisions_write_their_events():
    message, _ = held()

    staff.confirm_sent([message.pk])

    assert list(Event.objects.values_list("type", flat=True)) == ["message.sent"]


def test_send_again_wakes_the_lane_after_commit(monkeypatch, django_capture_on_commit_callbacks):
    message, _ = held()
    hinted: list[str] = []
    monkeypatch.setattr("messaging.tasks.hint", hinted.append)

    with django_capture_on_commit_callbacks(execute=True):
        staff.send_again([message.pk])

    assert hinted == ["transactional"]


def test_send_again_begins_anew_but_not_where_it_was_refused():
    message, _ = held(spent=3, tried=[1], barred=[2])

    staff.send_again([message.pk])

    message.refresh_from_db()
    assert (message.status, message.spent, message.tried, message.barred) == (Status.QUEUED, 0, [], [2])


# --- clients and keys -----------------------------------------------------------------------------


# --- Kafka ----------------------------------------------------------------------------------------


def bury(**attributes):
    ProviderFactory(price="0.04")
    client = ClientFactory(slug="core-backend", kafka_enabled=False)
    value = json.dumps(command(client, {"to": NUMBER, "text": TEXT}, **attributes)).encode()
    bridge.take([Incoming("messaging.commands", 3, 1024, None, value, [], datetime.now(UTC))])
    return client, DeadLetter.objects.get()


def test_dead_letter_is_replayed_after_a_question(boss):
    client, letter = bury()
    url = f"/admin/messaging/deadletter/{letter.pk}/replay/"

    refused = boss.post(url, follow=True).content.decode()
    type(client).objects.update(kafka_enabled=True)
    asked = boss.get(url).content.decode()
    before = Message.objects.count()
    done = boss.post(url, follow=True).content.decode()

    assert "kafka_disabled" in refused
    assert "Replay messaging.commands 3/1024?" in asked
    assert (before, Message.objects.count()) == (0, 1)
    assert "It was carried out." in done
    assert "replayed" in done


def test_replay_needs_its_permission(client):
    _, letter = bury()
    browser = login(client, "view_deadletter")

    assert browser.post(f"/admin/messaging/deadletter/{letter.pk}/replay/").status_code == 403


def test_what_a_dead_letter_says_is_shown_to_nobody(boss):
    _, letter = bury(subject=NUMBER)

    shown = page(boss, "messaging/deadletter/") + page(boss, f"messaging/deadletter/{letter.pk}/change/")

    assert NUMBER not in shown
    assert TEXT not in shown


def test_dead_letter_is_found_by_its_place(boss):
    _, letter = bury()
    link = f"/admin/messaging/deadletter/{letter.pk}/change/"

    assert link in page(boss, "messaging/deadletter/", q="3/1024")
    assert link not in page(boss, "messaging/deadletter/", q="3/1025")
    assert link not in page(boss, "messaging/deadletter/", q="9" * 30 + "/" + "9" * 30)


def test_home_tells_what_waits_for_kafka_where_there_is_one(boss, settings):
    everything()
    without = page(boss, "")
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:9"

    found = page(boss, "")

    assert "dead letters" not in re.findall(r"home-card-title\">([^<]+)<", without)
    cards = re.findall(r"<strong>(\S+)</strong>\s*<span class=\"home-card-title\">([^<]+)<", found)
    assert {("1", "events waiting"), ("1", "dead letters")} <= set(cards)


def create_key(browser, row, **fields):
    url = f"/admin/messaging/client/{row.pk}/create_key/"
    known = browser.get(url).context["form"]["known"].value()
    return browser.post(url, {"scopes": ["send", "read"], "cidrs": "", "expires_on": "", "known": known, **fields})


def test_key_is_shown_once_and_works(boss, client_row):
    answer = create_key(boss, client_row, cidrs="10.0.0.0/8\n2001:db8::/32", expires_on="2199-01-01")

    (token,) = re.findall(r'id="secret"[^>]*>(mx_live_[^<]+)<', answer.content.decode())
    key = keys.get(fresh=True)[id_of(token)]
    assert "no-store" in answer["Cache-Control"]
    assert key.caller.scopes == {"send", "read"}
    assert len(key.networks) == 2
    secret = token.rpartition("_")[2]
    assert secret not in page(boss, f"messaging/client/{client_row.pk}/change/")
    assert secret not in page(boss, f"messaging/apikey/{id_of(token)}/change/")
    assert secret not in str(dict(boss.session)) + str(boss.cookies) + str(list(LogEntry.objects.values()))


def test_page_sent_twice_makes_one_key(boss, client_row):
    url = f"/admin/messaging/client/{client_row.pk}/create_key/"
    body = {"scopes": ["send"], "known": boss.get(url).context["form"]["known"].value() or ""}

    boss.post(url, body)
    again = boss.post(url, body).content.decode()

    assert "A key was created since" in again
    assert ApiKey.objects.count() == 1


def test_third_live_key_is_refused_clearly(boss, client_row):
    issue_key(client_row)
    issue_key(client_row)

    answer = boss.post(f"/admin/messaging/client/{client_row.pk}/create_key/", {"scopes": ["send"]})

    assert "2 live keys already" in answer.content.decode()
    assert ApiKey.objects.count() == 2


@pytest.mark.parametrize(
    "fields", [{"cidrs": "10.0.0.1/8"}, {"cidrs": "everywhere"}, {"expires_on": "2020-01-01"}, {"scopes": ["root"]}]
)
def test_wrong_key_form_makes_no_key(boss, client_row, fields):
    answer = create_key(boss, client_row, **fields)

    assert answer.status_code == 200
    assert not ApiKey.objects.exists()


def test_key_needs_the_permission_to_add_keys(client, client_row):
    browser = login(client, "view_client", "change_client")

    assert browser.get(f"/admin/messaging/client/{client_row.pk}/create_key/").status_code == 403


def test_key_is_revoked_after_a_question(boss, client_row):
    key_id = id_of(issue_key(client_row))
    url = f"/admin/messaging/apikey/{key_id}/revoke/"

    boss.get(url)
    assert ApiKey.objects.get().revoked_at is None
    boss.post(url)

    assert ApiKey.objects.get().revoked_at is not None


def test_client_is_added_and_its_slug_is_fixed(boss):
    boss.post(
        "/admin/messaging/client/add/", {"slug": "core", "name": "Core", "enabled": "on", "scopes": ["send", "otp"]}
    )
    row = Client.objects.get()
    boss.post(
        f"/admin/messaging/client/{row.pk}/change/", {"slug": "other", "name": "Core backend", "scopes": ["send"]}
    )

    row.refresh_from_db()
    assert (row.slug, row.name, row.scopes, row.enabled) == ("core", "Core backend", ["send"], False)


@pytest.mark.parametrize("sender", ["Über", "twelve chars", "12"])
def test_client_cannot_have_a_sender_that_no_message_may_have(boss, sender):
    answer = boss.post(
        "/admin/messaging/client/add/", {"slug": "core", "name": "Core", "scopes": "send", "sender": sender}
    )

    assert "At most 11 letters and digits" in answer.content.decode()
    assert not Client.objects.exists()


def test_client_has_limits_and_shows_what_is_used(boss, client_row):
    url = f"/admin/messaging/client/{client_row.pk}/change/"
    fields = {"name": "Core", "enabled": "on", "scopes": ["send"], "rate_limit": "20", "daily_quota": "10"}
    without = page(boss, url.removeprefix("/admin/"))
    boss.post(url, fields)
    client_row.refresh_from_db()
    ProviderFactory(price="0.045")
    intake.accept_many(caller_for(client_row), [GOOD] * 4)

    found = page(boss, url.removeprefix("/admin/"))

    assert "no quota" in without
    assert (client_row.rate_limit, client_row.daily_quota) == (20, 10)
    assert "4 of 10 since 00:00 UTC" in found
    assert "width: 40%" in found


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_limit_that_lets_nothing_through_is_refused(boss, client_row, limit):
    boss.post(
        f"/admin/messaging/client/{client_row.pk}/change/", {"name": "x", "scopes": ["send"], "daily_quota": limit}
    )

    client_row.refresh_from_db()
    assert client_row.daily_quota is None
    assert client_row.name != "x"


@pytest.mark.parametrize("text", ["Hello {name", "Hello {Name}", "Hello {}", "Hello name}"])
def test_mistyped_parameter_is_refused_in_a_template(boss, text):
    answer = boss.post("/admin/messaging/template/add/", {"name": "greeting", "locale": "en", "text": text})

    assert "Braces stand around a parameter only" in answer.content.decode()
    assert not Template.objects.exists()


# --- providers ------------------------------------------------------------------------------------


def save_provider(browser, provider, **fields):
    body = {"name": provider.name, "base_url": provider.base_url, "sender": "", "rate": "", "resolve": "", "lag": ""}
    return browser.post(f"/admin/providers/provider/{provider.pk}/change/", {**body, **fields})


def test_new_provider_starts_disabled_until_it_has_credentials(boss):
    boss.post("/admin/providers/provider/add/", {"slug": "carrier-x", "name": "X", "adapter": "simulator"})
    provider = Provider.objects.get()
    enable = f"/admin/providers/provider/{provider.pk}/enable/"

    refused = boss.post(enable, follow=True)
    provider.refresh_from_db()
    assert not provider.enabled
    assert "missing: token" in refused.content.decode()
    save_provider(boss, provider, credential_token="new-token")
    boss.post(enable)

    provider.refresh_from_db()
    assert provider.enabled
    assert provider.read_credentials() == {"token": "new-token"}


def test_credentials_are_never_shown_and_an_empty_field_keeps_them(boss):
    provider = ProviderFactory(token="super-secret-token")

    found = page(boss, f"providers/provider/{provider.pk}/change/")
    save_provider(boss, provider, name="Renamed", credential_token="")

    provider.refresh_from_db()
    assert "super-secret-token" not in found
    assert "Set. Leave it empty to keep it." in found
    assert (provider.name, provider.read_credentials()) == ("Renamed", {"token": "super-secret-token"})


def test_one_new_credential_leaves_the_others(boss):
    provider = ProviderFactory(adapter="twilio")
    provider.set_credentials({"account_sid": "AC1", "auth_token": "old"})
    provider.save()

    save_provider(boss, provider, credential_auth_token="new")

    provider.refresh_from_db()
    assert provider.read_credentials() == {"account_sid": "AC1", "auth_token": "new"}


def test_wrong_form_does_not_send_the_credentials_back(boss):
    provider = ProviderFactory()

    answer = save_provider(boss, provider, name="", credential_token="typed-secret")

    assert answer.status_code == 200
    assert "typed-secret" not in answer.content.decode()
    assert "typed-secret" not in str(list(LogEntry.objects.values()))


def test_unreadable_credentials_are_told_and_can_be_replaced(boss):
    provider = ProviderFactory()
    Provider.objects.update(credentials="v1.9.AAAA")

    assert "unreadable" in page(boss, "providers/provider/")
    save_provider(boss, provider, credential_token="new-token")

    provider.refresh_from_db()
    assert provider.read_credentials() == {"token": "new-token"}


def test_fields_follow_the_adapter(boss):
    provider = ProviderFactory(adapter="twilio")

    found = page(boss, f"providers/provider/{provider.pk}/change/")

    assert 'name="credential_account_sid"' in found
    assert 'name="credential_token"' not in found


def test_viewer_gets_no_credential_fields(helper):
    provider = ProviderFactory()

    assert 'name="credential_' not in page(helper, f"providers/provider/{provider.pk}/change/")


@pytest.mark.parametrize("verb", ["enable", "disable", "close_breaker"])
def test_provider_actions_need_permission_and_a_post(client, verb):
    provider = ProviderFactory(enabled=verb != "enable")
    ProviderHealth.objects.create(provider=provider, state="open", reason="read_timeout")
    before = Provider.objects.values().get(), ProviderHealth.objects.values("state").get()
    url = f"/admin/providers/provider/{provider.pk}/{verb}/"

    assert login(client, "view_provider").post(url).status_code == 403
    client.force_login(User.objects.create_superuser("boss"))
    assert client.get(url).status_code == 200
    assert before == (Provider.objects.values().get(), ProviderHealth.objects.values("state").get())
    assert client.post(url).status_code == 302

    assert before != (Provider.objects.values().get(), ProviderHealth.objects.values("state").get())
    assert LogEntry.objects.count() == 1


def test_open_breaker_is_shown_with_its_reason_and_next_probe(boss):
    provider = ProviderFactory()
    probe = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    ProviderHealth.objects.create(provider=provider, country="UA", state="open", reason="read_timeout", probe_at=probe)

    found = page(boss, f"providers/provider/{provider.pk}/change/")

    assert "read_timeout" in found
    assert "2026-05-04 03:02:01 UTC" in found
    assert "open: UA" in page(boss, "providers/provider/")


# --- prices ---------------------------------------------------------------------------------------


def act(browser, book, verb):
    return browser.post(f"/admin/routing/pricelist/{book.pk}/{verb}/", follow=True).content.decode()


@pytest.fixture
def draft():
    book = PriceListFactory(status="draft", valid_from=datetime(2020, 1, 1, tzinfo=UTC))
    PriceFactory(price_list=book)
    return book


def test_draft_is_activated_from_now_and_then_fixed(boss, draft):
    act(boss, draft, "activate")

    draft.refresh_from_db()
    price = draft.prices.get()
    assert draft.status == "active"
    assert draft.valid_from > datetime.now(UTC) - timedelta(minutes=1)
    assert boss.post(f"/admin/routing/pricelist/{draft.pk}/change/", {"name": "x"}).status_code == 403
    assert boss.post(f"/admin/routing/price/{price.pk}/change/", {"price": "9"}).status_code == 403
    assert boss.post(f"/admin/routing/price/{price.pk}/delete/", {"post": "yes"}).status_code == 403


def test_list_that_an_import_proposes_is_decided_there_alone(boss, draft):
    PriceList.objects.filter(pk=draft.pk).update(status="proposed")

    page = boss.get(f"/admin/routing/pricelist/{draft.pk}/change/").content.decode()

    assert "/export" in page
    assert not [verb for verb in ("activate", "copy", "retire") if f"/{verb}" in page]
    for verb in ("activate", "copy", "retire"):
        act(boss, draft, verb)
    assert list(PriceList.objects.values_list("status", flat=True)) == ["proposed"]
    price = draft.prices.get()
    assert boss.post(f"/admin/routing/price/{price.pk}/change/", {"price": "9"}).status_code == 403
    assert boss.post(f"/admin/routing/pricelist/{draft.pk}/change/", {"name": "x"}).status_code == 403


def test_prices_of_a_draft_can_be_changed_and_added(boss, draft):
    price = draft.prices.get()
    body = {"price_list": draft.pk, "country": "UA", "price": "0.07", "price_delivered": "0", "currency": "EUR"}
    times = {f"valid_{side}_{part}": "" for side in ("from", "to") for part in (0, 1)}

    boss.post(f"/admin/routing/price/{price.pk}/change/", {**body, **times})
    boss.post("/admin/routing/price/add/", {**body, **times, "country": "PL"})

    assert list(draft.prices.values_list("country", "price")) == [("PL", Decimal("0.07")), ("UA", Decimal("0.07"))]


def test_form_of_a_list_saves_only_what_was_changed_in_it(boss, draft, monkeypatch):
    """Somebody activates the list, and another one changes a price of it, while the form is open."""
    body = {"name": "new name", "valid_from_0": "2020-01-01", "valid_from_1": "00:00:00"}
    PriceList.objects.filter(pk=draft.pk).update(editors=[7])
    boss.post(f"/admin/routing/pricelist/{draft.pk}/change/", body)
    draft.refresh_from_db()
    assert (draft.name, draft.editors[0]) == ("new name", 7)

    lock = books.lock_draft
    monkeypatch.setattr(books, "lock_draft", lambda pk, **given: (books.activate(pk), lock(pk, **given)))

    assert boss.post(f"/admin/routing/pricelist/{draft.pk}/change/", {**body, "name": "x"}).status_code == 403
    draft.refresh_from_db()
    assert (draft.name, draft.status) == ("new name", "draft")  # the activation was rolled back with the form


def test_price_stays_in_its_list(boss, draft):
    other = PriceListFactory(status="draft")
    body = {"price_list": other.pk, "country": "UA", "price": "0.07", "price_delivered": "0", "currency": "EUR"}
    times = {f"valid_{side}_{part}": "" for side in ("from", "to") for part in (0, 1)}

    boss.post(f"/admin/routing/price/{draft.prices.get().pk}/change/", {**body, **times})

    assert draft.prices.get().price == Decimal("0.07")


def test_page_of_prices_asks_the_same_however_many_lists_there_are(boss, draft, django_assert_max_num_queries):
    for _ in range(20):
        PriceListFactory(provider=draft.provider, status="draft")

    with django_assert_max_num_queries(25):
        assert boss.get("/admin/routing/price/").status_code == 200


def test_second_price_for_a_place_is_refused_in_plain_words(boss, draft):
    body = {"price_list": draft.pk, "country": "UA", "price": "0.07", "price_delivered": "0", "currency": "EUR"}
    times = {f"valid_{side}_{part}": "" for side in ("from", "to") for part in (0, 1)}

    answer = boss.post("/admin/routing/price/add/", {**body, **times})

    assert "The list has a price for this place and time already." in answer.content.decode()
    assert draft.prices.count() == 1


@pytest.mark.parametrize("country", ["XX", "UK", "001", "ua"])
def test_price_of_a_country_that_does_not_exist_is_refused(boss, draft, country):
    body = {"price_list": draft.pk, "country": country, "price": "0.07", "price_delivered": "0", "currency": "EUR"}
    times = {f"valid_{side}_{part}": "" for side in ("from", "to") for part in (0, 1)}

    boss.post("/admin/routing/price/add/", {**body, **times})

    assert draft.prices.count() == 1


def test_price_cannot_be_added_to_an_active_list(boss):
    book = PriceListFactory()
    body = {"price_list": book.pk, "country": "UA", "price": "0.07", "price_delivered": "0", "currency": "EUR"}

    boss.post("/admin/routing/price/add/", body)

    assert not Price.objects.exists()


def test_change_that_comes_after_activation_is_refused(draft):
    books.activate(draft.pk)

    with pytest.raises(books.Refused, match="not a draft any more"):
        books.lock_draft(draft.pk)


def test_empty_list_is_not_activated(boss):
    book = PriceListFactory(status="draft")

    assert "It has no prices" in act(boss, book, "activate")
    book.refresh_from_db()
    assert book.status == "draft"


def test_two_lists_cannot_begin_at_the_same_moment(draft):
    later = datetime.now(UTC) + timedelta(days=1)
    PriceList.objects.filter(pk=draft.pk).update(valid_from=later)
    PriceListFactory(provider=draft.provider, valid_from=later)

    with pytest.raises(books.Refused, match="same moment"):
        books.activate(draft.pk)


def test_retired_list_hands_back_to_the_one_before(boss):
    book = PriceListFactory()

    act(boss, book, "retire")

    book.refresh_from_db()
    assert book.status == "retired"
    assert "It is retired already" in act(boss, book, "retire")


def test_copy_is_a_draft_with_the_same_prices(boss):
    book = PriceListFactory(name="x" * 80)
    PriceFactory(price_list=book, mcc="255", mnc="01")

    act(boss, book, "copy")

    copy = PriceList.objects.get(status="draft")
    assert (len(copy.name), copy.prices.get().mnc) == (80, "01")


def test_price_list_actions_need_permission(helper, draft):
    for verb in ("activate", "retire", "copy"):
        assert helper.post(f"/admin/routing/pricelist/{draft.pk}/{verb}/").status_code == 403
    draft.refresh_from_db()
    assert draft.status == "draft"


# --- texts ----------------------------------------------------------------------------------------


def test_suppression_is_stored_in_e164(boss):
    boss.post("/admin/messaging/suppression/add/", {"msisdn": "+380 67 123 45 67", "reason": "asked"})
    boss.post("/admin/messaging/suppression/add/", {"msisdn": "067 123 45 68", "reason": "asked"})

    assert [row.msisdn for row in Suppression.objects.all()] == [NUMBER]


def test_template_with_a_wrong_locale_is_refused(boss):
    for locale in ("pt-BR", "português"):
        boss.post("/admin/messaging/template/add/", {"name": "welcome", "locale": locale, "text": "Hello"})

    assert [row.locale for row in Template.objects.all()] == ["pt-BR"]


def test_attempt_is_found_by_the_references_of_both_sides(boss):
    attempt = AttemptFactory(provider_reference="SM123")
    other = AttemptFactory()

    for term in (
        "SM123",
        str(attempt.our_reference),
        attempt.our_reference.hex,
        str(attempt.message_id),
        str(attempt.pk),
    ):
        found = page(boss, "messaging/attempt/", q=term)
        assert str(attempt.pk) in found, term
        assert str(other.pk) not in found, term
    assert Attempt.objects.count() == 2
