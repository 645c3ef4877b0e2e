"""`manage.py otp_keys`: when may an old key be removed?"""

import io
import re
import stat
from base64 import b64encode

import pytest
from django.core.management import CommandError, call_command

from providers.credentials import KeyRing
from tests.factories import ChallengeFactory, ProviderFactory
from tests.verification.phone import URL, check, code_of, start, wrong_for
from verification.models import Challenge

pytestmark = pytest.mark.django_db(transaction=True)
OLD, NEW = (b64encode(bytes([n]) * 32).decode() for n in (1, 2))


@pytest.fixture(autouse=True)
def _old_key(db, settings):
    ProviderFactory(price="0.04")
    settings.OTP_KEYS = f"1:{OLD}"


def shown():
    out, err = io.StringIO(), io.StringIO()
    call_command("otp_keys", stdout=out, stderr=err, no_color=True)
    return re.sub(r"\d{4}-[\dT:.-]+Z", "TIME", out.getvalue()).splitlines(), err.getvalue()


def test_old_key_is_needed_until_the_last_token_is_redeemed(api, settings):
    first, second = start(api), start(api, purpose="signup")
    settings.OTP_KEYS = f"2:{NEW},1:{OLD}"
    start(api, to="+380671234568")
    seen = [shown()[0][1]]

    token = check(api, first, code_of(first)).json()["result_token"]
    seen.append(shown()[0][1])
    api.post(f"{URL}/{second}/cancel")
    seen.append(shown()[0][1])
    api.post(f"{URL}/redeem", {"token": token, "purpose": "login"}, format="json")

    assert seen == [
        "key 1: 2 pending, 0 tokens not redeemed; needed until TIME at most",
        "key 1: 1 pending, 1 token not redeemed; needed until TIME at most",
        "key 1: 0 pending, 1 token not redeemed; needed until TIME at most",
    ]
    assert shown() == (
        [
            "key 2: the newest, used by every start; 1 pending, 0 tokens not redeemed",
            "key 1: needed by nothing, may be removed",
        ],
        "",
    )


def test_codes_of_the_old_key_are_right_after_the_new_one_came(api, settings):
    old = start(api)
    code = code_of(old)
    settings.OTP_KEYS = f"2:{NEW},1:{OLD}"

    new = start(api, purpose="signup")

    assert check(api, old, code).json()["valid"] is True
    assert check(api, new, code_of(new), purpose="signup").json()["valid"] is True
    assert list(Challenge.objects.order_by("id").values_list("kid", flat=True)) == [1, 2]


def test_key_that_was_removed_too_early_is_named(api, settings):
    reference = start(api)
    code, wrong = code_of(reference), wrong_for(reference)
    settings.OTP_KEYS = f"2:{NEW}"

    lines, warning = shown()

    assert lines == ["key 2: the newest, used by every start; 0 pending, 0 tokens not redeemed"]
    assert "key 1 is not in OTP_KEYS: 1 pending, 0 tokens not redeemed cannot be checked" in warning
    assert {check(api, reference, guess).status_code for guess in (code, wrong)} == {503}


def test_what_is_over_needs_no_key(settings):
    row = ChallengeFactory(kid=1)
    Challenge.objects.update(expires_at=row.created_at)
    settings.OTP_KEYS = f"2:{NEW},1:{OLD}"

    assert shown()[0][1] == "key 1: needed by nothing, may be removed"


def test_no_key_is_shown():
    assert OLD not in str(shown())


def test_next_ring_has_a_new_key_in_front_and_what_is_still_needed(api, settings, tmp_path, capsys):
    settings.OTP_KEYS = f"3:{NEW},1:{OLD}"
    old = start(api)
    ChallengeFactory(kid=7, status="expired", seed=None)  # of a ring that is long gone
    file = tmp_path / "otp_keys"

    call_command("otp_keys", new=str(file))

    ring = file.read_text().strip()
    fresh, kept = ring.split(",")
    assert (list(KeyRing.parse(ring).keys), kept) == ([8, 3], f"3:{NEW}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    told = capsys.readouterr().out
    assert fresh.partition(":")[2] not in told
    assert NEW not in told
    code = code_of(old)
    settings.OTP_KEYS = ring
    assert check(api, old, code).json()["valid"] is True


def test_file_that_is_there_is_not_written_over(tmp_path):
    file = tmp_path / "otp_keys"
    file.write_text("precious")

    with pytest.raises(CommandError, match="is there already"):
        call_command("otp_keys", new=str(file))

    assert file.read_text() == "precious"
