"""From a file to the list in force: compared, approved by a second person, written, rolled back."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from providers.sql import now, rows
from routing import books
from routing.import_models import LeftOut, PriceFile, PriceImport, StagedPrice
from routing.imports import flow, guess, work
from routing.imports.errors import Refused
from routing.imports.mapping import Mapping
from routing.models import ExchangeRate, Price, PriceList
from routing.snapshot import tables
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.routing.price_files import PRICES, SHAPES

pytestmark = pytest.mark.django_db(transaction=True)
CODES = Mapping(mcc="mcc", mnc="mnc", price="price", currency="EUR")
DAY = timedelta(days=1)


@pytest.fixture
def provider():
    return ProviderFactory()


@pytest.fixture
def anna():
    return User.objects.create_superuser("anna")


@pytest.fixture
def ben():
    return User.objects.create_superuser("ben")


def csv(*lines, header="mcc,mnc,price"):
    return "\n".join([header, *lines, ""]).encode()


def compared(provider, content, user=None, mapping=CODES, **fields):
    found = flow.upload(provider=provider, name="list.csv", content=content, user=user, mapping=mapping, **fields)
    return worked(found)


def worked(found):
    while work.work():
        pass
    found.refresh_from_db()
    return found


def applied(provider, content, anna, ben, **fields):
    found = compared(provider, content, anna, **fields)
    assert found.status == "ready", found.fault
    flow.submit(found.pk, user=anna, accepted=set(flow.ACCEPTED))
    worked(found)
    return flow.approve(found.pk, user=ben, book=found.book_id)


def in_force(provider, **prices):
    """place=price, as n260_01="0.05"."""
    book = PriceListFactory(provider=provider)
    for place, price in prices.items():
        mcc, _, mnc = place[1:].partition("_")
        PriceFactory(price_list=book, country="PL", mcc=mcc, mnc=mnc, price=Decimal(price))
    return book


def changes(found):
    return {one.place: one.change for one in found.staged.all()}


def written(found):
    return {(one.mcc, one.mnc): one.price for one in found.book.prices.all()}


# --- what is compared -----------------------------------------------------------------------------


def test_changes_against_the_list_in_force(provider):
    in_force(provider, n260_01="0.05", n260_02="0.05", n260_03="0.05", n260_04="0.05")

    found = compared(provider, csv("260,01,0.06", "260,02,0.04", "260,03,0.05", "260,05,0.05"))

    assert changes(found) == {
        "n260-01": "up",
        "n260-02": "down",
        "n260-03": "unchanged",
        "n260-04": "removed",
        "n260-05": "new",
    }
    assert {name: found.counts[name] for name in ("rows", "prices", "up", "down", "new", "removed", "unchanged")} == {
        "rows": 4, "prices": 4, "up": 1, "down": 1, "new": 1, "removed": 1, "unchanged": 1,
    }  # fmt: skip
    assert found.staged.get(place="n260-01").percent == 20
    assert [one.change for one in found.staged.order_by("-weight")][:2] == ["up", "down"]  # of 20 % each


def test_partial_file_removes_nothing(provider):
    in_force(provider, n260_01="0.05", n260_02="0.05")

    found = compared(provider, csv("260,01,0.06"), partial=True)

    assert changes(found) == {"n260-01": "up"}


@pytest.mark.parametrize(
    ("line", "outlier"),
    [
        ("260,01,0.10", "changes by more than 50 %"),
        ("260,01,0.02", "changes by more than 50 %"),
        ("260,01,0", "costs nothing"),
        ("260,09,0.6", "far from what is usual"),
        ("260,09,0.004", "far from what is usual"),
        ("208,09,1.5", "dearer than 1 EUR"),
        ("260,01,0.07", ""),
        ("260,09,0.09", ""),
    ],
)
def test_what_looks_wrong_is_marked(provider, line, outlier):
    in_force(provider, n260_01="0.05", n260_02="0.05", n260_03="0.05")

    found = compared(provider, csv(line), partial=True)

    assert outlier in found.staged.get().outlier
    assert bool(found.staged.get().outlier) == bool(outlier) == bool(found.counts["outlier"])


def test_prices_of_two_currencies_are_compared_by_the_exchange_rate(provider):
    in_force(provider, n260_01="0.05", n260_02="0.05")
    ExchangeRate.objects.create(currency="USD", rate=2, valid_from=datetime(2026, 1, 1, tzinfo=UTC))

    found = compared(provider, csv("260,01,0.11", "260,02,0.10"), mapping=replace(CODES, currency="USD"))

    assert changes(found) == {"n260-01": "up", "n260-02": "terms"}
    assert found.staged.get(place="n260-01").percent == 10
    assert found.counts["no_rate"] == []


def test_currency_without_a_rate_is_said_and_looks_wrong(provider):
    in_force(provider, n260_01="0.05")

    found = compared(provider, csv("260,01,0.05"), mapping=replace(CODES, currency="GBP"))

    assert found.counts["no_rate"] == ["GBP"]
    assert "another currency" in found.staged.get().outlier


def test_every_row_is_a_price_or_is_named(provider):
    found = compared(
        provider, SHAPES["bad.csv"], mapping=replace(guess.look(SHAPES["bad.csv"]).mapping, currency="USD")
    )

    left = {row.line: (row.kind, row.column) for row in found.left_out.all()}
    assert sorted(left) == [2, 3, 4, 5, 6, 7, 8, 9, 11, 12]
    assert [row.line for row in found.staged.all()] == [10]
    assert {kind for kind, _ in left.values()} == {"error"}
    assert found.left_out.get(line=3).reason == "line 2 has another price for the same place"
    assert found.counts["rows"] == 11 == found.counts["error"] + found.counts["priced"]


@pytest.mark.parametrize(("repeats", "price"), [("dearest", "0.07"), ("cheapest", "0.05"), ("last", "0.06")])
def test_one_of_several_prices_of_a_place_counts_and_the_others_are_named(provider, repeats, price):
    found = compared(
        provider, csv("260,01,0.05", "260,01,0.07", "260,01,0.06"), mapping=replace(CODES, repeats=repeats)
    )

    assert found.staged.get().price == Decimal(price)
    assert found.counts["merged"] == found.left_out.filter(kind="merged").count() == 2


def test_same_price_twice_is_no_error(provider):
    found = compared(provider, csv("260,01,0.05", "260,01,0.050"))

    assert (found.counts["prices"], found.counts["merged"], found.counts["error"]) == (1, 1, 0)


def test_price_ends_where_the_next_one_begins(provider):
    mapping = replace(CODES, valid_from="from", valid_to="to")

    found = compared(
        provider,
        csv(
            "260,01,0.05,2026-01-01,",
            "260,01,0.06,2060-01-01,",
            "260,02,0.05,2026-01-01,2060-02-01",
            "260,02,0.06,2060-01-01,",
            "260,03,0.05,2020-01-01,2020-02-01",
            header="mcc,mnc,price,from,to",
        ),
        mapping=mapping,
    )

    assert [one.valid_to and one.valid_to.year for one in found.staged.filter(place="n260-01").order_by("line")] == [
        2060,
        None,
    ]
    assert sorted(found.left_out.values_list("line", "kind")) == [(4, "error"), (5, "error"), (6, "skipped")]
    assert "overlaps in time with line 5" in found.left_out.get(line=4).reason


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_read_and_compared(provider, name):
    found = worked(flow.upload(provider=provider, name=name, content=SHAPES[name], user=None))
    assert found.status == "mapping", found.fault
    mapping = Mapping.from_json({"currency": "USD"} | {k: v for k, v in found.mapping.items() if v or k != "currency"})

    flow.choose_mapping(found.pk, mapping, user=None, partial=False, effective_at=None, outlier_percent=50)

    assert worked(found).status == "ready", found.fault
    assert found.counts["prices"] == PRICES[name]


# --- what is written ------------------------------------------------------------------------------


def test_whole_list_takes_the_place_of_the_old_one(provider, anna, ben):
    old = in_force(provider, n260_01="0.05", n260_02="0.05")

    found = applied(provider, csv("260,01,0.06", "260,*,0.07"), anna, ben)

    assert written(found) == {("260", "01"): Decimal("0.06"), ("260", ""): Decimal("0.07")}
    assert (found.status, found.book.status, found.base) == ("applied", "active", old)
    assert books.in_force(provider.pk, datetime.now(UTC)) == found.book.pk


def test_partial_list_is_the_old_one_with_its_rows_replaced(provider, anna, ben):
    in_force(provider, n260_01="0.05", n260_02="0.05")

    found = applied(provider, csv("260,01,0.06", "260,03,0.07"), anna, ben, partial=True)

    assert written(found) == {
        ("260", "01"): Decimal("0.06"),
        ("260", "02"): Decimal("0.05"),
        ("260", "03"): Decimal("0.07"),
    }


def test_old_price_stays_until_the_new_one_begins(provider, anna, ben):
    in_force(provider, n260_01="0.05")
    mapping = replace(CODES, valid_from="from")

    found = applied(provider, csv("260,01,0.06,2060-01-01", header="mcc,mnc,price,from"), anna, ben, mapping=mapping)

    assert [(one.price, one.valid_to and one.valid_to.year) for one in found.book.prices.order_by("price")] == [
        (Decimal("0.05"), 2060),
        (Decimal("0.06"), None),
    ]


def test_list_begins_when_it_is_told_to(provider, anna, ben):
    old = in_force(provider, n260_01="0.05")
    begin = datetime.now(UTC) + DAY

    found = applied(provider, csv("260,01,0.06"), anna, ben, effective_at=begin)

    assert found.book.valid_from == begin
    assert books.in_force(provider.pk, datetime.now(UTC)) == old.pk
    assert books.in_force(provider.pk, begin) == found.book.pk


def test_list_that_a_later_one_has_replaced_is_not_rolled_back(provider, anna, ben):
    found = applied(provider, csv("260,01,0.06"), anna, ben)
    later = PriceListFactory(provider=provider, valid_from=datetime.now(UTC))

    with pytest.raises(Refused, match="A later list is in force"):
        flow.roll_back(found.pk, user=ben)

    books.retire(later.pk)
    assert flow.roll_back(found.pk, user=ben).status == "rolled_back"


def test_roll_back_puts_the_old_list_in_force_at_once(provider, anna, ben):
    old = in_force(provider, n260_01="0.05")
    found = applied(provider, csv("260,01,0.06"), anna, ben)

    flow.roll_back(found.pk, user=ben)

    assert books.in_force(provider.pk, datetime.now(UTC)) == old.pk
    with pytest.raises(Refused, match="rolled back"):
        flow.roll_back(found.pk, user=ben)


# --- four eyes ------------------------------------------------------------------------------------


def submitted(provider, anna):
    found = compared(provider, csv("260,01,0.06"), anna)
    flow.submit(found.pk, user=anna, accepted=set())
    return worked(found)


def test_nobody_approves_what_they_had_a_hand_in(provider, anna, ben):
    found = submitted(provider, anna)

    with pytest.raises(Refused, match="second person"):
        flow.approve(found.pk, user=anna, book=found.book_id)
    flow.reject(found.pk, user=ben, reason="why so dear?")
    flow.submit(found.pk, user=ben, accepted=set())  # now both had
    worked(found)
    with pytest.raises(Refused, match="second person"):
        flow.approve(found.pk, user=ben, book=found.book_id)


@pytest.mark.parametrize(
    ("setting", "superuser", "allowed"), [("staff", True, True), ("staff", False, False), ("off", False, True)]
)
def test_setting_says_who_is_bound(provider, settings, setting, superuser, allowed):
    settings.PRICE_FOUR_EYES = setting
    user = User.objects.create_user("carol", is_superuser=superuser)
    found = submitted(provider, user)

    if allowed:
        assert flow.approve(found.pk, user=user, book=found.book_id).status == "applied"
    else:
        with pytest.raises(Refused):
            flow.approve(found.pk, user=user, book=found.book_id)


def test_draft_made_by_hand_is_activated_by_somebody_else(provider, anna, ben):
    draft = books.copy_as_draft(in_force(provider, n260_01="0.05").pk, by=anna)
    PriceList.objects.filter(pk=draft.pk).update(editors=[])
    with transaction.atomic():
        books.lock_draft(draft.pk, by=anna)  # as she changes a price of it

    with pytest.raises(books.Refused, match="second person"):
        books.activate(draft.pk, by=anna)
    assert books.activate(draft.pk, by=ben).status == PriceList.Status.ACTIVE


@pytest.mark.parametrize("missing", ["error", "outlier", "removed"])
def test_what_looks_wrong_is_confirmed_before_others_are_asked(provider, anna, missing):
    in_force(provider, n260_01="0.05", n260_02="0.05")
    found = compared(provider, csv("260,01,0.50", "260,x,0.05"), anna)

    with pytest.raises(Refused, match="Confirm first"):
        flow.submit(found.pk, user=anna, accepted=set(flow.ACCEPTED) - {missing})
    assert flow.submit(found.pk, user=anna, accepted=set(flow.ACCEPTED)).status == "writing"
    assert worked(found).status == "submitted"


def test_list_that_came_in_force_meanwhile_stops_the_approval(provider, anna, ben):
    found = submitted(provider, anna)
    in_force(provider, n260_01="0.09")

    with pytest.raises(Refused, match="came in force"):
        flow.approve(found.pk, user=ben, book=found.book_id)


def test_list_that_came_in_force_before_it_was_written_stops_the_writing(provider, anna):
    found = compared(provider, csv("260,01,0.06"), anna)
    flow.submit(found.pk, user=anna, accepted=set())
    other = in_force(provider, n260_01="0.09")

    worked(found)

    assert (found.status, books.in_force(provider.pk, datetime.now(UTC))) == ("failed", other.pk)
    assert "compare it again" in found.fault
    flow.compare_again(found.pk)
    assert worked(found).base == other


def at_once(*acts):
    """Runs them at the same moment; returns what each returned, or the words with which it was refused."""
    barrier, ends = threading.Barrier(len(acts)), {}

    def run(number, act):
        try:
            barrier.wait(10)
            ends[number] = act()
        except (Refused, books.Refused) as error:
            ends[number] = str(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[number, act]) for number, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return [ends[number] for number in range(len(acts))]


def test_of_two_imports_approved_at_once_one_comes_in_force(provider, anna, ben):
    """The other one was compared with a list that is not in force any more."""
    one, other = submitted(provider, anna), submitted(provider, anna)

    ends = at_once(
        lambda: flow.approve(one.pk, user=ben, book=one.book_id).status,
        lambda: flow.approve(other.pk, user=ben, book=other.book_id).status,
    )

    assert [sorted(ends)[1], "came in force" in sorted(ends)[0]] == ["applied", True]
    assert PriceList.objects.filter(status="active").count() == 1


@pytest.mark.parametrize("verb", ["cancel", "reject", "compare_again", "approve"])
def test_of_two_decisions_at_once_one_counts(provider, anna, ben, verb):
    found = submitted(provider, anna)
    by = {"user": ben}
    given = {"reject": {**by, "reason": ""}, "approve": {**by, "book": found.book_id}, "cancel": by}.get(verb, {})

    ends = at_once(
        lambda: flow.approve(found.pk, user=ben, book=found.book_id).status,
        lambda: getattr(flow, verb)(found.pk, **given).status,
    )

    found.refresh_from_db()
    assert sum(end in PriceImport.Status.values for end in ends) == 1
    assert PriceList.objects.filter(status="active").count() == (found.status == "applied")
    assert PriceList.objects.filter(status="proposed").count() == 0


def test_draft_that_is_activated_while_an_import_is_approved_is_not_lost(provider, anna, ben):
    found = submitted(provider, anna)
    draft = books.copy_as_draft(in_force(ProviderFactory(), n260_01="0.07").pk, by=anna)
    PriceList.objects.filter(pk=draft.pk).update(provider=provider)

    approved, activated = at_once(
        lambda: flow.approve(found.pk, user=ben, book=found.book_id).status,
        lambda: books.activate(draft.pk, by=ben).pk,
    )

    assert activated == books.in_force(provider.pk, now())
    assert approved == "applied" or "came in force" in approved


# --- what an approval must not do -----------------------------------------------------------------


def test_list_that_was_written_anew_is_not_approved_unseen(provider, anna, ben):
    seen = submitted(provider, anna).book_id
    found = PriceImport.objects.get()
    flow.compare_again(found.pk)
    worked(found)
    flow.submit(found.pk, user=anna, accepted=set())
    worked(found)

    with pytest.raises(Refused, match="written anew"):
        flow.approve(found.pk, user=ben, book=seen)
    assert flow.approve(found.pk, user=ben, book=found.book_id).status == "applied"


@pytest.mark.parametrize("lines", [["260,01,0.06,{end}"], ["260,01,0.06,{end}", "260,02,0.07,"]])
def test_list_of_which_a_price_is_over_by_now_is_compared_again(provider, anna, ben, lines):
    end = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    mapping = replace(CODES, valid_to="to")
    content = csv(*(line.format(end=end) for line in lines), header="mcc,mnc,price,to")
    found = compared(provider, content, anna, mapping=mapping)
    flow.submit(found.pk, user=anna, accepted=set())
    worked(found)
    assert found.status == "submitted"
    Price.objects.exclude(valid_to=None).update(valid_to=now())  # its time has passed

    with pytest.raises(Refused, match="over by now"):
        flow.approve(found.pk, user=ben, book=found.book_id)


def test_to_compare_again_is_no_hand_in_it(provider, anna, ben):
    """Or two people who meet a list that came in force in between could approve nothing any more."""
    found = submitted(provider, anna)
    in_force(provider, n260_01="0.05")
    with pytest.raises(Refused, match="compare it again"):
        flow.approve(found.pk, user=ben, book=found.book_id)

    flow.compare_again(found.pk)  # as Ben does
    worked(found)
    flow.submit(found.pk, user=anna, accepted=set(flow.ACCEPTED))
    worked(found)

    assert flow.approve(found.pk, user=ben, book=found.book_id).status == "applied"


def test_two_lists_for_one_moment_are_refused_before_anybody_is_asked(provider, anna, ben):
    begin = datetime.now(UTC) + DAY
    applied(provider, csv("260,01,0.06"), anna, ben, effective_at=begin)
    found = compared(provider, csv("260,01,0.07"), anna, effective_at=begin)

    with pytest.raises(Refused, match="same moment"):
        flow.submit(found.pk, user=anna, accepted=set(flow.ACCEPTED))


# --- the list that waits ---------------------------------------------------------------------------


def test_list_is_written_while_it_waits_and_nobody_else_touches_it(provider, anna, ben):
    in_force(provider, n260_01="0.05")
    found = submitted(provider, anna)

    assert (found.status, found.book.status) == ("submitted", "proposed")
    assert written(found) == {("260", "01"): Decimal("0.06")}
    for act in (partial(books.activate, by=ben), books.retire, books.copy_as_draft, books.lock_draft):
        with transaction.atomic(), pytest.raises(books.Refused, match=r"propose|not a draft"):
            act(found.book.pk)
    begin = datetime.now(UTC)
    assert begin < flow.approve(found.pk, user=ben, book=found.book_id).book.valid_from < datetime.now(UTC)


def test_list_that_was_sent_back_is_written_anew(provider, anna, ben):
    found = submitted(provider, anna)
    first = found.book_id

    flow.reject(found.pk, user=ben, reason="")
    flow.choose_mapping(
        found.pk, replace(CODES, currency="USD"), user=anna, partial=False, effective_at=None, outlier_percent=50
    )
    worked(found)
    flow.submit(found.pk, user=anna, accepted=set(flow.ACCEPTED))
    worked(found)

    assert [price.currency for price in found.book.prices.all()] == ["USD"]
    assert list(PriceList.objects.values_list("pk", flat=True)) == [found.book_id] != [first]


def test_nothing_is_left_of_a_list_whose_import_is_cancelled(provider, anna):
    found = submitted(provider, anna)

    flow.cancel(found.pk, user=anna)

    assert not PriceList.objects.exists()
    assert not Price.objects.exists()
    with pytest.raises(Refused, match="cancelled"):
        flow.approve(found.pk, user=None, book=found.book_id)
    with pytest.raises(books.Refused, match="gone"):
        books.activate(found.book_id)


def test_list_that_is_not_proposed_any_more_is_never_thrown_away(provider, anna):
    found = submitted(provider, anna)
    PriceList.objects.filter(pk=found.book_id).update(status="active")

    flow.cancel(found.pk, user=anna)

    assert PriceList.objects.get().prices.count() == 1


def test_import_is_cancelled_while_nobody_writes_it(provider, anna):
    found = compared(provider, csv("260,01,0.06"), anna)
    flow.submit(found.pk, user=anna, accepted=set())

    with work.held(found.pk):
        (end,) = at_once(lambda: flow.cancel(found.pk, user=anna).status)
    assert "wait a moment" in end
    assert flow.cancel(found.pk, user=anna).status == "cancelled"


def test_nothing_is_left_of_a_list_that_could_not_be_written(provider, anna, monkeypatch):
    found = compared(provider, csv("260,01,0.06"), anna)
    flow.submit(found.pk, user=anna, accepted=set())
    monkeypatch.setattr(work.writing, "new_rows", lambda *_: (_ for _ in ()).throw(MemoryError))
    for _ in range(work.MOST_TRIES):
        with pytest.raises(MemoryError):
            work.work()
        assert PriceList.objects.get().status == "proposed"

    worked(found)

    assert (found.status, found.book, PriceList.objects.count()) == ("failed", None, 0)


def test_partial_list_is_written_with_progress_to_the_end(provider, anna):
    in_force(provider, n260_01="0.05", n260_02="0.05", n260_03="0.05")
    found = compared(provider, csv("260,01,0.06"), anna, partial=True)
    flow.submit(found.pk, user=anna, accepted=set())
    told = []

    with work.held(found.pk):
        work.step(found.pk, told=lambda one, step: told.append((step, one.done, one.total)))

    assert told[-1] == ("keeping the rest", 3, 4)  # the first of the three is replaced


def test_copy_of_a_draft_has_the_hands_of_the_draft(provider, anna, ben):
    draft = books.copy_as_draft(in_force(provider, n260_01="0.05").pk, by=anna)

    copy = books.copy_as_draft(draft.pk, by=ben)

    for person in (anna, ben):
        with pytest.raises(books.Refused, match="second person"):
            books.activate(copy.pk, by=person)


def test_list_approved_later_than_it_was_written_holds_from_its_approval(provider, anna, ben, settings):
    """What was in force until a moment in between is in the list, and over."""
    settings.SNAPSHOT_MAX_AGE = 0.0
    in_force(provider, n260_01="0.05")
    begin = datetime.now(UTC) + timedelta(seconds=1.5)
    mapping = replace(CODES, valid_from="from")
    content = csv(f"260,01,0.06,{begin.isoformat()}", header="mcc,mnc,price,from")
    found = compared(provider, content, anna, mapping=mapping)
    flow.submit(found.pk, user=anna, accepted=set(flow.ACCEPTED))
    worked(found)
    assert found.book.prices.count() == 2

    time.sleep(max(0.0, (begin - datetime.now(UTC)).total_seconds()))
    flow.approve(found.pk, user=ben, book=found.book_id)

    quote, _ = tables.get().routes[provider.pk].book(now()).price(["260-01"], "PL", now())
    assert quote.total == 60_000


# --- the process ----------------------------------------------------------------------------------


def test_two_processes_never_work_on_one_import(provider):
    found = flow.upload(provider=provider, name="a.csv", content=csv("260,01,0.06"), user=None, mapping=CODES)
    seen = []

    def other():
        try:
            seen.append(work.work())
        finally:
            connection.close()

    with work.held(found.pk) as mine:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    assert mine
    assert seen == [False]
    assert worked(found).status == "ready"


def test_import_goes_on_when_its_process_dies(provider, anna, monkeypatch):
    """In the middle of writing: the rows that are there already are written anew, none twice."""
    in_force(provider, n260_01="0.05")
    found = compared(provider, csv("260,01,0.06"), anna)
    flow.submit(found.pk, user=anna, accepted=set())
    with monkeypatch.context() as patch:
        patch.setattr(work.Task, "_move", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            work.work()
    found.refresh_from_db()
    assert (found.status, found.book.status, found.book.prices.count()) == ("writing", "proposed", 1)

    worked(found)

    assert (found.status, written(found)) == ("submitted", {("260", "01"): Decimal("0.06")})
    assert PriceList.objects.count() == 2


def test_import_that_kills_its_process_fails_in_the_end(provider, monkeypatch):
    found = flow.upload(provider=provider, name="a.csv", content=csv("260,01,0.06"), user=None, mapping=CODES)
    monkeypatch.setattr(work.Task, "look", lambda _: (_ for _ in ()).throw(MemoryError))
    for _ in range(work.MOST_TRIES):
        with pytest.raises(MemoryError):
            work.work()

    worked(found)

    assert (found.status, "3 times" in found.fault) == ("failed", True)


def test_process_that_is_asked_to_end_leaves_the_import_to_another(provider):
    found = flow.upload(provider=provider, name="a.csv", content=csv("260,01,0.06"), user=None, mapping=CODES)

    for _ in range(work.MOST_TRIES + 1):
        work.work(stopping=lambda: True)

    assert worked(found).status == "ready"


def test_cancelled_import_is_not_gone_on_with(provider, anna):
    found = flow.upload(provider=provider, name="a.csv", content=csv("260,01,0.06"), user=anna, mapping=CODES)
    told = []

    def cancel(one, step):
        told.append(step)
        if step == "opening":
            flow.cancel(found.pk, user=anna)

    with work.held(found.pk):
        work.step(found.pk, told=cancel)

    found.refresh_from_db()
    assert (found.status, told[-1]) == ("cancelled", "opening")
    assert not work.work()


def test_progress_is_told_by_rows(provider, monkeypatch):
    monkeypatch.setattr(work, "GROUP", 10)
    content = csv(*(f"260,{number:03d},0.05" for number in range(35)))
    found = flow.upload(provider=provider, name="a.csv", content=content, user=None, mapping=CODES)
    told = []

    with work.held(found.pk):
        while work.step(found.pk, told=lambda one, step: told.append((step, one.done, one.total))):
            pass

    assert [done for step, done, _ in told if step == "reading"] == [0, 10, 20, 30]
    assert ("reading", 30, 36) in told


def test_limits(provider, settings):
    settings.PRICE_IMPORT_ROWS = 2
    assert "cut the file" in compared(provider, csv(*(f"260,0{n},0.05" for n in range(3)))).fault
    settings.PRICE_IMPORT_MB = 0
    with pytest.raises(Refused, match="larger than"):
        flow.upload(provider=provider, name="a.csv", content=b"x", user=None)


def test_mapping_that_does_not_fit_the_file_fails_and_says_so(provider):
    found = compared(provider, csv("260,01,0.06", header="mcc,mnc,net price"))

    assert (found.status, found.fault) == ("failed", "The file has no column price.")


def test_columns_are_read_again_with_another_separator(provider, anna):
    found = worked(flow.upload(provider=provider, name="a.csv", content=b"a;b,c\n1;2,3\n", user=anna))

    flow.look_again(found.pk, replace(guess.sheets.Form("csv"), delimiter=";"), user=anna)

    assert worked(found).head["columns"] == ["a", "b,c"]
    flow.look_again(found.pk, replace(guess.sheets.Form("csv"), delimiter=","), user=anna)
    assert worked(found).head["columns"] == ["a;b", "c"]


def test_purge_forgets_rows_of_closed_imports_and_old_files(provider, anna):
    for days in (500, 50, 5):
        found = compared(provider, csv("260,01,0.06", "260,x,1"), anna)
        flow.cancel(found.pk, user=anna)
        PriceImport.objects.filter(pk=found.pk).update(closed_at=datetime.now(UTC) - days * DAY)

    work.purge()

    assert [model.objects.count() for model in (StagedPrice, LeftOut, PriceFile, PriceImport)] == [1, 1, 2, 3]


def test_raw_sql_cannot_insert_an_overlapping_price(provider):
    price = in_force(provider, n260_01="0.05").prices.get()
    copy = """INSERT INTO routing_price (price_list_id, country, mcc, mnc, prefix, price, price_delivered, currency,
      valid_from, valid_to) SELECT price_list_id, country, mcc, %(mnc)s, prefix, price, price_delivered, currency,
      '2026-01-01', '2026-02-01' FROM routing_price WHERE id = %(id)s"""

    rows(copy, {"id": price.pk, "mnc": "02"})
    with pytest.raises(Exception, match="one_price_at_a_time"):
        rows(copy, {"id": price.pk, "mnc": "01"})
    assert Price.objects.count() == 2


def test_approved_import_routes_and_its_roll_back_too(provider, anna, ben, settings, monkeypatch):
    settings.SNAPSHOT_MAX_AGE = 0.0
    in_force(provider, n260_01="0.05")

    before = tables.get()
    while_written = []
    told = work.Task.tell

    def tell(task, *args, **fields):
        told(task, *args, **fields)
        while_written.append(tables.get())

    monkeypatch.setattr(work.Task, "tell", tell)
    found = applied(provider, csv("260,01,0.06"), anna, ben)
    book = tables.get().routes[provider.pk].book(now())
    flow.roll_back(found.pk, user=ben)
    again = tables.get().routes[provider.pk].book(now())

    assert while_written
    assert all(one is before for one in while_written)
    assert [quote.total for quote in book.quotes] == [60_000]
    assert [quote.total for quote in again.quotes] == [50_000]
