"""A provider's file from the upload to the list in force, and back, in a real browser."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from providers.sql import now
from routing import books
from routing.import_models import PriceImport, PriceMapping
from routing.imports import work
from routing.models import ExchangeRate, PriceList
from tests.factories import PriceFactory, PriceListFactory, ProviderFactory
from tests.routing import price_files

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def process():
    """What the import process does."""
    while work.work():
        pass


@pytest.fixture
def provider():
    return ProviderFactory(slug="carrier-a")


def upload(screen, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    screen.open("routing/priceimport/add/")
    screen.page.get_by_label("Provider").select_option(label="carrier-a")
    screen.page.locator("input[type=file]").set_input_files(path)
    screen.page.get_by_role("button", name="Upload", exact=True).click()


def test_list_from_upload_to_roll_back(screen, provider, tmp_path):
    page = screen.page
    old = PriceListFactory(provider=provider, name="October")
    for mcc, mnc, price in (("255", "01", "0.05"), ("255", "03", "0.06"), ("250", "01", "0.03")):
        PriceFactory(price_list=old, country="UA" if mcc == "255" else "RU", mcc=mcc, mnc=mnc, price=price)
    screen.open("routing/priceimport/add/")
    screen.keep("import-upload")
    upload(screen, tmp_path, "supplier.csv", price_files.SUPPLIER)
    expect(page.get_by_text("Waiting")).to_be_visible()
    screen.keep("import-waiting")

    process()
    expect(page.get_by_text("What the columns mean")).to_be_visible()
    expect(page.get_by_label("Decimal sign")).to_have_value(",")
    expect(page.get_by_label("Currency of the file")).to_have_value("EUR")
    screen.keep("import-mapping")
    page.get_by_label("Save this mapping as").fill("Cents")
    page.get_by_role("button", name="Read and compare").click()
    expect(page.get_by_text("The import process is at work")).to_be_visible()

    process()
    expect(page.get_by_text("What changes", exact=True)).to_be_visible()
    screen.keep("import-changes")
    page.locator(".tile", has_text="bad rows").click()
    expect(page.get_by_role("row", name="n/a")).to_contain_text("no price")
    screen.keep("import-bad-rows")
    page.set_viewport_size({"width": 420, "height": 900})
    reason = page.locator("td", has_text="no price").bounding_box()
    assert reason["x"] + reason["width"] <= 420  # on a phone it is not behind the edge
    page.set_viewport_size({"width": 1440, "height": 900})
    page.get_by_role("button", name="Ask for approval").click()
    expect(page.get_by_text("Confirm first")).to_be_visible()
    for box in page.locator("form[action*=submit] input[type=checkbox]").all():
        box.check(force=True)
    page.get_by_role("button", name="Ask for approval").click()
    expect(page.get_by_text("The import process is at work")).to_be_visible()
    screen.keep("import-writing")
    process()
    expect(page.get_by_text("a second person approves it")).to_be_visible()
    expect(page.get_by_role("button", name="Approve", exact=True)).to_have_count(0)
    screen.keep("import-submitted")

    screen.log_in(User.objects.create_superuser("second"))
    page.reload()
    screen.keep("import-approve")
    page.get_by_role("button", name="Approve", exact=True).click()
    expect(page.get_by_role("button", name="Roll back")).to_be_visible()
    screen.keep("import-applied")
    found = PriceImport.objects.get()
    assert found.book.status == PriceList.Status.ACTIVE
    assert PriceMapping.objects.get().name == "Cents"

    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("is in force again")).to_be_visible()
    screen.keep("import-rolled-back")
    assert books.in_force(provider.pk, now()) == old.pk


@pytest.mark.timeout(300)
def test_every_shape_loads(screen, provider, tmp_path):
    """One after the other, each compared with the list in force: none, since nothing is approved."""
    page = screen.page
    page.clock.install()
    ExchangeRate.objects.create(currency="USD", rate="1.1", valid_from="2026-01-01T00:00Z")
    ExchangeRate.objects.create(currency="GBP", rate="0.85", valid_from="2026-01-01T00:00Z")
    prices = {}
    for name, content in price_files.SHAPES.items():
        upload(screen, tmp_path, name, content)
        process()
        page.clock.fast_forward(1000)  # the page asks how far it is each second
        expect(page.get_by_text("What the columns mean")).to_be_visible()
        if not page.get_by_label("Currency of the file").input_value():
            page.get_by_label("Currency of the file").fill("USD")
        page.get_by_role("button", name="Read and compare").click()
        expect(page.get_by_text("The import process is at work")).to_be_visible()
        process()
        page.clock.fast_forward(1000)
        expect(page.get_by_text("What changes", exact=True)).to_be_visible()
        screen.picture(f"shape-{name}")
        prices[name] = PriceImport.objects.get(file_name=name).counts["prices"]

    assert prices == price_files.PRICES
