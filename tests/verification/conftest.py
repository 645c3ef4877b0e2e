import pytest
from django.contrib.auth.models import Permission, User

from tests.messaging.conftest import _every_answer_is_documented  # noqa: F401


@pytest.fixture
def unlimited(settings):
    """Races and crowds need more starts than any person makes."""
    for name in ("VERIFY_LIMITS", "VERIFY_RULES"):
        setattr(settings, name, dict.fromkeys(getattr(settings, name), 100_000))


@pytest.fixture(autouse=True)
def _plain(plain_static_files):
    pass


def login(client, *permissions):
    user = User.objects.create_user("helper", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client
