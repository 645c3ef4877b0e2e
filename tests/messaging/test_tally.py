"""The tally agrees with the tables to the message, whatever happens to the messages."""

import random
import threading
import time
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from itertools import product

import pytest
from django.core.management import call_command
from django.db import connection

from messaging import cancellation, delivery, intake, receipts, reconcile, staff, sweeper, tally
from messaging.clients import Caller
from messaging.delivery import Outcomes
from messaging.errors import Refusal
from messaging.models import Attempt, Message, Suppression, Tally, TallyDelta
from messaging.states import MOVES, AttemptStatus, MessageClass, Status
from messaging.tally import MESSAGE
from providers import health
from providers.models import ProviderHealth, ProviderThroughput
from providers.outcomes import Accepted, Ambiguous, GateRefused, ReceiptStatus, Rejected, Scope, Throttled, Unavailable
from providers.types import ParsedReceipt
from tests.factories import AttemptFactory, MessageFactory, PriceFactory, PriceListFactory, ProviderFactory
from tests.messaging.door import store_receipts
from tests.messaging.stages import claim, claim_one, now, only_message, settle
from tests.messaging.truth import assert_tally_is_exact, cost_of
from tests.messaging.wire import ACCEPTED

pytestmark = pytest.mark.django_db

OUTCOMES = [
    Accepted("their-1"),
    Accepted("their-2", price="0.0710", currency="USD", segments=2),
    Rejected(Scope.NUMBER, "dead", opted_out=False),
    Rejected(Scope.ROUTE, "no_sender"),
    Rejected(Scope.ACCOUNT, "balance"),
    Throttled("slow_down", 0.1),
    Unavailable("connection_refused"),
    GateRefused(),
    Ambiguous("read_timeout"),
]
ANSWERS = [
    ACCEPTED,
    (422, {"error": {"code": "invalid_number", "message": "no such number"}}),
    (422, {"error": {"code": "sender_not_allowed", "message": "no"}}),
    None,
]
HOMES = {"key": "UA", "none": "PL", "lookup": "DE"}
NUMBERS = ("+380671{:06}", "+48512{:06}", "+491511{:06}0")
#: Allowed by the table of states, done by no code of today.
NOT_DONE = {"sending>expired", "scheduled>delivered"}
#: A refusal for good, after a doubt that was superseded: chance alone seldom brings both.
SELDOM = {"sending>held"}


@pytest.fixture
def provider(db):
    return ProviderFactory(slug="cheap", price="0.04")


def body(number=0, **fields):
    return {"to": f"+38067{number:07d}", "text": "Your transfer has arrived.", **fields}


def accept(caller, count=1, **fields):
    return intake.accept_many(caller, [body(number, **fields) for number in range(count)])


def total(**wanted):
    return sum(one.n for one in tally.totals() if all(getattr(one, name) == value for name, value in wanted.items()))


class TestAccepting:
    def test_what_is_accepted_is_counted_by_class_and_status(self, caller, provider):
        later = (now() + timedelta(hours=1)).isoformat()

        intake.accept_many(caller, [body(1), body(2), body(3, **{"class": "bulk"}), body(4, send_at=later)])

        assert dict(tally.standing(tally.totals(), MESSAGE)) == {
            ("transactional", 0, "queued"): 2,
            ("bulk", 0, "queued"): 1,
            ("transactional", 0, "scheduled"): 1,
        }

    def test_what_is_refused_is_not(self, caller, provider):
        Suppression.objects.create(msisdn="+380670000001", reason="opted_out")

        accept(caller, 2)
        intake.accept_many(caller, [{"to": "nonsense"}])

        assert total(kind=MESSAGE) == Message.objects.count() == 1

    def test_a_group_writes_few_rows(self, caller, provider):
        accept(caller, 200)

        assert TallyDelta.objects.count() == 1


class TestOutcomes:
    @pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
    def test_every_outcome_is_counted(self, caller, provider, outcome):
        accept(caller)

        settle(claim_one(), outcome)

        assert_tally_is_exact()
        assert total(kind="attempt", provider_id=provider.pk, origin="intent") == 1

    def test_group_of_outcomes_writes_few_rows(self, caller, provider):
        accept(caller, 100)
        offers = claim()
        TallyDelta.objects.all().delete()

        delivery.settle([Outcomes(offer, Accepted(f"their-{n}"), False) for n, offer in enumerate(offers)])

        assert TallyDelta.objects.count() <= 6  # moves and attempts, each in a bucket or three

    def test_late_acceptance_of_what_was_superseded_counts_its_cost(self, caller, provider):
        accept(caller)
        offer = claim_one()
        Message.objects.update(lease_until=now() - timedelta(seconds=60))
        sweeper.lost_leases()
        Message.objects.update(expires_at=now() + timedelta(hours=1))
        Attempt.objects.update(status=AttemptStatus.SUPERSEDED)
        tally.recount()

        settle(offer, Accepted("their-9", price="0.05", currency="EUR"))

        assert_tally_is_exact()
        assert cost_of(tally.totals()) == {(provider.pk, "EUR"): Decimal("0.05")}


class TestReceipts:
    @pytest.fixture
    def sent(self, caller, provider):
        accept(caller)
        offer = claim_one()
        settle(offer, Accepted("their-1"))
        return offer

    def test_delivered_is_counted_for_its_provider(self, sent, provider):
        hear(sent, ReceiptStatus.DELIVERED)

        assert total(kind=MESSAGE, target="delivered", provider_id=provider.pk) == 1
        assert_tally_is_exact()

    def test_cost_that_the_provider_corrects_in_another_currency_is_moved(self, sent, provider):
        hear(sent, ReceiptStatus.DELIVERED, price="0.09", currency="USD")

        assert cost_of(tally.totals()) == {(provider.pk, "USD"): Decimal("0.09")}
        assert_tally_is_exact()

    def test_cost_that_comes_after_the_delivery_is_counted(self, sent, provider):
        hear(sent, ReceiptStatus.DELIVERED)
        hear(sent, ReceiptStatus.SENT, price="0.03", currency="EUR")

        assert cost_of(tally.totals()) == {(provider.pk, "EUR"): Decimal("0.03")}
        assert_tally_is_exact()

    def test_early_receipt_is_counted_when_settle_applies_it(self, caller, provider):
        accept(caller)
        offer = claim_one()
        hear(offer, ReceiptStatus.DELIVERED)

        settle(offer, Accepted("their-1"))

        assert only_message().status == Status.DELIVERED
        assert_tally_is_exact()


class TestHeld:
    @pytest.fixture
    def held(self, caller, settings):
        settings.RECEIPT_GRACE = 1
        ProviderFactory(slug="silent", price="0.04", resolve="none")
        accept(caller)
        offer = claim_one()
        settle(offer, Ambiguous("read_timeout"))
        Attempt.objects.update(resolve_at=now(), started_at=now() - timedelta(minutes=2))
        reconcile.run()
        return offer

    @pytest.mark.parametrize("verb", [staff.send_again, staff.close_as_failed, staff.confirm_sent])
    def test_what_staff_decide_is_counted(self, held, verb):
        assert verb([held.message_id])

        assert total(kind=MESSAGE, origin="held") == 1
        assert_tally_is_exact()

    @pytest.mark.parametrize("word", [ReceiptStatus.SENT, ReceiptStatus.DELIVERED, ReceiptStatus.UNDELIVERED])
    def test_what_a_receipt_decides_is_counted(self, held, word):
        hear(held, word)

        assert total(kind=MESSAGE, origin="held") == 1
        assert_tally_is_exact()


class TestLatencies:
    def test_sent_is_timed_from_when_the_client_wanted_it(self, caller, provider):
        accept(caller, send_at=(now() + timedelta(hours=1)).isoformat())
        Message.objects.update(
            send_at=now() - timedelta(seconds=7), not_before=now(), created_at=now() - timedelta(hours=2)
        )
        sweeper.due_schedules()

        settle(claim_one(), Accepted("their-1"))

        (one,) = [one for one in tally.totals() if one.target == "sent"]
        assert (tally.BOUNDS[one.bucket], one.n) == (10.0, 1)
        assert 7 <= one.seconds < 10

    def test_delivered_is_timed_from_sent_and_the_call_from_its_start(self, caller, provider):
        accept(caller)
        offer = claim_one()
        Attempt.objects.update(started_at=now() - timedelta(seconds=0.7))
        settle(offer, Accepted("their-1"))
        Message.objects.update(sent_at=now() - timedelta(seconds=70))

        hear(offer, ReceiptStatus.DELIVERED)

        timed = {one.target: tally.BOUNDS[one.bucket] for one in tally.totals() if one.origin in ("sent", "intent")}
        assert timed == {"delivered": 300.0, "accepted": 1.0}

    def test_doubt_that_is_settled_later_has_no_latency(self, caller, provider):
        accept(caller)
        offer = claim_one()
        settle(offer, Ambiguous("read_timeout"))

        hear(offer, ReceiptStatus.SENT)

        (one,) = [one for one in tally.totals() if one.target == "sent"]
        assert (one.bucket, one.seconds) == (tally.UNTIMED, 0)


class TestFolding:
    def test_totals_stay_when_deltas_are_folded(self, caller, provider):
        accept(caller, 3)
        settle(claim(limit=1)[0], Accepted("their-1"))
        before = sorted(tally.totals(), key=repr)

        tally.fold()

        assert not TallyDelta.objects.exists()
        assert sorted(tally.totals(), key=repr) == before
        assert_tally_is_exact()

    def test_slots_add_up_to_the_totals(self, caller, provider):
        for _ in range(3):
            accept(caller, 2)
            tally.fold()

        slots = Tally.objects.filter(slot__gt=tally.EPOCH)
        assert sum(slots.values_list("n", flat=True)) == 6
        assert [one.n for one in Tally.objects.filter(slot=tally.EPOCH)] == [6]

    def test_more_than_one_group_is_folded(self, caller, provider, monkeypatch):
        accept(caller, 3)
        monkeypatch.setattr(tally, "_FOLD", tally._FOLD.replace(f"LIMIT {tally.GROUP}", "LIMIT 2"))
        monkeypatch.setattr(tally, "GROUP", 2)
        for offer in claim():
            settle(offer, Accepted(str(offer.attempt_id)))

        tally.fold()

        assert not TallyDelta.objects.exists()
        assert_tally_is_exact()

    def test_old_slots_are_forgotten_and_totals_are_not(self, caller, provider):
        accept(caller, 2)
        TallyDelta.objects.update(slot=now() - timedelta(days=9))

        tally.fold()

        assert [one.slot.year for one in Tally.objects.all()] == [1970]
        assert_tally_is_exact()

    def test_sweeper_folds(self, caller, provider):
        accept(caller)

        sweeper.sweep()

        assert not TallyDelta.objects.exists()
        assert Tally.objects.exists()


class TestRecounting:
    def test_rows_that_nobody_counted_are_corrected(self, provider, capsys):
        message = MessageFactory(status=Status.DELIVERED)
        AttemptFactory(
            message=message, provider=provider, status=AttemptStatus.DELIVERED, cost=Decimal("0.04"), currency="EUR"
        )
        MessageFactory(message_class="bulk")

        call_command("recount")
        call_command("recount")

        assert_tally_is_exact()
        assert capsys.readouterr().out == "corrected 4 counts\nevery count was right\n"

    def test_counts_without_rows_are_corrected(self, caller, provider):
        accept(caller, 2)
        settle(claim(limit=1)[0], Accepted("their-1"))
        tally.fold()
        Attempt.objects.all().delete()
        Message.objects.filter(status=Status.SENT).delete()

        tally.recount()

        assert_tally_is_exact()


class Life:
    """Random things happen to messages; `step` does one of them. The seed makes it repeatable."""

    def __init__(self, seed, caller, wire):
        self.random = random.Random(seed)
        self.caller = caller
        self.offers = []
        wire.answer = lambda *request: self.random.choice(ANSWERS)
        # Each is the cheapest somewhere.
        for resolve, home in HOMES.items():
            book = PriceListFactory(provider=ProviderFactory(resolve=resolve, base_url=wire.url))
            for country in HOMES.values():
                PriceFactory(price_list=book, country=country, price="0.04" if country == home else "0.06")

    def step(self):
        # Breakers and pauses are another test's matter: here everybody stays a candidate.
        ProviderHealth.objects.all().delete()
        ProviderThroughput.objects.all().delete()
        health.forget()
        often = [self.claim, self.settle, self.hear, self.doubt, self.go_on] * 2
        self.random.choice([*often, self.accept, self.lose, self.expire, self.wake, self.cancel, self.decide])()

    def pick(self, *statuses):
        found = list(Message.objects.filter(status__in=statuses).order_by("id").values_list("id", flat=True))
        return self.random.sample(found, min(len(found), self.random.randint(1, 3)))

    def accept(self):
        if Message.objects.filter(status__in=[Status.QUEUED, Status.SCHEDULED]).count() > 20:
            return
        items = [
            {"to": number.format(self.random.randrange(10**6)), "text": "News", "class": message_class.value}
            for number, message_class in product(NUMBERS, MessageClass)
            if self.random.random() < 0.4
        ]
        if items and self.random.random() < 0.4:
            items[0]["send_at"] = (now() + timedelta(hours=1)).isoformat()
        intake.accept_many(self.caller, items)

    def claim(self):
        Message.objects.filter(status=Status.QUEUED).update(not_before=now())
        lane = self.random.choice(list(MessageClass)).value
        self.offers += delivery.claim(lane, self.random.randint(1, 6))[0]

    def settle(self):
        self.random.shuffle(self.offers)
        count = self.random.randint(1, 6)
        group, self.offers = self.offers[:count], self.offers[count:]
        if group:
            delivery.settle([Outcomes(offer, self.outcome(), wide=False) for offer in group])

    def outcome(self):
        # Mostly good, or else too few come far.
        return self.random.choice([*OUTCOMES, *OUTCOMES[:2], *OUTCOMES[:2], *OUTCOMES[-1:]])

    def hear(self):
        status = self.random.choice([Status.HELD, Status.SENT, Status.SENT, *Status])
        attempts = Attempt.objects.filter(message__status=status).order_by("id")
        found = list(attempts.values_list("provider_id", "our_reference"))
        for provider, reference in self.random.sample(found, min(3, len(found))):
            cost = self.random.choice([{}, {"price": "0.033", "currency": self.random.choice(["EUR", "USD"])}])
            word = self.random.choice(list(ReceiptStatus))
            store_receipts(provider, [ParsedReceipt(word, str(word), our_reference=reference.hex, **cost)])
        receipts.apply_due()

    def lose(self):
        Message.objects.filter(id__in=self.pick(Status.SENDING)).update(lease_until=now() - timedelta(minutes=1))
        sweeper.sweep()

    def expire(self):
        ids = self.pick(Status.QUEUED, Status.SCHEDULED)
        Message.objects.filter(id__in=ids).update(expires_at=now() - timedelta(seconds=1))
        sweeper.sweep()

    def wake(self):
        ids = self.pick(Status.SCHEDULED)
        Message.objects.filter(id__in=ids).update(not_before=now(), send_at=now())
        sweeper.sweep()

    def go_on(self):
        """Messages that are to go by the next provider: nothing is heard of them, or nothing good."""
        ids, past = self.pick(Status.SENT), now() - timedelta(minutes=1)
        Message.objects.filter(id__in=ids).update(failover_after=self.random.choice([1, 300]), sent_at=past)
        taken = Attempt.objects.filter(message__in=ids, status=AttemptStatus.ACCEPTED)
        taken.update(finished_at=past)
        if self.random.random() < 0.5:
            for provider, reference in taken.values_list("provider_id", "our_reference"):
                store_receipts(provider, [ParsedReceipt(ReceiptStatus.UNDELIVERED, "", our_reference=reference.hex)])
            receipts.apply_due()
        sweeper.sweep()

    def doubt(self):
        age = timedelta(seconds=self.random.choice([2, 30, 100]))
        Attempt.objects.filter(status=AttemptStatus.UNKNOWN).update(resolve_at=now(), started_at=now() - age)
        reconcile.run()

    def cancel(self):
        for message in self.pick(self.random.choice([Status.QUEUED, Status.SCHEDULED, Status.SENT])):
            with suppress(Refusal):
                cancellation.cancel(self.caller, message)

    def decide(self):
        self.random.choice([staff.send_again, staff.close_as_failed, staff.confirm_sent])(self.pick(Status.HELD))


def test_every_step_of_every_life_is_counted(caller, wire, settings):
    settings.MAX_ATTEMPTS, settings.RECEIPT_GRACE = 4, 5
    life = Life(7, caller, wire)
    wanted = {move for move in MOVES if move not in NOT_DONE | SELDOM and not move.startswith("held>")}
    done: set[str] = set()

    for number in range(10_000):  # a tenth is the rule, but leases hang on the clock: no two runs are alike
        life.step()
        if number % 20 == 0:
            assert_tally_is_exact()
            done = {f"{one.origin}>{one.target}" for one in tally.totals() if one.kind == MESSAGE and one.origin}
            if wanted <= done:
                break

    assert wanted - done == set()


def hear(offer, status, **fields):
    store_receipts(
        offer.route.id, [ParsedReceipt(status, str(status), our_reference=offer.our_reference.hex, **fields)]
    )
    receipts.apply_due()


@pytest.mark.django_db(transaction=True)
def test_tally_is_exact_at_every_moment_while_many_write_and_fold(client_row):
    """Each look is one snapshot: no writer stops for it, and none waits for another."""
    caller = Caller(client_row.pk, client_row.slug, client_row.sender, frozenset(client_row.scopes))
    ProviderFactory(slug="cheap", price="0.04")
    errors: list[BaseException] = []
    looks = 0
    done = threading.Event()

    def until_done(work):
        try:
            while not done.is_set():
                work()
        except BaseException as error:
            errors.append(error)
            done.set()
        finally:
            connection.close()

    def send():
        accept(caller, 5)
        group = [Outcomes(offer, random.choice(OUTCOMES), wide=False) for offer in claim(limit=20)]
        if group:
            delivery.settle(group)

    def receive():
        for provider, reference in Attempt.objects.order_by("-id").values_list("provider_id", "our_reference")[:20]:
            store_receipts(provider, [ParsedReceipt(ReceiptStatus.DELIVERED, "ok", our_reference=reference.hex)])
        receipts.apply_due()

    threads = [threading.Thread(target=until_done, args=(work,)) for work in (send, send, receive, tally.fold)]
    for thread in threads:
        thread.start()
    delivered = Message.objects.filter(status=Status.DELIVERED)
    begin = time.monotonic()  # four seconds, and on a busy machine until enough has happened
    while not done.is_set() and time.monotonic() < begin + (4 if looks > 20 and delivered.count() > 20 else 60):
        assert_tally_is_exact()
        looks += 1
    done.set()
    for thread in threads:
        thread.join()

    assert errors == []
    assert looks > 20
    assert delivered.count() > 20
    assert_tally_is_exact()
    tally.fold()
    assert_tally_is_exact()
