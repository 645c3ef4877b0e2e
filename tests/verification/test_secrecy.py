"""A thousand codes go out, and the phone alone has them: they are nowhere in what the service keeps or tells."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from django.contrib.auth.models import Permission, User
from django.test import Client as Browser
from django.test import override_settings
from rest_framework.test import APIClient

from messaging.clients import issue_key, split_key
from messaging.drain import Drain
from messaging.models import ApiKey, Attempt, Event, Message
from providers.sql import rows
from tests.conftest import Carriers, free_ports
from tests.factories import MessageFactory, ProviderFactory
from tests.fleet import Fleet, wait_for
from tests.kafka import Kafka
from tests.messaging.wire import Wire
from tests.verification.phone import URL, code_of
from tests.verification.traces import ServerLog, admin_pages, digit_runs, dump, everything_logged, found_in, rabbitmq
from verification import maintenance
from verification.models import Challenge, Profile

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

CHALLENGES = 1000
RESENT = 300
VERIFIED, CANCELLED = 850, 100  # the rest stays pending
POSTERS = 4

Post = Callable[[str, dict], int]


@pytest.fixture
def quoting() -> Iterator[Wire]:
    """A provider that refuses everything, and repeats in its answer what it was sent."""
    wire = Wire()

    def refuse(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        said = body.decode()
        return 422, {"error": {"code": f"sorry {said}", "message": f"sorry {said}"}, "request": said}

    wire.answer = refuse
    yield wire
    wire.stop()


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    found = Kafka()
    with override_settings(**found.settings):
        found.start()
        yield found
    found.kill()


@pytest.fixture
def server_log(transactional_db) -> Iterator[ServerLog]:
    with ServerLog() as found:
        yield found


@pytest.fixture
def port(settings) -> int:
    found = free_ports(1)
    settings.PUBLIC_URL = f"http://127.0.0.1:{found}"
    return found


@pytest.fixture
def fleet(
    tmp_path: Path, carriers: Carriers, quoting: Wire, kafka: Kafka, port: int, unlimited, server_log: ServerLog
) -> Iterator[Fleet]:
    """A web process and a relay; the worker is started when messages wait."""
    ProviderFactory(slug="quoting", base_url=quoting.url, price="0.01")
    for number, slug in ((1, "carrier-a"), (3, "carrier-c")):
        ProviderFactory(slug=slug, base_url=carriers.url(number), token=f"{slug}-token", price=f"0.0{number + 1}")
    carriers.faults("carrier-a", {"fault": "reject", "code": "no_route", "share": 0.2})
    names = ("NUMBER_HOUR", "NUMBER_DAY", "PREFIX_HOUR", "FAILED_HOUR", "FAILED_DAY", "FAILED_ROW")
    names += ("UNVERIFIED_DAY", "UNVERIFIED_HOUR")
    limits = {f"VERIFY_{name}": 100_000 for name in names}
    site = f"http://127.0.0.1:{port}"
    often = {"LOG_LEVEL": "DEBUG", "POLL": 0.2, "SWEEP": 0.2}
    with Fleet(tmp_path, PUBLIC_URL=site, **often, **limits, **kafka.settings, **broker()) as found:
        found.web(port)
        found.relay()
        yield found


def broker() -> dict[str, str]:
    url = os.environ.get("RABBITMQ_URL")
    return {"BROKER_URL": url} if url else {}


@pytest.fixture
def posts(client_row, port: int) -> Sequence[Post]:
    """Two doors: the web process over HTTP, and the view in this process, of which raw log records are seen."""
    Profile.objects.create(client=client_row, purpose="login", code_length=10, ttl_seconds=600, cooldowns=[1])
    token = issue_key(client_row)
    session, inside = requests.Session(), APIClient()
    session.headers["Authorization"] = f"Bearer {token}"
    inside.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    def over_http(path: str, body: dict) -> int:
        return session.post(f"http://127.0.0.1:{port}{path}", json=body, timeout=60).status_code

    def in_process(path: str, body: dict) -> int:
        return inside.post(path, body, format="json").status_code

    return over_http, in_process


@pytest.fixture
def staff(settings) -> Browser:
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    """Staff who may do everything but see whole numbers."""
    found = Browser()
    user = User.objects.create_user("support", is_staff=True)
    user.user_permissions.set(Permission.objects.exclude(codename="view_full_number"))
    found.force_login(user)
    return found


def post_all(posts: Sequence[Post], calls: Sequence[tuple[str, dict]], expected: int) -> None:
    """The first half by the one door and the other half by the other, at the same time."""
    over_http, in_process = posts
    half = len(calls) // 2
    with ThreadPoolExecutor(POSTERS) as pool:
        outside = pool.map(lambda call: over_http(*call), calls[:half])
        statuses = [in_process(*call) for call in calls[half:]]
        assert {*outside, *statuses} == {expected}


def number(index: int) -> str:
    """Spread over a thousand prefixes."""
    return f"+38067{index * 7919 % 10_000_000:07}"


def check(reference: str, code: str) -> tuple[str, dict]:
    return f"{URL}/{reference}/check", {"code": code, "purpose": "login"}


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**10:010}"


def is_quiet() -> bool:
    """No message waits, and every event is with Kafka."""
    waiting = Message.objects.filter(status__in=("queued", "sending", "unknown"))
    return not waiting.exists() and not Event.objects.filter(published_at=None).exists()


def test_codes_are_nowhere_but_with_the_phone(
    fleet: Fleet,
    carriers: Carriers,
    quoting: Wire,
    kafka: Kafka,
    posts: Sequence[Post],
    staff: Browser,
    server_log: ServerLog,
) -> None:
    numbers = [number(index) for index in range(CHALLENGES)]
    drain = Drain("otp")
    with everything_logged() as records:
        post_all(posts, [(URL, {"to": to, "purpose": "login"}) for to in numbers], 201)
        references = list(Challenge.objects.order_by("id").values_list("reference", flat=True))
        codes = {reference: code_of(reference) for reference in references}
        places = {"hints": dump() + rabbitmq()}
        assert "actor_name" in places["hints"]
        start_work(fleet, drain)
        let_all_be_resent()
        post_all(posts, [(f"{URL}/{reference}/resend", {}) for reference in references[:RESENT]], 202)
        post_all(posts, [check(reference, wrong(code)) for reference, code in codes.items()], 200)
        wait_for(is_quiet, 60)
        places["database, while all are pending"] = dump() + rabbitmq()
        post_all(posts, [check(reference, codes[reference]) for reference in references[:VERIFIED]], 200)
        post_all(posts, [(f"{URL}/{reference}/cancel", {}) for reference in references[-CANCELLED:]], 200)
        maintenance.expire()
        wait_for(is_quiet, 60)
        drain.stop()
        drain.join(20)
    shown = all_that_is_shown(fleet, kafka, staff) | {"log records": records.text}
    places |= {**shown, "database": dump() + rabbitmq(), "log of PostgreSQL": server_log.text}

    assert_it_was_a_life(set(codes.values()), carriers, quoting)
    assert found_in(places, codes.values()) == {}
    assert found_in(shown, [to.removeprefix("+") for to in numbers]) == {}


def start_work(fleet: Fleet, drain: Drain) -> None:
    """A worker, and one in this process, of which raw log records are seen."""
    drain.start()
    fleet.worker()
    fleet.sweeper()
    wait_for(is_quiet, 60)


def let_all_be_resent() -> None:
    Challenge.objects.update(resend_at=Challenge.objects.earliest("created_at").created_at)


def all_that_is_shown(fleet: Fleet, kafka: Kafka, staff: Browser) -> dict[str, str]:
    """What others than the database's owner can see: neither a code nor a whole number."""
    told = kafka.read(kafka.events, lambda found: len(found) >= Event.objects.count())
    scraped = requests.get(f"{fleet.environment['PUBLIC_URL']}/metrics", timeout=20).text
    return {
        "pages": admin_pages(staff),
        "metrics": scraped + staff.get("/metrics").content.decode(),
        "Kafka": "\n".join(repr((record.key(), record.value(), record.headers())) for record in told),
        "events": "\n".join(map(str, rows("SELECT type, subject, data::text FROM messaging_event"))),
        "log lines": fleet.output,
    }


def assert_it_was_a_life(codes: set[str], carriers: Carriers, quoting: Wire) -> None:
    """What was looked for was really there to be found, and all of it happened."""
    ledger = "\n".join(entry["text"] for entry in carriers.entries("accepted"))
    assert len(codes) == CHALLENGES
    assert digit_runs(ledger) >= codes
    assert len(carriers.entries("accepted")) == CHALLENGES + RESENT
    assert {body.decode() for _, _, _, body in quoting.requests if codes & digit_runs(body.decode())}
    attempts = Counter(Attempt.objects.values_list("provider__slug", flat=True))
    assert attempts["carrier-a"] > RESENT
    assert attempts["carrier-c"] > RESENT
    assert Attempt.objects.count() > CHALLENGES + RESENT
    by_status = dict(rows("SELECT status, count(*) FROM verification_challenge GROUP BY 1"))
    assert by_status == {
        "verified": VERIFIED,
        "cancelled": CANCELLED,
        "pending": CHALLENGES - VERIFIED - CANCELLED,
    }


PLANTED = "8305417296"


def test_search_finds_a_code_in_every_place(staff: Browser, client_row, server_log: ServerLog) -> None:
    """Or the test above could not fail."""
    with everything_logged() as records:
        log_planted()
        rows("SELECT %(guess)s::text", {"guess": PLANTED})
        rows("SELECT 1")
    message = MessageFactory(client=client_row, text=f"Your code is {PLANTED}")
    plain = dump()
    message.delete()
    message = MessageFactory(client=client_row, reference=PLANTED)
    pages = admin_pages(staff)
    message.delete()
    key = ApiKey.objects.get(pk=split_key(issue_key(client_row))[0])
    ApiKey.objects.filter(pk=key.pk).update(secret_hash=f"x{PLANTED}y".encode())

    places = {"records": records.text, "table": plain, "binary column": dump(), "pages": pages}
    places |= {"log of PostgreSQL": server_log.text} if server_log.text else {}
    assert found_in(places, [PLANTED, "1234567890"]) == dict.fromkeys(places, 1)
    assert len([line for line in records.lines if PLANTED in line]) == 3


def log_planted() -> None:
    log = logging.getLogger("providers.transport")
    log.debug("in the words: %s", PLANTED)
    log.debug("in a field", extra={"text": f"Your code is {PLANTED}."})
    try:
        raise ValueError(f"in an error: {PLANTED}")
    except ValueError:
        log.exception("failed")
