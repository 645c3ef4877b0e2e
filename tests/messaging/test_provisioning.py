"""`manage.py provision`: strict about the file, exact about the difference, silent about secrets."""

import copy
import io
import threading
import tomllib
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from messaging.clients import keys, new_token, split_key
from messaging.models import ApiKey, Client, Template
from messaging.provisioning import ProvisioningError, provision
from messaging.provisioning_file import read
from providers.models import Provider
from routing import books
from routing.models import ExchangeRate, Price, PriceList
from routing.order_models import Rule, SenderRegistration
from routing.prices import decimal
from routing.snapshot import tables
from tests.factories import ClientFactory
from tests.messaging.stages import now

pytestmark = pytest.mark.django_db

FILE = """
[[clients]]
slug = "core-backend"
name = "Core backend"
scopes = ["send", "otp", "read", "webhooks"]
api_key = "env:CORE_API_KEY"
[[clients.webhooks]]
url = "https://core.example/hooks"
events = ["message.*"]

[[providers]]
slug = "carrier-a"
adapter = "simulator"
base_url = "http://carriers:18001"
credentials = { token = "env:CARRIER_A_TOKEN" }
rate = 200
enabled = true
resolve = "lookup"
lag = 2.5
[[providers.prices]]
country = "UA"
price = "0.0450"
currency = "EUR"
[[providers.prices]]
country = "UA"
mcc = "255"
mnc = "01"
price = "0.0400"
price_delivered = "0.0050"
currency = "EUR"

[[rates]]
currency = "USD"
rate = "1.0850"

[[templates]]
name = "welcome"
text = "Hello {name}"

[[rules]]
name = "Codes at night"
action = "prefer"
provider = "carrier-a"
client = "core-backend"
class = "otp"
country = "UA"
mcc = "255"
mnc = "01"
sender = "MEXAR"
begins = 22:00:00
ends = 06:00:00

[[rules]]
name = "Not dearer"
action = "ceiling"
ceiling = "0.08"

[[registrations]]
provider = "carrier-a"
country = "UA"
sender = "MEXAR"
state = "approved"
expires_at = 2030-01-31T00:00:00Z
"""
TOKEN = new_token()
ENVIRON = {"CORE_API_KEY": TOKEN, "CARRIER_A_TOKEN": "token-of-a"}


@pytest.fixture
def document():
    return tomllib.loads(FILE)


def id_of(token):
    parts = split_key(token)
    assert parts
    return parts[0]


def run(document, **kwargs):
    return provision(document, environ=ENVIRON, **kwargs)


def problems(document, environ=ENVIRON):
    with pytest.raises(ProvisioningError) as caught:
        provision(document, environ=environ)
    return caught.value.problems


def test_everything_named_is_created(document):
    changes = run(document)

    provider = Provider.objects.get(slug="carrier-a")
    book = provider.price_lists.get()
    assert changes[0] == "+ client core-backend"
    assert (provider.name, provider.rate, provider.resolve, provider.lag) == ("carrier-a", 200, "lookup", 2.5)
    assert provider.read_credentials() == {"token": "token-of-a"}
    assert (book.name, book.status, book.prices.count()) == ("provisioned", "active", 2)
    assert ExchangeRate.objects.get().rate == Decimal("1.0850")
    assert Template.objects.get().text == "Hello {name}"
    assert Rule.objects.get(name="Not dearer").ceiling == Decimal("0.08")
    assert SenderRegistration.objects.get().expires_at == datetime(2030, 1, 31, tzinfo=UTC)
    assert keys.get(fresh=True)[id_of(TOKEN)].caller.slug == "core-backend"


def test_prices_are_in_force_at_once(document):
    run(document)

    route: Any = tables.get(fresh=True).by_slug("carrier-a")
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    quote, _ = route.book(now).price(["UA"], "UA", now)
    assert decimal(quote.total) == Decimal("0.045")


def test_second_run_changes_nothing(document):
    run(document)

    assert run(document) == []
    assert PriceList.objects.count() == ExchangeRate.objects.count() == ApiKey.objects.count() == 1


def test_dry_run_shows_the_same_and_writes_nothing(document):
    shown = run(document, dry_run=True)

    assert not Client.objects.exists()
    assert not Provider.objects.exists()
    assert shown == run(document)


def test_changes_name_the_old_and_the_new_value(document):
    run(document)
    document["clients"][0]["scopes"] = ["send"]
    document["providers"][0] |= {"rate": 500, "enabled": False, "credentials": {"token": "another-token"}}
    document["rates"][0]["rate"] = "1.1"
    document["templates"][0]["text"] = "Hi {name}"
    document["rules"][1] |= {"ceiling": "0.07", "enabled": False}
    document["registrations"][0] |= {"state": "rejected"}

    changes = run(document)

    assert changes == [
        "~ client core-backend: scopes: send otp read webhooks -> send",
        "~ API key of core-backend: scopes: send otp read webhooks -> send",
        "~ provider carrier-a: enabled: True -> False",
        "~ provider carrier-a: rate: 200 -> 500",
        "~ provider carrier-a: new credentials",
        "~ exchange rate USD: 1.085 -> 1.10",
        "~ template welcome (en): text: 'Hello {name}' -> 'Hi {name}'",
        "~ rule Not dearer: ceiling: 0.080000 -> 0.07",
        "~ rule Not dearer: enabled: True -> False",
        "~ registration of MEXAR in UA by carrier-a: state: 'approved' -> 'rejected'",
    ]
    assert Provider.objects.get().read_credentials() == {"token": "another-token"}


def test_limits_of_a_client_are_named_and_changed(document):
    document["clients"][0] |= {"rate_limit": 100, "daily_quota": 50_000}
    run(document)
    document["clients"][0]["daily_quota"] = 60_000

    assert run(document) == ["~ client core-backend: daily_quota: 50000 -> 60000"]
    client = Client.objects.get()
    assert (client.rate_limit, client.daily_quota) == (100, 60_000)


def test_rule_is_set_whole_and_kept_as_staff_switched_it(document):
    run(document)
    Rule.objects.filter(name="Codes at night").update(enabled=False)
    for key in ("begins", "ends", "mnc", "client"):
        del document["rules"][0][key]

    changes = run(document)

    assert changes == [
        "~ rule Codes at night: client: 'core-backend' -> ''",
        "~ rule Codes at night: mnc: '01' -> ''",
        "~ rule Codes at night: begins: 22:00:00 -> None",
        "~ rule Codes at night: ends: 06:00:00 -> None",
    ]
    assert not Rule.objects.get(name="Codes at night").enabled


def test_rules_and_registrations_count_at_once(document):
    run(document)

    found = tables.get(fresh=True)
    assert {rule.name for rule in found.rules} == {"Codes at night", "Not dearer"}
    assert next(iter(found.registrations.values()))["MEXAR"].state == "approved"


@pytest.mark.parametrize("level", ["", "cyrillic"])
def test_transliteration_of_a_client_is_set(document, level):
    document["clients"][0]["transliteration"] = level

    run(document)

    assert Client.objects.get().transliteration == level


def test_floor_and_warning_of_a_balance_are_set(document):
    document["providers"][0] |= {"balance_floor": "20", "balance_warning": "100.50"}

    run(document)

    provider = Provider.objects.get()
    assert (provider.balance_floor, provider.balance_warning) == (20, Decimal("100.5"))
    assert run(document) == []


@pytest.mark.parametrize("limit", [0, -1, 1.5, "100", True, 3_000_000_000])
def test_limit_that_cannot_be_is_told(document, limit):
    document["clients"][0]["daily_quota"] = limit

    (problem,) = problems(document)
    assert problem.startswith("clients[core-backend].daily_quota: must be a whole number from 1 to")


def test_changed_prices_make_a_new_book_and_keep_the_old_one(document):
    run(document)
    document["providers"][0]["prices"] = [
        {"country": "UA", "price": "0.0470", "currency": "EUR"},
        {"country": "PL", "price": "0.05", "currency": "EUR"},
    ]

    changes = run(document)

    newest, oldest = PriceList.objects.order_by("-valid_from")
    assert changes == [
        "+ price carrier-a PL: 0.05 EUR",
        "~ price carrier-a UA: 0.045 EUR -> 0.047 EUR",
        "- price carrier-a UA 255-01: 0.04 + 0.005 on delivery EUR",
    ]
    assert (newest.prices.count(), oldest.prices.count()) == (2, 2)
    assert oldest.prices.get(mcc="").price == Decimal("0.045")
    assert run(document) == []


@pytest.mark.django_db(transaction=True)
def test_who_changes_the_list_in_force_waits_for_provisioning_to_end_and_the_other_way_round(document):
    """So neither is compared with a list that is over."""
    run(document)
    provider, first = Provider.objects.get(slug="carrier-a"), PriceList.objects.get()
    document["providers"][0]["prices"][0]["price"] = "0.0470"
    begins = []

    def other():
        try:
            run(document)
            begins.append(PriceList.objects.get(pk=books.in_force(provider.pk, now())).valid_from)
        finally:
            connection.close()

    thread = threading.Thread(target=other)
    with transaction.atomic():
        books.hold(provider.pk)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        activated = books.activate(books.copy_as_draft(first.pk).pk)
    thread.join(20)

    assert begins[0] > activated.valid_from


def test_book_that_staff_activated_is_what_the_file_is_compared_with(document):
    run(document)
    draft = books.copy_as_draft(PriceList.objects.get().pk)
    draft.prices.filter(mcc="").update(price=Decimal("0.05"))
    draft.prices.filter(mcc="255").delete()
    books.activate(draft.pk)

    changes = run(document)

    assert changes == [
        "~ price carrier-a UA: 0.05 EUR -> 0.045 EUR",
        "+ price carrier-a UA 255-01: 0.04 + 0.005 on delivery EUR",
    ]
    assert PriceList.objects.order_by("-valid_from").first().name == "provisioned"
    assert run(document) == []


def test_book_of_staff_with_the_same_prices_is_left_in_force(document):
    run(document)
    book = books.activate(books.copy_as_draft(PriceList.objects.get().pk).pk)
    ended = now() - timedelta(days=1)
    Price.objects.create(price_list=book, country="PL", price=Decimal("0.01"), currency="EUR", valid_to=ended)

    assert run(document) == []


def test_book_that_begins_later_does_not_count_yet(document):
    run(document)
    later = books.copy_as_draft(PriceList.objects.get().pk)
    PriceList.objects.filter(pk=later.pk).update(valid_from=now() + timedelta(days=1))
    later.prices.update(price=Decimal("0.09"))
    books.activate(later.pk)

    assert run(document) == []


def test_one_price_is_counted_as_one(document):
    del document["providers"][0]["prices"][1]

    assert "+ 1 price of carrier-a" in run(document)


def test_what_the_file_does_not_name_is_left_alone(document):
    run(document)
    ClientFactory(slug="another")
    Provider.objects.update(sender="MEXAR", name="Carrier A")
    for key in ("rate", "prices", "lag"):
        del document["providers"][0][key]

    assert run(document) == []
    provider = Provider.objects.get()
    assert (provider.sender, provider.name, provider.rate) == ("MEXAR", "Carrier A", 200)
    assert Price.objects.count() == 2


def test_missing_key_is_generated_and_shown_once(document):
    del document["clients"][0]["api_key"]

    dry = run(document, dry_run=True)
    first, second = run(document), run(document)

    (line,) = [line for line in first if "API key" in line]
    assert ApiKey.objects.get().pk == id_of(line.rpartition(" ")[2])
    assert second == []
    assert "mx_live_" not in "\n".join(dry)


def test_secrets_are_in_no_output(document):
    lines = run(document)
    document["providers"][0]["credentials"] = {"token": "another-token"}
    lines += run(document)
    del document["providers"][0]["credentials"]["token"]
    document["providers"][0]["credentials"]["tokken"] = "another-token"
    document["clients"][0]["api_key"] = "half-a-secret"
    lines += problems(document)

    for secret in (TOKEN[-43:], "token-of-a", "another-token", "half-a-secret"):
        assert secret not in "\n".join(lines)


def test_every_mistake_is_told_at_once_with_its_place(document):
    document["colour"] = "red"
    client, provider = document["clients"][0], document["providers"][0]
    client |= {"scopes": ["send", "fly"], "sender": "far too long a sender", "nmae": "x"}
    client["webhooks"][0] |= {"url": "ftp://core.example", "events": "message.*"}
    provider |= {"rate": True, "enabled": "yes", "resolve": "luck", "lag": -1, "base_url": "carriers:18001"}
    provider["credentials"] = {"password": "x"}
    provider["prices"] = [
        {"country": "UK", "price": "0.05", "currency": "EUR"},
        {"country": "UA", "price": 0.05, "currency": "eur"},
        {"country": "UA", "price": "-1", "currency": "EUR", "mnc": "01"},
        {"country": "UA", "price": "1", "currency": "EUR", "prefix": "67"},
        {"country": "PL", "price": "1", "currency": "EUR"},
        {"country": "PL", "price": "2", "currency": "EUR"},
        "UA",
    ]
    document["rates"][0] |= {"currency": "EUR", "rate": "0"}
    document["templates"].append(dict(document["templates"][0]))
    document["rules"][0] |= {"class": "fast", "mcc": "", "weight": 70, "begins": "22:00", "country": "UK"}
    document["rules"].append({"name": "x", "action": "weight", "begins": time(8), "ends": time(8)})
    document["registrations"][0] |= {"expires_at": datetime(2030, 1, 1), "state": "perhaps"}

    found = problems(document)

    assert {line.partition(": ")[0] for line in found} == {
        "colour",
        "clients[core-backend].nmae",
        "clients[core-backend].scopes",
        "clients[core-backend].sender",
        "clients[core-backend].webhooks[1].url",
        "clients[core-backend].webhooks[1].events",
        "providers[carrier-a].rate",
        "providers[carrier-a].enabled",
        "providers[carrier-a].resolve",
        "providers[carrier-a].lag",
        "providers[carrier-a].base_url",
        "providers[carrier-a].credentials.token",
        "providers[carrier-a].credentials.password",
        "providers[carrier-a].prices[1].country",
        "providers[carrier-a].prices[2].price",
        "providers[carrier-a].prices[2].currency",
        "providers[carrier-a].prices[3].price",
        "providers[carrier-a].prices[3].mnc",
        "providers[carrier-a].prices[4].prefix",
        "providers[carrier-a].prices[6]",
        "providers[carrier-a].prices[7]",
        "rates[1].currency",
        "rates[1].rate",
        "templates",
        "rules[1].class",
        "rules[1].country",
        "rules[1].mnc",
        "rules[1].weight",
        "rules[1].begins",
        "rules[3].provider",
        "rules[3].weight",
        "rules[3].ends",
        "registrations[1].expires_at",
        "registrations[1].state",
    }
    assert not Client.objects.exists()
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    ("kind", "change", "place"),
    [
        ("providers", {"adapter": "pigeon"}, "providers[carrier-a].adapter"),
        ("providers", {"slug": 7}, "providers[1].slug"),
        ("providers", {"sender": "A\x00B"}, "providers[carrier-a].sender"),
        ("templates", {"text": "Hello {Name}"}, "templates[1].text"),
        ("clients", {"name": "x" * 81}, "clients[core-backend].name"),
        ("clients", {"name": ""}, "clients[core-backend].name"),
        ("clients", {"api_key": "env:NOWHERE"}, "clients[core-backend].api_key"),
        ("clients", {"webhooks": {}}, "clients[core-backend].webhooks"),
        ("clients", {"transliteration": "latin"}, "clients[core-backend].transliteration"),
        ("rules", {"action": "like"}, "rules[1].action"),
        ("rules", {"ceiling": "0.1"}, "rules[1].ceiling"),
    ],
)
def test_one_mistake_is_one_line(document, kind, change, place):
    document[kind][0] |= change

    (line,) = problems(document)

    assert line.startswith(f"{place}: ")


@pytest.mark.parametrize(("kind", "key"), [("clients", "scopes"), ("providers", "adapter"), ("templates", "text")])
def test_missing_key_is_told(document, kind, key):
    del document[kind][0][key]

    assert [line.endswith(f".{key}: is missing") for line in problems(document)] == [True]


def test_example_in_the_documentation_is_right():
    page = Path(__file__).parents[2].joinpath("docs", "routing.md").read_text()
    example = page.split("```toml")[1].split("```")[0]

    assert read(tomllib.loads(example))[1] == []


def test_environment_variable_that_is_not_set_is_named(document):
    assert problems(document, {"CARRIER_A_TOKEN": "x"}) == [
        "clients[core-backend].api_key: the environment variable CORE_API_KEY is not set"
    ]


def test_name_that_is_there_twice_is_refused(document):
    document["clients"].append(copy.deepcopy(document["clients"][0]))

    assert problems(document) == ["clients: core-backend is there twice"]


def test_revoked_key_is_not_brought_back_and_nothing_else_is_written(document):
    run(document)
    ApiKey.objects.update(revoked_at=datetime.now(UTC) - timedelta(minutes=1))
    document["providers"][0]["rate"] = 999

    assert problems(document) == ["clients[core-backend].api_key: this key was revoked or has expired"]
    assert Provider.objects.get().rate == 200


def test_key_of_another_client_is_refused(document):
    run(document)
    document["clients"][0]["slug"] = "thief"

    assert problems(document) == ["clients[thief].api_key: another key has the same id"]


def test_template_of_an_unknown_client_is_refused(document):
    document["templates"][0]["client"] = "nobody"

    assert problems(document) == ["template welcome (en) of nobody: there is no client nobody"]


def test_what_the_order_names_must_be_there(document):
    document["rules"][0] |= {"provider": "carrier-x", "client": "nobody"}
    document["registrations"][0]["provider"] = "carrier-x"

    assert problems(document) == [
        "rule Codes at night: there is no provider carrier-x",
        "rule Codes at night: there is no client nobody",
        "registration of MEXAR in UA by carrier-x: there is no provider carrier-x",
    ]
    assert not Rule.objects.exists()


def test_credentials_that_cannot_be_read_are_written_anew(document, settings):
    run(document)
    Provider.objects.update(credentials="v1.1.AAAA")

    assert run(document) == ["~ provider carrier-a: new credentials"]


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_make_one_book_and_one_key(document):
    del document["clients"][0]["api_key"]
    lines, gate = [], threading.Barrier(4)

    def both():
        gate.wait()
        lines.append(run(document))
        connection.close()

    threads = [threading.Thread(target=both) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(map(bool, lines)) == [False, False, False, True]
    assert PriceList.objects.count() == ApiKey.objects.count() == 1


def test_command_prints_the_difference_then_no_changes(tmp_path, monkeypatch):
    path = tmp_path / "file.toml"
    path.write_text(FILE)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    first, second = io.StringIO(), io.StringIO()

    call_command("provision", str(path), stdout=first)
    call_command("provision", str(path), "--dry-run", stdout=second)

    assert "+ provider carrier-a\n+ 2 prices of carrier-a\n" in first.getvalue()
    assert second.getvalue() == "no changes\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[clients]\n", "line 1"),
        ('[[clients]]\nslug = "a"\n', r"clients\[a\].scopes: is missing"),
        (None, "No such file"),
    ],
)
def test_command_refuses_with_the_file_and_the_reason(tmp_path, content, words):
    path = tmp_path / "file.toml"
    if content is not None:
        path.write_text(content)

    with pytest.raises(CommandError, match=words) as caught:
        call_command("provision", str(path))

    assert str(path) in str(caught.value)


def test_create_key_prints_a_token_that_works(client_row):
    out = io.StringIO()

    call_command("create_key", client_row.slug, "--scope", "read", "--cidr", "10.0.0.0/8", "--days", "30", stdout=out)

    key = keys.get(fresh=True)[id_of(out.getvalue().strip())]
    assert key.caller.scopes == {"read"}
    assert [str(network) for network in key.networks] == ["10.0.0.0/8"]
    assert key.expires_at is not None
    assert key.expires_at > datetime.now(UTC) + timedelta(days=29)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "no client"),
        (["core", "--scope", "otp"], "does not have the scope otp"),
        (["core", "--days", "0"], "--days"),
        (["core", "--cidr", "10.0.0.1/8"], "host bits"),
    ],
)
def test_create_key_refuses(arguments, words):
    ClientFactory(slug="core", scopes=["send"])

    with pytest.raises(CommandError, match=words):
        call_command("create_key", *arguments)
    assert not ApiKey.objects.exists()
