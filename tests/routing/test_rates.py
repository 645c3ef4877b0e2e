"""Exchange rates from the file of the ECB, and their age."""

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from routing import rates
from routing.checks import exchange_rates
from routing.models import ExchangeRate
from routing.snapshot import tables
from tests.factories import PriceFactory
from tests.messaging.stages import now

pytestmark = pytest.mark.django_db
HISTORY = """Date,USD,JPY,UAH,CYP,
2026-11-27,1.0835,163.52,48.9123,N/A,
2026-11-26,1.0811,163.9,,N/A,

"""
DAILY = "Date, USD, UAH, \n27 November 2026, 1.0835, 48.9123, \n"


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "rates.csv"
        path.write_text(text, encoding="utf-8-sig")
        out, err = io.StringIO(), io.StringIO()
        call_command("load_rates", str(path), stdout=out, stderr=err, no_color=True)
        return out.getvalue() + err.getvalue()

    return load


def known():
    return {(row.currency, row.valid_from.date().isoformat()): row.rate for row in ExchangeRate.objects.all()}


@pytest.mark.parametrize(("text", "count"), [(HISTORY, 5), (DAILY, 2)])
def test_both_files_of_the_bank_are_read(load, text, count):
    assert f"{count} rates are new" in load(text)
    assert known()["USD", "2026-11-27"] == Decimal("1.0835")
    assert ("CYP", "2026-11-27") not in known()


def test_loaded_again_only_what_differs_is_corrected(load):
    load(HISTORY)

    told = load(HISTORY.replace("1.0811", "1.0812"))

    assert "1 rates are new or corrected" in told
    assert known()["USD", "2026-11-26"] == Decimal("1.0812")


def test_another_reporting_currency_is_reckoned_over_the_euro(load, settings):
    settings.REPORTING_CURRENCY = "USD"

    load(DAILY)

    assert known() == {
        ("EUR", "2026-11-27"): Decimal("0.92293493"),
        ("UAH", "2026-11-27"): Decimal("45.14287033"),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Datum,USD\n2026-11-27,1\n", "line 1: the first column must be Date"),
        ("Date,dollar\n", "line 1: 'dollar' is no currency"),
        ("Date,USD\n2026-11-27,1.0\n27.11.2026,1.0\n", "line 3, Date: '27.11.2026'"),
        ("Date,USD\n2026-11-27,1,08\n", ""),
        ("Date,USD,UAH\n2026-11-27,1.08,many\n", "line 2, UAH: 'many' is no rate"),
        ("Date,USD\n2026-11-27,-1\n", "line 2, USD: '-1'"),
        ("Date,USD\n2026-11-27,NaN\n", "line 2, USD: 'NaN'"),
    ],
)
def test_wrong_file_is_refused_as_a_whole_with_line_column_and_value(load, text, words):
    if not words:  # one cell more than names: the decimal comma of a spreadsheet
        with pytest.raises(CommandError, match="line 2"):
            load(text)
        return
    with pytest.raises(CommandError) as error:
        load(text)

    assert words in str(error.value)
    assert not ExchangeRate.objects.exists()


def test_old_and_missing_rates_of_currencies_in_use_are_warned_about(load, settings):
    for currency in ("EUR", "USD", "UAH", "PLN"):
        PriceFactory(currency=currency)
    at = datetime(2026, 12, 5, tzinfo=UTC)
    load(DAILY)
    ExchangeRate.objects.create(currency="UAH", rate=49, valid_from=at - timedelta(days=1))

    found = rates.stale(tables.get(fresh=True), at)

    assert found == [
        "there is no exchange rate of PLN: its prices are not used",
        "the exchange rate of USD is 8 days old",
    ]


def test_check_of_the_database_warns():
    PriceFactory(currency="USD")
    ExchangeRate.objects.create(currency="USD", rate=1, valid_from=now() - timedelta(days=9))

    (warning,) = exchange_rates(None, databases=["default"])

    assert (warning.id, warning.msg) == ("routing.W001", "The exchange rate of USD is 9 days old.")
    assert exchange_rates(None) == []
