"""What opens the admin, and what does not."""

import re
import threading

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import get_resolver, reverse
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from config.staff import second_step
from config.staff.models import Authenticator, RecoveryCodes, encrypt_anew
from providers.credentials import KEY_BYTES, CredentialsError
from tests.config.staff import PASSWORD, code, with_device, wrong
from tests.verification.test_checks import deploy

CODE, SET_UP, ACCOUNT = "/admin/second-step/", "/admin/second-step/set-up/", "/admin/second-step/account/"

pytestmark = pytest.mark.django_db


def sign_in(client, name="alice", then="/admin/"):
    return client.post(f"/admin/login/?next={then}", {"username": name, "password": PASSWORD})


def present(client, given, then=""):
    return client.post(CODE, {"code": given, "next": then})


def is_open(client):
    return client.get("/admin/messaging/message/").status_code == 200


def names():
    """Every address below /admin that needs no argument, and some that do."""
    found = [name for name in get_resolver().namespace_dict["admin"][1].reverse_dict if isinstance(name, str)]
    for name in found:
        for args in ([], [1], [1, "map"], ["auth"]):
            try:
                yield reverse(f"admin:{name}", args=args)
            except Exception:  # noqa: S112
                continue


def test_the_password_alone_opens_no_page(client, alice):
    with_device(alice)
    sign_in(client)
    paths = {*names(), ACCOUNT, "/admin/none/"} - {reverse("admin:login"), reverse("admin:logout")}

    answers = {path: client.get(path) for path in paths}

    assert len(paths) > 120
    assert {answer.status_code for answer in answers.values()} == {302}
    assert {answer.url.partition("?")[0] for answer in answers.values()} == {CODE}


def test_the_password_alone_changes_nothing(client, alice):
    with_device(alice)
    sign_in(client)

    answer = client.post("/admin/messaging/client/add/", {"slug": "mine", "name": "Mine"})

    assert (answer.status_code, answer.url) == (302, CODE)


def test_nobody_is_asked_for_a_code_before_the_password(client, alice):
    with_device(alice)

    for path in (CODE, SET_UP, ACCOUNT):
        assert client.get(path, follow=True).request["PATH_INFO"] == "/admin/login/"


def test_a_code_opens_the_page_that_was_asked_for(client, alice):
    device, _ = with_device(alice)
    answer = sign_in(client, then="/admin/messaging/client/?q=1")
    answer = client.get(answer.url)
    then = re.search('name="next" value="([^"]+)"', client.get(answer.url).content.decode())[1]

    answer = present(client, f" {code(device)[:3]} {code(device)[3:]} ", then)

    assert (answer.status_code, answer.url) == (302, "/admin/messaging/client/?q=1")
    assert is_open(client)


@pytest.mark.parametrize("then", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_no_code_leads_to_another_site(client, alice, then):
    device, _ = with_device(alice)
    sign_in(client)

    assert present(client, code(device), then).url == "/admin/"


def test_who_knew_the_session_of_the_password_has_not_the_one_of_the_code(client, alice):
    device, _ = with_device(alice)
    sign_in(client)
    before = client.session.session_key

    present(client, code(device))

    assert client.session.session_key != before
    assert not Session.objects.filter(pk=before).exists()


def test_the_password_once_more_asks_for_the_code_once_more(client, alice):
    """Or whoever sits at an open session would prolong it with the password alone."""
    device, _ = with_device(alice)
    sign_in(client)
    present(client, code(device))
    assert is_open(client)

    sign_in(client)

    assert not is_open(client)


def test_late_codes_do_not_move_the_window(client, alice):
    device, _ = with_device(alice)

    accepted = []
    for ahead in (1, 2, 3):
        sign_in(client)
        Authenticator.objects.update(throttling_failure_timestamp=None)
        present(client, code(device, ahead))
        accepted.append(is_open(client))

    assert accepted == [True, False, False]


def test_key_that_cannot_be_read_is_drawn_anew(client, alice):
    """While it is set up: its key ring may have lost the old key in between."""
    sign_in(client)
    client.get(SET_UP)
    Authenticator.objects.update(key="damaged")

    assert client.get(SET_UP).status_code == 200


def test_a_code_counts_once(client, alice):
    device, _ = with_device(alice)
    used = code(device)
    sign_in(client)
    present(client, used)
    thief = Client()
    sign_in(thief)

    answer = present(thief, used)

    assert "This code is not right" in answer.content.decode()
    assert not is_open(thief)


def test_a_wrong_code_makes_wait_and_the_right_one_too(client, alice):
    device, _ = with_device(alice)
    sign_in(client)

    wrong_one, right_one = present(client, wrong(device)), present(client, code(device))

    assert "This code is not right" in wrong_one.content.decode()
    assert "After wrong codes there is a pause: 1 s more." in right_one.content.decode()
    assert not is_open(client)


def test_a_recovery_code_opens_once_in_whatever_way_it_is_written(client, alice):
    _, codes = with_device(alice)
    sign_in(client)

    answer = client.post(CODE, {"code": codes[3].upper().replace("-", " ")}, follow=True)

    assert "a recovery code, 9 are left" in answer.content.decode()
    again = Client()
    sign_in(again)
    assert "This code is not right" in present(again, codes[3]).content.decode()


def test_a_recovery_code_allows_another_authenticator_at_once(client, alice):
    old, codes = with_device(alice)
    sign_in(client)
    present(client, codes[0])
    client.get(SET_UP)
    new = Authenticator.objects.get(confirmed=False)

    client.post(SET_UP, {"code": code(new)})

    assert [device.pk for device in Authenticator.objects.all()] == [new.pk]
    assert new.bin_key != old.bin_key
    assert is_open(client)


def test_who_has_no_authenticator_sets_one_up(client, alice):
    answer = client.get(sign_in(client).url, follow=True)
    page = answer.content.decode()
    assert answer.request["PATH_INFO"] == SET_UP
    device = Authenticator.objects.get()
    assert "<svg" in page
    assert device.key_text in page
    assert len(device.key_text.replace(" ", "")) == 32

    answer = client.post(SET_UP, {"code": code(device), "next": "/admin/messaging/client/"})

    codes = re.findall("<li><code>([a-z2-7]{4}(?:-[a-z2-7]{4}){3})</code>", answer.content.decode())
    assert len(set(codes)) == 10
    assert 'href="/admin/messaging/client/"' in answer.content.decode()
    assert is_open(client)
    assert [entry.change_message for entry in LogEntry.objects.filter(user=alice)] == [
        "Second step: an authenticator and recovery codes were set up."
    ]


def test_setting_up_needs_a_right_code(client, alice):
    sign_in(client)
    client.get(SET_UP)
    device = Authenticator.objects.get()

    answer = client.post(SET_UP, {"code": wrong(device)})

    assert "This code is not right" in answer.content.decode()
    assert device.key_text in answer.content.decode()
    assert not is_open(client)


def test_two_sessions_never_see_the_same_key(client, alice):
    other = Client()
    sign_in(client)
    sign_in(other)

    client.get(SET_UP)
    other.get(SET_UP)
    client.get(SET_UP)

    first, second = Authenticator.objects.all()
    assert first.bin_key != second.bin_key


def test_who_only_has_the_password_cannot_replace_the_authenticator(client, alice):
    """The thief opened the page before the owner had set up the first one."""
    thief = Client()
    sign_in(thief)
    thief.get(SET_UP)
    draft = Authenticator.objects.get()
    sign_in(client)
    client.get(SET_UP)
    client.post(SET_UP, {"code": code(Authenticator.objects.exclude(pk=draft.pk).get())})

    answer = thief.post(SET_UP, {"code": code(draft)}, follow=True)

    assert answer.request["PATH_INFO"] == "/admin/login/"
    with pytest.raises(second_step.Refused, match="Another session"):
        second_step.confirm(alice, draft.pk, code(draft), replace=False)


def test_the_account_page_replaces_the_authenticator_and_ends_other_sessions(client, alice):
    device, _ = with_device(alice)
    other = Client()
    sign_in(other)
    present(other, code(device, -1))
    sign_in(client)
    present(client, code(device))
    assert is_open(client)
    assert client.get(SET_UP).url == ACCOUNT

    answer = client.post(ACCOUNT, {"code": code(device, 1), "what": "authenticator"})
    client.get(answer.url)
    answer = client.post(SET_UP, {"code": code(Authenticator.objects.get(confirmed=False))})

    assert "Recovery codes" in answer.content.decode()
    assert is_open(client)
    assert other.get("/admin/").url.startswith("/admin/login/")
    assert client.get(SET_UP).url == ACCOUNT


def test_the_account_page_makes_new_recovery_codes(client, alice):
    device, old = with_device(alice)
    sign_in(client)
    present(client, code(device))

    refused = client.post(ACCOUNT, {"code": wrong(device), "what": "codes"})
    Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    answer = client.post(ACCOUNT, {"code": code(device, 1), "what": "codes"})

    assert "This code is not right" in refused.content.decode()
    new = re.findall("<li><code>([^<]+)", answer.content.decode())
    assert len(new) == 10
    assert not set(new) & set(old)
    with pytest.raises(second_step.Refused):
        second_step.present(alice, old[0])
    assert "10 recovery codes are left" in client.get(ACCOUNT).content.decode()


def test_another_members_code_does_not_count(client, alice, django_user_model):
    with_device(alice)
    bob = django_user_model.objects.create_superuser("bob", password=PASSWORD)
    device, codes = with_device(bob)
    Authenticator.objects.filter(user=alice).delete()
    own = Authenticator(user=alice, name="authenticator")
    own.set_key(b"a" * 20)
    own.save()
    sign_in(client)

    present(client, codes[0])

    assert not is_open(client)
    with pytest.raises(CredentialsError):  # a row that is copied to another user opens nothing
        Authenticator(user=alice, key=device.key).bin_key  # noqa: B018


@pytest.mark.django_db(transaction=True)
def test_of_two_that_present_the_same_recovery_code_one_is_let_in(alice):
    _, codes = with_device(alice)
    found, barrier = [], threading.Barrier(4)

    def run():
        barrier.wait()
        try:
            found.append(second_step.present(alice, codes[0]))
        except second_step.Refused:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 1


def test_a_copy_of_the_tables_tells_neither_key_nor_codes(alice):
    device, codes = with_device(alice)

    stored = TOTPDevice.objects.get().key + "".join(StaticToken.objects.values_list("token", flat=True))

    assert device.bin_key.hex() not in stored
    assert not any(code.replace("-", "") in stored.lower() for code in codes)
    assert len(device.key) <= 80


def test_no_line_of_the_log_tells_a_key_or_a_code(client, alice, lines):
    sign_in(client)
    client.get(SET_UP)
    device = Authenticator.objects.get()
    tried, right = wrong(device), code(device)
    client.post(SET_UP, {"code": tried})
    Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    answer = client.post(SET_UP, {"code": right})
    codes = re.findall("<li><code>([^<]+)", answer.content.decode())
    other = Client()
    sign_in(other)
    present(other, codes[0])

    assert lines.of("Second step: a recovery code was used.")[0]["user_id"] == alice.pk
    assert not any(told in lines.text for told in (PASSWORD, tried, right, device.key, device.key_text, *codes))


def test_devices_are_in_no_admin_page():
    assert not {TOTPDevice, StaticDevice, Authenticator, RecoveryCodes} & set(admin.site._registry)


def test_pages_with_secrets_are_kept_by_no_cache(client, alice):
    sign_in(client)

    assert "no-store" in client.get(SET_UP)["Cache-Control"]


def test_keys_go_over_to_a_new_ring(alice, settings):
    device, _ = with_device(alice)
    old = settings.CREDENTIALS_KEYS
    new = f"999999999:{'A' * 43}="
    settings.CREDENTIALS_KEYS = f"{new},{old}"

    assert list(encrypt_anew()) == [f"authenticator {device.pk}"]
    assert list(encrypt_anew()) == []

    settings.CREDENTIALS_KEYS = new
    found = Authenticator.objects.get()
    assert found.bin_key == b"k" * 20
    assert len(found.key) <= 80
    assert KEY_BYTES == 32


def test_a_key_that_is_gone_from_the_ring_leaves_the_recovery_codes(client, alice, settings, lines):
    device, codes = with_device(alice)
    right = code(device)
    settings.CREDENTIALS_KEYS = f"2:{'A' * 43}="
    sign_in(client)

    assert "use a recovery code" in present(client, right).content.decode()
    assert "an authenticator of staff cannot be read" in lines.text

    present(client, codes[0])
    assert is_open(client)


def test_reset_takes_both_away_and_ends_the_sessions(client, alice, capsys, lines):
    device, _ = with_device(alice)
    sign_in(client)
    present(client, code(device))

    call_command("reset_totp", "alice")

    assert capsys.readouterr().out == (
        "alice: taken away (authenticators 1, recovery codes 10, sessions 1); "
        "the next sign-in sets up a new authenticator\n"
    )
    assert not Session.objects.exists()
    assert client.get("/admin/").url.startswith("/admin/login/")
    assert client.get(sign_in(client).url, follow=True).request["PATH_INFO"] == SET_UP
    assert lines.of("Second step: taken away by manage.py reset_totp.")
    assert LogEntry.objects.filter(change_message__contains="reset_totp", object_id=alice.pk).exists()


def test_reset_names_who_is_not_there():
    with pytest.raises(CommandError, match="There is no user nobody"):
        call_command("reset_totp", "nobody")


def test_without_the_setting_the_password_is_enough(client, alice, settings):
    settings.STAFF_TOTP = False
    sign_in(client)

    assert is_open(client)
    assert client.get(SET_UP).url == "/admin/"
    assert "Two-step" not in client.get("/admin/").content.decode()


def test_production_checks_refuse_to_go_without(settings):
    assert deploy("staff.E001") == set()

    settings.STAFF_TOTP = False

    assert deploy("staff.E001") == {"staff.E001"}
