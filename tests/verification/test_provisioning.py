"""`[[clients.profiles]]` of a provisioning file: as strict as the model, exact about the difference."""

import tomllib

import pytest
from django.core.exceptions import ValidationError

from messaging.models import Client
from messaging.provisioning import ProvisioningError, provision
from tests.conftest import caller_for
from verification import profiles
from verification.models import Profile
from verification.profiles import DEFAULTS

pytestmark = pytest.mark.django_db

CLIENT = """
[[clients]]
slug = "core-backend"
scopes = ["otp"]
"""
FULL = {
    "purpose": "payment",
    "name": "high_value",
    "enabled": True,
    "code_length": 10,
    "ttl_seconds": 120,
    "max_checks": 3,
    "max_sends": 2,
    "cooldowns": [60, 120],
    "receipt_wait_seconds": 10,
    "template": "code_payment",
    "locale": "uk",
    "sender": "MEXAR",
    "countries": ["UA", "PL"],
    "number_types": ["mobile"],
    "code_per_attempt": True,
    "context_fields": ["amount", "currency", "payee"],
    "webotp_host": "app.example.com",
    "app_hash": "FA+9qCX9VSu",
    "monitor_only": False,
    "accept_risk": False,
}


def document(*found):
    data = tomllib.loads(CLIENT)
    data["clients"][0]["profiles"] = [dict(one) for one in found]
    return data


def run(*found, **options):
    return [line for line in provision(document(*found), environ={}, **options) if "profile" in line]


def problems(*found):
    with pytest.raises(ProvisioningError) as caught:
        run(*found)
    return caught.value.problems


def test_every_field_can_be_set():
    changes = run(FULL)

    row = Profile.objects.get()
    assert changes == ["+ profile payment high_value of core-backend"]
    assert {name: getattr(row, name) for name in FULL} == FULL
    assert FULL.keys() - {"purpose", "name"} == profiles.Policy.__dataclass_fields__.keys()
    row.full_clean()


def test_it_holds_at_once():
    run({"purpose": "login", "max_checks": 2})

    caller = caller_for(Client.objects.get())
    assert profiles.profiles.get(fresh=True)[caller.id, "login", ""].max_checks == 2
    assert profiles.find(caller, "login").max_checks == 2


def test_second_run_changes_nothing():
    run(FULL)

    assert run(FULL) == []
    assert run() == []
    assert Profile.objects.count() == 1


def test_dry_run_shows_the_same_and_writes_nothing():
    shown = run(FULL, dry_run=True)

    assert not Profile.objects.exists()
    assert shown == run(FULL)


def test_changes_name_the_old_and_the_new_value():
    run({"purpose": "login"})

    changes = run(
        {"purpose": "login", "max_checks": 3, "cooldowns": [45], "receipt_wait_seconds": 0, "countries": ["UA"]}
    )

    assert changes == [
        "~ profile login of core-backend: max_checks: 5 -> 3",
        "~ profile login of core-backend: cooldowns: 30 60 120 240 -> 45",
        "~ profile login of core-backend: countries: none -> UA",
        "~ profile login of core-backend: receipt_wait_seconds: 20 -> None",
    ]


def test_what_the_file_does_not_name_is_left_alone():
    run({"purpose": "login", "max_checks": 3})

    run({"purpose": "login", "max_sends": 2})

    assert (Profile.objects.get().max_checks, Profile.objects.get().max_sends) == (3, 2)


@pytest.mark.parametrize("purpose", DEFAULTS)
def test_a_new_profile_is_the_default_with_what_the_file_changes(purpose):
    run({"purpose": purpose})

    assert profiles.policy_of(Profile.objects.get()) == DEFAULTS[purpose]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("purpose", "Login"),
        ("purpose", ""),
        ("purpose", 1),
        ("name", "High Value"),
        ("enabled", 1),
        ("code_length", 3),
        ("code_length", 11),
        ("code_length", "6"),
        ("code_length", True),
        ("ttl_seconds", 29),
        ("ttl_seconds", 601),
        ("max_checks", 0),
        ("max_checks", 11),
        ("max_sends", 0),
        ("max_sends", 11),
        ("cooldowns", []),
        ("cooldowns", [0]),
        ("cooldowns", [601]),
        ("cooldowns", [True]),
        ("cooldowns", ["30"]),
        ("cooldowns", [30] * 11),
        ("cooldowns", 30),
        ("receipt_wait_seconds", 2),
        ("receipt_wait_seconds", 301),
        ("receipt_wait_seconds", -1),
        ("template", "../code"),
        ("locale", "english please"),
        ("locale", "en-" + "aa-" * 10),
        ("sender", "TWELVELETTER"),
        ("countries", ["Ukraine"]),
        ("countries", ["ua"]),
        ("number_types", []),
        ("number_types", ["fax"]),
        ("code_per_attempt", "yes"),
        ("context_fields", ["fee"]),
        ("webotp_host", "https://app.example.com"),
        ("webotp_host", "localhost"),
        ("app_hash", "short"),
        ("monitor_only", "no"),
        ("accept_risk", 0),
        ("codelength", 6),
    ],
)
def test_one_mistake_is_one_line_with_its_place(name, value):
    (problem,) = problems(FULL | {name: value})

    assert problem.startswith(f"clients[core-backend].profiles[1].{name}: ")
    assert not Profile.objects.exists()


def test_all_mistakes_are_told_at_once():
    found = problems({"purpose": "login", "code_length": 3, "max_checks": 50}, {"name": "x", "colour": "red"})

    assert [problem.split(": ")[0] for problem in found] == [
        "clients[core-backend].profiles[1].code_length",
        "clients[core-backend].profiles[1].max_checks",
        "clients[core-backend].profiles[2].purpose",
        "clients[core-backend].profiles[2].colour",
    ]


def test_a_profile_that_is_there_twice():
    found = problems({"purpose": "login"}, {"purpose": "login", "name": "x"}, {"purpose": "login"})

    assert found == ["clients[core-backend].profiles[3]: login is there twice"]


def test_a_code_that_is_easily_guessed_needs_its_risk_accepted():
    weak = {"purpose": "login", "code_length": 4}

    assert problems(weak) == [
        "clients[core-backend].profiles[1].accept_risk: must be true, since a code is guessed with a chance of 500 "
        "in a million (at most 20 otherwise)"
    ]
    assert not Profile.objects.exists()
    assert run(weak | {"accept_risk": True}) == ["+ profile login of core-backend"]


def test_the_risk_is_that_of_the_whole_profile():
    run({"purpose": "login", "max_checks": 10})

    assert "accept_risk" in problems({"purpose": "login", "code_per_attempt": True})[0]


def test_the_limits_are_those_of_the_model():
    run(FULL)
    row = Profile.objects.get()

    for name, value in (
        ("code_length", 11),
        ("ttl_seconds", 29),
        ("receipt_wait_seconds", 2),
        ("webotp_host", "localhost"),
    ):
        good = getattr(row, name)
        setattr(row, name, value)
        with pytest.raises(ValidationError):
            row.full_clean()
        setattr(row, name, good)
