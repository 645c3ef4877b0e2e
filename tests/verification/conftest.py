import pytest

from tests.messaging.conftest import _every_answer_is_documented  # noqa: F401


@pytest.fixture
def unlimited(settings):
    """Races and crowds need more starts than any person makes."""
    for name in ("VERIFY_LIMITS", "VERIFY_RULES"):
        setattr(settings, name, dict.fromkeys(getattr(settings, name), 100_000))
