import pytest
from django.contrib.auth.models import User

from tests.config.staff import PASSWORD


@pytest.fixture(autouse=True)
def _as_in_production(settings, plain_static_files):
    settings.STAFF_TOTP = True
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice(db):
    return User.objects.create_superuser("alice", password=PASSWORD)
