import pytest

from tests.messaging.wire import Wire


@pytest.fixture
def wire():
    found = Wire()
    yield found
    found.stop()
