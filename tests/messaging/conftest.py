import pytest
from rest_framework.test import APIClient

from tests.kafka import Kafka, server_url
from tests.messaging.documented import assert_documented
from tests.messaging.wire import Wire


@pytest.fixture
def wire():
    found = Wire()
    yield found
    found.stop()


@pytest.fixture(params=["embedded", pytest.param("server", marks=pytest.mark.broker)])
def kafka(request, settings):
    """Every test that uses it is a contract which the embedded broker and an Apache Kafka must both keep."""
    found = Kafka(server_url() if request.param == "server" else "")
    for name, value in found.settings.items():
        setattr(settings, name, value)
    found.start()
    yield found
    found.kill()


@pytest.fixture(autouse=True)
def _every_answer_is_documented(monkeypatch):
    request = APIClient.request

    def checked(self, **kwargs):
        answer = request(self, **kwargs)
        assert_documented(answer)
        return answer

    monkeypatch.setattr(APIClient, "request", checked)
