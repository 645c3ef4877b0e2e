from collections.abc import Iterator

import pytest

from providers.simulator.background import Background, carriers


@pytest.fixture(scope="module")
def shared() -> Iterator[Background]:
    with carriers() as running:
        yield running


@pytest.fixture
def running(shared: Background) -> Background:
    shared.call("POST", "/api/reset")
    return shared
