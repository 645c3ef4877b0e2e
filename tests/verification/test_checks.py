"""System checks: what must not start, and what must not go into production."""

from base64 import b64encode

import pytest
from django.core.management import CommandError, call_command

KEY = b64encode(b"k" * 32).decode()


def deploy(*wanted):
    """The ids of ours that `check --deploy` finds."""
    try:
        call_command("check", deploy=True)
    except CommandError as error:
        return {one for one in wanted if one in str(error)}
    return set()


@pytest.mark.parametrize("keys", ["1", "1:short", f"one:{KEY}", f"1:{KEY},1:{KEY}"])
def test_keys_that_cannot_be_read_stop_the_start(settings, keys):
    settings.OTP_KEYS = keys

    with pytest.raises(CommandError, match=r"verification\.E001"):
        call_command("check")


def test_test_numbers_are_refused_in_production_only(settings):
    settings.VERIFY_TEST_NUMBERS = {"+15005550006": "123456"}

    call_command("check")

    assert deploy("verification.E002") == {"verification.E002"}


def test_example_keys_are_refused_in_production(settings):
    settings.OTP_KEYS = f"1:{b64encode(b'replace-this-replace-this-replac').decode()}"

    assert deploy("verification.E003") == {"verification.E003"}


def test_good_settings_have_no_fault_of_ours(settings):
    settings.OTP_KEYS = f"1:{KEY}"
    settings.VERIFY_TEST_NUMBERS = {}

    assert deploy("verification.E001", "verification.E002", "verification.E003") == set()
