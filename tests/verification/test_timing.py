"""What is unknown, another client's and no reference at all: one answer, in one time.

A difference would tell whether a reference exists. So this is the one test that compares times: in process, kind
after kind in turns, by medians, and anew when a neighbour of the machine has disturbed it. Where a clock only tells how
busy the machine is, that time counts for which this thread and the server's process for it had a processor.
"""

import gc
import random
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from rest_framework.test import APIClient, APIRequestFactory

from messaging.clients import issue_key
from providers.sql import rows
from tests.factories import ClientFactory, ProviderFactory
from tests.verification.phone import check, code_of, start
from verification import views
from verification.models import Challenge

pytestmark = pytest.mark.django_db(transaction=True)

NEAR = 0.05
MEASUREMENTS = 3
MALFORMED = ("x", "A" * 21, "A" * 500, "ä" * 22, "A" * 21 + " ", "0199c5a0-0000-7000-8000-00")
PROOF = "0" * 64
KINDS = ("unknown", "foreign", "malformed")

Call = Callable[[], Any]
Times = dict[str, list[float]]
Calls = dict[str, Callable[[], Call]]  # what makes a request, and then the call that is timed


@pytest.fixture
def request_of(client_row) -> Callable[..., Any]:
    factory, token = APIRequestFactory(), issue_key(client_row)

    def made(method: str, body: dict | None = None) -> Any:
        build = getattr(factory, method)
        return build("/", body, format="json", HTTP_AUTHORIZATION=f"Bearer {token}", HTTP_X_REQUEST_ID="of-the-test")

    return made


@pytest.fixture
def foreign(api, unlimited) -> list[str]:
    """Pending challenges; `request_of` is another client's."""
    ProviderFactory(slug="carrier-a", price="0.04")
    return [start(api, to=f"+3806712345{number:02}") for number in range(20)]


@pytest.fixture
def client_row(db):
    return ClientFactory(slug="curious")


@pytest.fixture
def api(db):
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_key(ClientFactory(slug='owner'))}")
    return http


def unknown() -> str:
    return urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")


def references(kind: str, foreign: list[str]) -> Iterator[str]:
    if kind == "unknown":
        return iter(unknown, None)
    return cycle(foreign if kind == "foreign" else MALFORMED)


def worked(server: Path) -> float:
    """Seconds for which this thread and the server's process had a processor; a server elsewhere counts nothing."""
    try:
        of_server = int(server.read_text().split()[0]) / 1e9
    except OSError:
        of_server = 0.0
    return time.thread_time() + of_server


def timed(calls: Calls, rounds: int) -> tuple[Times, Times, set[tuple[int, bytes]]]:
    """Seconds by kind, by the clock and of work; each round asks every kind once, in another order. And the answers."""
    ((pid,),) = rows("SELECT pg_backend_pid()")
    server = Path(f"/proc/{pid}/schedstat")
    took: Times = {kind: [] for kind in calls}
    work: Times = {kind: [] for kind in calls}
    answers = set()
    order = list(calls)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            random.shuffle(order)
            for kind in order:
                call = calls[kind]()
                begun, before = worked(server), time.perf_counter()
                answer = call()
                took[kind].append(time.perf_counter() - before)
                work[kind].append(worked(server) - begun)
                answers.add((answer.status_code, answer.content))
    finally:
        gc.enable()
    return took, work, answers


def medians(times: Times) -> dict[str, float]:
    return {kind: median(found) for kind, found in times.items()}


def near(found: dict[str, float]) -> bool:
    return max(found.values()) <= (1 + NEAR) * min(found.values())


def assert_alike(calls: Calls, rounds: int) -> None:
    """Raises AssertionError where answers differ once, or medians each of MEASUREMENTS times."""
    timed(calls, 30)  # connections, prepared statements, caches
    for _ in range(MEASUREMENTS):
        took, work, answers = timed(calls, rounds)
        assert len(answers) == 1
        assert {status for status, _ in answers} == {404}
        if near(medians(took)) or near(medians(work)):
            return
    told = {kind: f"{1e3 * seconds:.3f} ms" for kind, seconds in medians(work).items()}
    raise AssertionError(f"{MEASUREMENTS} times the medians were further apart than {NEAR:.0%}: {told}")


def calls_of(view: Any, request: Callable[[], Any], foreign: list[str]) -> Calls:
    def ready(found: Iterator[str]) -> Callable[[], Call]:
        return lambda: partial(view, request(), reference=next(found))

    return {kind: ready(references(kind, foreign)) for kind in KINDS}


def test_check_tells_nothing_in_two_thousand_calls_of_each_kind(request_of, foreign):
    """The codes are the right ones of the other client's challenges."""
    codes = cycle([code_of(reference) for reference in foreign])
    view = views.VerificationCheckView.as_view()

    calls = calls_of(view, lambda: request_of("post", {"code": next(codes), "purpose": "login"}), foreign)

    assert_alike(calls, 2000)
    assert set(Challenge.objects.values_list("status", "checks")) == {("pending", 0)}


@pytest.mark.parametrize(
    ("method", "view"),
    [
        ("get", views.VerificationView),
        ("post", views.VerificationResendView),
        ("post", views.VerificationCancelView),
    ],
)
def test_other_calls_tell_nothing(request_of, foreign, method, view):
    assert_alike(calls_of(view.as_view(), lambda: request_of(method), foreign), 400)
    assert set(Challenge.objects.values_list("status", "sends")) == {("pending", 1)}


def test_redeem_tells_nothing_of_a_reference(request_of, api, foreign):
    """With a made-up proof, whether the reference is pending, verified, unknown or none."""
    verified, pending = foreign[:10], foreign[10:]
    for reference in verified:
        assert check(api, reference, code_of(reference)).json()["valid"] is True
    view = views.RedeemView.as_view()

    def ready(found: Iterator[str]) -> Callable[[], Call]:
        return lambda: partial(view, request_of("post", {"token": f"{next(found)}.{PROOF}"[:100], "purpose": "login"}))

    calls = {kind: ready(references(kind, pending)) for kind in KINDS}
    assert_alike({**calls, "verified": ready(cycle(verified))}, 400)


def test_measurement_sees_a_little_more_work(request_of, foreign):
    """Or it could not fail: here one kind takes a seventh longer."""
    view = views.VerificationView.as_view()
    calls = calls_of(view, lambda: request_of("get"), foreign)
    took, _, _ = timed(calls, 100)
    extra = 0.15 * median(took["unknown"])

    def slower() -> Call:
        call = calls["foreign"]()

        def work() -> Any:
            until = time.thread_time() + extra
            while time.thread_time() < until:
                pass
            return call()

        return work

    with pytest.raises(AssertionError, match="further apart"):
        assert_alike({**calls, "foreign": slower}, 150)
