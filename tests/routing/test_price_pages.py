"""The pages beside the price lists, a list as a file, and the import from a shell."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command

from routing import coverage, exports
from routing.import_models import PriceImport
from routing.imports import flow, work
from routing.models import PriceList
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.routing.price_files import SHAPES

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("plain_static_files")]


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command("import_prices", *arguments, stdout=out, stderr=err)
    return out.getvalue()


def test_coverage_marks_the_cheapest_of_a_country():
    ProviderFactory(slug="a", price="0.05")
    ProviderFactory(slug="b", price="0.04")

    providers, countries = coverage.coverage()

    assert providers == {"a": True, "b": True}
    assert {country: [cell.best for cell in cells] for country, cells in countries}["UA"] == [False, True]


def test_disabled_provider_is_shown_and_counts_for_nothing(boss):
    ProviderFactory(slug="a", price="0.05")
    ProviderFactory(slug="b", price="0.04", enabled=False)

    _, countries = coverage.coverage()
    page = boss.get("/admin/routing/pricelist/coverage/").content.decode()

    assert [cell.best for cell in dict(countries)["UA"]] == [True, False]
    assert page.count("No other provider to go to") == len(countries)


def test_pages_open_with_what_comes(boss):
    soon = datetime.now(UTC) + timedelta(days=2)
    PriceFactory(price_list=PriceListFactory(name="now"), valid_to=soon)
    PriceListFactory(name="coming", valid_from=soon)

    page = boss.get("/admin/routing/pricelist/next-week/").content.decode()

    assert "coming (0 prices)" in page
    assert "ends" in page
    assert boss.get("/admin/routing/pricelist/coverage/").status_code == 200


def test_export_is_read_again_without_a_change(boss):
    book = PriceListFactory()
    for mnc in ("01", "02"):
        PriceFactory(price_list=book, country="PL", mcc="260", mnc=mnc)
    content = b"".join(boss.get(f"/admin/routing/pricelist/{book.pk}/prices.csv").streaming_content)

    found = flow.upload(provider=book.provider, name="export.csv", content=content, user=None)
    work.work()
    found.refresh_from_db()
    flow.choose_mapping(
        found.pk,
        work.Mapping.from_json(found.mapping),
        user=None,
        partial=False,
        effective_at=None,
        outlier_percent=50,
    )
    work.work()

    found.refresh_from_db()
    assert (found.status, found.counts["unchanged"], found.counts["rows"]) == ("ready", 2, 2)


@pytest.mark.parametrize("rows", [0, 3, 4, 5])
def test_file_that_comes_in_parts_is_whole(monkeypatch, rows):
    monkeypatch.setattr(exports, "CHUNK", 2)

    parts = list(exports.as_csv(["n"], ([n] for n in range(rows))))

    assert "".join(parts) == "\r\n".join(["n", *map(str, range(rows)), ""])
    assert max(part.count("\n") for part in parts) <= 2


def test_what_was_left_out_is_a_file(boss):
    mapping = work.Mapping(country="country", price="price", currency="EUR")
    content = b"country,price\nPL,0.05\nFR,free\n"
    found = flow.upload(provider=ProviderFactory(), name="a.csv", content=content, user=None, mapping=mapping)
    while work.work():
        pass

    answer = boss.get(f"/admin/routing/priceimport/{found.pk}/left-out.csv")

    assert b"".join(answer.streaming_content).decode().splitlines() == [
        "line,kind,column,value,reason",
        "3,error,price,free,is no number",
    ]


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_spreadsheet_runs_nothing(value):
    assert exports.safe(value) == f"'{value}"


def test_dry_run_keeps_nothing(tmp_path):
    ProviderFactory(slug="a")
    path = tmp_path / "codes.csv"
    path.write_bytes(SHAPES["codes.csv"])

    assert "4 rows, 4 prices" in run(str(path), "--provider", "a", "--set", "currency=EUR", "--dry-run")
    assert not PriceImport.objects.exists()
    with pytest.raises(CommandError, match="second person"):
        run(str(path), "--provider", "a", "--apply")


def test_shell_hands_in_and_applies_only_where_nobody_is_bound(tmp_path, settings):
    ProviderFactory(slug="a")
    path = tmp_path / "codes.csv"
    path.write_bytes(SHAPES["codes.csv"])

    User.objects.create_user("olena")
    with pytest.raises(CommandError, match="who hands it in"):
        run(str(path), "--provider", "a", "--set", "currency=EUR")
    run(str(path), "--provider", "a", "--set", "currency=EUR", "--user", "olena")
    assert PriceImport.objects.get().status == "submitted"
    settings.PRICE_FOUR_EYES = "off"
    run(str(path), "--provider", "a", "--set", "currency=EUR", "--apply")
    assert sorted(PriceList.objects.values_list("status", flat=True)) == ["active", "proposed"]


@pytest.fixture
def submitted(boss):
    """A file that a shell handed in, and that `boss` may approve."""
    mapping = work.Mapping(country="country", price="price", currency="EUR")
    given = {"name": "a.csv", "content": b"country,price\nPL,0.05\n", "user": None, "mapping": mapping}
    found = flow.upload(provider=ProviderFactory(slug="a"), **given)
    while work.work():
        pass
    flow.submit(found.pk, user=None, accepted=set())
    work.work()
    found.refresh_from_db()
    return found


def page_of(browser, found):
    return browser.get(f"/admin/routing/priceimport/{found.pk}/change/").content.decode()


def verb(browser, found, name, **body):
    return browser.post(f"/admin/routing/priceimport/{found.pk}/{name}/now/", body, follow=True).content.decode()


def test_page_approves_the_list_that_it_shows(boss, submitted):
    assert f'name="book" value="{submitted.book_id}"' in page_of(boss, submitted)

    assert "written anew since you looked" in verb(boss, submitted, "approve", book=submitted.book_id + 1)
    assert "in force from" in verb(boss, submitted, "approve", book=submitted.book_id)
    assert "approved by" in page_of(boss, submitted)
    assert "There is no list before" in verb(boss, submitted, "roll-back")


def test_who_sent_a_list_back_has_not_approved_it(boss, submitted):
    verb(boss, submitted, "reject", reason="why?")
    assert "sent back by" in page_of(boss, submitted)

    flow.submit(submitted.pk, user=None, accepted=set())
    work.work()

    page = page_of(boss, submitted)
    assert "approved by" not in page
    assert "sent back by" not in page


def test_list_that_was_compared_with_another_one_offers_to_compare_it_again(boss, submitted):
    PriceListFactory(provider=submitted.provider)

    page = page_of(boss, submitted)

    assert "compare it again" in page
    assert ">Approve<" not in "".join(page.split())
    verb(boss, submitted, "compare-again")
    submitted.refresh_from_db()
    assert (submitted.status, submitted.book_id) == ("reading", None)


def test_list_that_begins_later_is_named_where_it_matters(boss, submitted):
    """It knows nothing of what this one changes, so its prices may bring old ones back."""
    begin = datetime.now(UTC) + timedelta(days=3)
    PriceFactory(price_list=PriceListFactory(provider=submitted.provider, name="December", valid_from=begin))
    told = "a December begins"

    assert told in page_of(boss, submitted)
    draft = PriceListFactory(provider=submitted.provider, status="draft")
    for word in ("activate", "retire"):
        assert told in boss.get(f"/admin/routing/pricelist/{draft.pk}/{word}/").content.decode()
    assert told not in boss.get(f"/admin/routing/pricelist/{draft.pk}/copy/").content.decode()
    verb(boss, submitted, "approve", book=submitted.book_id)
    assert told in page_of(boss, submitted)  # before it is rolled back


def test_start_that_has_passed_is_as_soon_as_approved(boss, submitted):
    PriceImport.objects.update(effective_at=datetime.now(UTC) - timedelta(days=20))

    assert "as soon as approved" in page_of(boss, submitted)


def test_list_that_has_not_begun_does_not_begin(boss, submitted):
    PriceImport.objects.update(effective_at=datetime.now(UTC) + timedelta(days=1))
    flow.approve(submitted.pk, user=User.objects.create_user("second"), book=submitted.book_id)

    assert "It will not begin." in page_of(boss, submitted)


def test_page_of_a_list_leads_to_its_import(boss, submitted):
    page = boss.get(f"/admin/routing/pricelist/{submitted.book_id}/change/").content.decode()

    assert f"/admin/routing/priceimport/{submitted.pk}/change/" in page
    assert "a.csv (submitted)" in page


def test_import_that_nobody_writes_says_so(boss, submitted):
    long_ago = datetime.now(UTC) - timedelta(minutes=1)
    PriceImport.objects.update(status="writing", step="", submitted_at=long_ago)

    page = page_of(boss, submitted)

    assert "No import process has taken it up yet" in page
    assert "Cancel the import" in page


def test_state_of_another_version_does_not_close_the_page(boss, submitted):
    """While old and new processes run side by side."""
    PriceImport.objects.update(status="approved")

    assert "approved" in page_of(boss, submitted)
    assert boss.get("/admin/routing/priceimport/").status_code == 200


def test_approval_needs_the_permission(client):
    found = flow.upload(provider=ProviderFactory(), name="a.csv", content=SHAPES["codes.csv"], user=None)
    PriceImport.objects.update(status="submitted")
    user = User.objects.create_user("helper", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_priceimport", "change_priceimport"]))
    client.force_login(user)

    assert client.post(f"/admin/routing/priceimport/{found.pk}/approve/now/").status_code == 403
    assert client.get(f"/admin/routing/priceimport/{found.pk}/change/").status_code == 200
