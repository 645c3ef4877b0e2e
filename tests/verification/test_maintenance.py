"""Time closes what nobody closed, and forgets what was closed long ago."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from messaging.models import Event, Message
from providers.sql import rows
from tests.factories import ProviderFactory
from tests.messaging.stages import accepted, claim, settle
from tests.verification.parallel import together
from tests.verification.phone import URL, check, code_of, start, wrong_for
from tests.verification.test_races import closing_events, deadlocks
from verification import maintenance, records
from verification.models import Bucket, Challenge, CodeAttempt, CodeMessage, Profile
from verification.records import stand_down
from verification.states import ChallengeStatus

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def provider(db, unlimited):
    return ProviderFactory(slug="carrier-a", price="0.04")


def let_time_pass(**fields) -> None:
    first = Challenge.objects.earliest("created_at").created_at
    Challenge.objects.update(**dict.fromkeys(fields or ("expires_at",), first))


def grow_old(days: int) -> None:
    for challenge in Challenge.objects.exclude(closed_at=None):
        Challenge.objects.filter(pk=challenge.pk).update(closed_at=challenge.closed_at - timedelta(days=days))


def close_by(api, how: str) -> str:
    reference = start(api)
    if how == "verified":
        check(api, reference, code_of(reference))
    elif how == "locked":
        wrong = wrong_for(reference)
        for _ in range(5):
            check(api, reference, wrong)
    elif how == "cancelled":
        api.post(f"{URL}/{reference}/cancel")
    else:
        let_time_pass()
        maintenance.expire()
    return reference


@pytest.mark.parametrize("how", [status for status in ChallengeStatus if status != "pending"])
def test_every_end_wipes_the_seed_and_is_told_once(api, how):
    reference = close_by(api, how)
    maintenance.expire()

    row = Challenge.objects.get()
    assert (row.status, row.seed) == (how, None)
    assert row.closed_at is not None
    assert closing_events(reference) == [f"verification.{how}"]


@pytest.mark.parametrize("how", [status for status in ChallengeStatus if status != "pending"])
def test_database_refuses_a_closed_challenge_with_a_seed(api, how):
    start(api)

    with pytest.raises(IntegrityError, match="closed_has_no_seed"), transaction.atomic():
        Challenge.objects.update(status=how)


def test_expire_leaves_what_has_time(api):
    start(api)

    maintenance.expire()

    assert Challenge.objects.get().status == "pending"
    assert Challenge.objects.get().seed


def test_expired_event_has_neither_number_nor_code(api):
    reference = start(api)
    code = code_of(reference)
    let_time_pass()

    maintenance.expire()

    data = Event.objects.get(subject=reference).data
    assert data == {
        "reference": reference,
        "status": "expired",
        "purpose": "login",
        "country": "UA",
        "to_masked": "+380******567",
        "sends": 1,
        "checks": 0,
    }
    assert code not in str(data)


def test_more_than_one_group_expires_at_once(api, monkeypatch):
    monkeypatch.setattr(maintenance, "GROUP", 3)
    for digit in range(8):
        start(api, to=f"+38067123456{digit}")
    let_time_pass()

    maintenance.expire()

    assert Challenge.objects.filter(status="expired").count() == 8


def test_purge_forgets_what_was_closed_long_ago_with_what_hangs_on_it(api, client_row):
    Profile.objects.create(client=client_row, purpose="login", code_per_attempt=True)
    reference = start(api)
    (offer,) = claim("otp")
    settle(offer, accepted())
    api.post(f"{URL}/{reference}/cancel")
    grow_old(days=31)

    maintenance.purge()

    assert not Challenge.objects.exists()
    assert not CodeMessage.objects.exists()
    assert not CodeAttempt.objects.exists()
    assert Message.objects.count() == 1  # has a retention of its own


def test_purge_keeps_what_is_young_or_pending(api):
    close_by(api, "cancelled")
    start(api, purpose="signup")
    grow_old(days=29)

    maintenance.purge()

    assert Challenge.objects.count() == 2


def test_purge_forgets_counters_whose_time_is_over(api):
    start(api)
    kept = Bucket.objects.count()
    rows(
        "INSERT INTO verification_bucket (kind, value, span, n, most, until) "
        "VALUES ('number', 'old', 3600, 1, 5, now() - interval '1 second')"
    )

    maintenance.purge()

    assert Bucket.objects.count() == kept > 0


def test_expiry_of_many_beside_workers_that_settle_them_never_deadlocks(api):
    """Both write many messages: each in the order of ids, whatever the order in the table."""
    for number in range(60):
        start(api, to=f"+38067{number:02}34567")
    Challenge.objects.update(status="cancelled", seed=None)
    challenges = list(Challenge.objects.values_list("id", flat=True))
    messages = list(Message.objects.order_by("-id").values_list("id", flat=True))
    before, ended = deadlocks(), threading.Event()

    def expire() -> None:
        try:
            for _ in range(30):
                for message in messages:  # the last one is now the first in the table
                    Message.objects.filter(id=message).update(failover_after=20)
                stand_down(challenges)
        finally:
            ended.set()

    def settle_groups() -> None:
        while not ended.is_set():
            with transaction.atomic():
                Message.objects.lock(messages)

    together([expire, *[settle_groups] * 4])

    assert deadlocks() == before
    assert not Message.objects.exclude(failover_after=None).exists()


def test_check_is_answered_although_its_messages_could_not_be_stood_down(api, monkeypatch):
    reference = start(api)
    code = code_of(reference)
    monkeypatch.setattr(records, "_STAND_DOWN", "SELECT 1 / 0 -- %(challenges)s")
    worker = connection.copy()
    worker.set_autocommit(False)
    with worker.cursor() as cursor:
        cursor.execute("SELECT id FROM messaging_message FOR UPDATE")

    answer = check(api, reference, code)

    worker.rollback()
    worker.close()
    assert answer.json()["valid"] is True
    assert Message.objects.get().failover_after is not None


@pytest.mark.parametrize("table", ["challenge", "bucket", "refused", "startcount"])
def test_what_is_old_is_found_by_an_index_and_not_by_reading_the_rest(db, table):
    (statement,) = [text for text in maintenance.OLD if f" verification_{table} " in text]

    with transaction.atomic():
        rows("SET LOCAL enable_seqscan = off")
        plan = str(rows(f"EXPLAIN {statement}"))

    column = {"challenge": "closed_at", "bucket": "until", "refused": "created_at", "startcount": "at"}[table]
    assert f"Index Cond: ({column} <" in plan
