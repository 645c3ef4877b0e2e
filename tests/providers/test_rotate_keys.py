"""manage.py rotate_keys."""

from base64 import b64encode
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from providers.credentials import key_id
from providers.models import Provider
from tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db

OLD = f"1:{b64encode(bytes(32)).decode()}"
NEW = f"2:{b64encode(b'n' * 32).decode()}"


def rotate() -> str:
    out = StringIO()
    call_command("rotate_keys", stdout=out)
    return out.getvalue()


def test_old_key_can_be_removed_afterwards(settings):
    settings.CREDENTIALS_KEYS = OLD
    provider = ProviderFactory(token="a token")
    settings.CREDENTIALS_KEYS = f"{NEW},{OLD}"

    said = rotate()

    settings.CREDENTIALS_KEYS = NEW
    found = Provider.objects.get(pk=provider.pk)
    assert (key_id(found.credentials), found.read_credentials()) == (2, {"token": "a token"})
    assert said == "1 encrypted anew: everything is under key 2\n"


def test_what_is_under_the_first_key_stays_as_it_is(settings):
    settings.CREDENTIALS_KEYS = f"{NEW},{OLD}"
    before = ProviderFactory().credentials

    said = rotate()

    assert Provider.objects.get().credentials == before
    assert said.startswith("0 encrypted anew")


def test_provider_whose_key_is_lost_is_named_and_left_alone(settings):
    settings.CREDENTIALS_KEYS = OLD
    before = ProviderFactory(slug="twilio").credentials
    settings.CREDENTIALS_KEYS = NEW

    with pytest.raises(CommandError, match="twilio: the credentials were encrypted with key 1"):
        rotate()

    assert Provider.objects.get().credentials == before
