from tests.messaging.conftest import _every_answer_is_documented  # noqa: F401
