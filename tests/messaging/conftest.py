import pytest
from rest_framework.test import APIClient

from tests.messaging.documented import assert_documented
from tests.messaging.wire import Wire


@pytest.fixture
def wire():
    found = Wire()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def _every_answer_is_documented(monkeypatch):
    request = APIClient.request

    def checked(self, **kwargs):
        answer = request(self, **kwargs)
        assert_documented(answer)
        return answer

    monkeypatch.setattr(APIClient, "request", checked)
