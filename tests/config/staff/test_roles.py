"""The roles that every installation has."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command

from config.staff import roles

pytestmark = pytest.mark.django_db

SECRET = {"messaging.view_full_number", "messaging.view_text", "routing.approve_pricelist", "messaging.add_apikey"}


@pytest.fixture(autouse=True)
def _complete():
    migrate()


def migrate(**kwargs):
    roles.complete(None, using="default", **{"plan": [], **kwargs})


def of(name):
    user = User.objects.create_user(f"of-{name}", is_staff=True)
    user.groups.add(Group.objects.get(name=name))
    return user


def test_every_permission_that_a_role_names_exists():
    known = {f"{p.content_type.app_label}.{p.codename}" for p in Permission.objects.select_related("content_type")}
    named = {name for patterns in roles.ROLES.values() for name in patterns if "*" not in name}

    assert named <= known


@pytest.mark.parametrize(
    ("role", "secret"),
    [
        ("support", {"messaging.view_full_number"}),
        ("pricing", {"routing.approve_pricelist"}),
        ("operations", {"messaging.add_apikey"}),
        ("auditor", set()),
    ],
)
def test_what_is_delicate_is_given_on_purpose(role, secret):
    user = of(role)

    assert {name for name in SECRET if user.has_perm(name)} == secret


def test_an_auditor_sees_all_and_changes_nothing():
    found = of("auditor").get_all_permissions()

    assert {name.partition(".")[2].partition("_")[0] for name in found} == {"view"}
    assert {"messaging.view_apikey", "providers.view_provider", "auth.view_user", "routing.view_price"} <= found


def test_nobody_but_an_administrator_makes_staff():
    for role in roles.ROLES:
        assert not {name for name in of(role).get_all_permissions() if name.startswith("auth.") and "view" not in name}


def test_it_is_idempotent_and_takes_nothing_away():
    extra = Permission.objects.get(codename="view_text")
    group = Group.objects.get(name="support")
    group.permissions.add(extra)
    before = set(group.permissions.all())

    migrate()

    assert set(group.permissions.all()) == before
    assert Group.objects.filter(name__in=roles.ROLES).count() == len(roles.ROLES) == 4


def test_a_model_that_is_added_comes_to_the_roles_of_its_app():
    kind = ContentType.objects.create(app_label="routing", model="novelty")
    for verb in ("view", "change"):
        Permission.objects.create(content_type=kind, codename=f"{verb}_novelty", name=verb)
    Permission.objects.create(content_type=kind, codename="view_all_secrets", name="x")

    migrate()

    assert {p for p in of("pricing").get_all_permissions() if "novelty" in p or "secrets" in p} == {
        "routing.view_novelty",
        "routing.change_novelty",
    }
    assert {p for p in of("auditor").get_all_permissions() if "novelty" in p or "secrets" in p} == {
        "routing.view_novelty"
    }


def test_every_migrate_completes_them():
    Group.objects.get(name="pricing").permissions.clear()

    call_command("migrate", verbosity=0)

    assert of("pricing").has_perm("routing.approve_pricelist")


def test_an_emptied_database_stays_empty():
    Group.objects.all().delete()

    roles.complete(None, using="default", apps=apps)

    assert not Group.objects.exists()


@pytest.mark.parametrize("role", roles.ROLES)
def test_each_role_opens_the_admin(client, plain_static_files, role, settings):
    settings.STAFF_TOTP = False
    client.force_login(of(role))

    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/messaging/message/").status_code == 200
    assert client.get("/admin/auth/user/add/").status_code == 403


def test_groups_show_them(boss, settings):
    settings.STAFF_TOTP = False
    text = boss.get("/admin/auth/group/").content.decode()

    assert all(name in text for name in roles.ROLES)
