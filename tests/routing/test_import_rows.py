"""One row to its prices, or the reason why it has none."""

from dataclasses import replace
from decimal import Decimal

import pytest

from routing.imports.mapping import Mapping
from routing.imports.rows import Left, Reader, moment
from routing.imports.sheets import Row

NETWORKS = Mapping(mcc="mcc", mnc="mnc", price="price", currency="EUR")
COLUMNS = ["mcc", "mnc", "price", "other", "when", "until", "iso", "code", "area", "joined", "fee", "delivered"]


def read(mapping=NETWORKS, **cells):
    return list(Reader(mapping, COLUMNS).read(Row(7, [cells.get(name, "") for name in COLUMNS])))


def places(mapping=NETWORKS, **cells):
    return [one.place for one in read(mapping, price="0.05", **cells)]


def left(mapping=NETWORKS, **cells):
    (found,) = read(mapping, **cells)
    assert isinstance(found, Left), found
    assert found.line == 7
    return found.column, found.value, found.reason


@pytest.mark.parametrize(
    ("mnc", "found"),
    [
        ("01", ["n260-01"]),
        ("010", ["n260-010"]),
        ("01,02;03/04 05", ["n260-01", "n260-02", "n260-03", "n260-04", "n260-05"]),
        ("01,01", ["n260-01"]),
        *((word, ["m260"]) for word in ("", "*", "0", "All", "other")),
    ],
)
def test_networks_of_a_row(mnc, found):
    assert places(mcc="260", mnc=mnc) == found


@pytest.mark.parametrize(("joined", "place"), [("26001", "n260-01"), ("310410", "n310-410"), ("260", "m260")])
def test_joined_code(joined, place):
    assert places(Mapping(mccmnc="joined", price="price", currency="EUR"), joined=joined) == [place]


@pytest.mark.parametrize(
    ("code", "area", "place", "country"),
    [("48", "50", "p4850", "PL"), ("+7", "7", "p77", "KZ"), ("0048", "", "p48", "PL"), ("1", "416", "p1416", "CA")],
)
def test_prefix(code, area, place, country):
    mapping = Mapping(dial_code="code", area_code="area", price="price", currency="EUR")
    (found,) = read(mapping, code=code, area=area, price="0.05")

    assert (found.place, found.country) == (place, country)


@pytest.mark.parametrize(
    ("told", "country"), [("PL", "PL"), ("Poland", "PL"), ("CÔTE D'IVOIRE", "CI"), ("Kosovo", "XK")]
)
def test_country_by_code_or_name(told, country):
    assert places(Mapping(country="iso", price="price", currency="EUR"), iso=told) == [f"c{country}"]


def test_country_of_an_mcc_is_known_and_the_list_may_say_otherwise():
    mapping = replace(NETWORKS, country="iso")

    assert read(mcc="234", mnc="10", price="1")[0].country == "GB"
    assert read(mapping, mcc="234", mnc="50", iso="Jersey", price="1")[0].country == "JE"


@pytest.mark.parametrize(
    ("cells", "column", "reason"),
    [
        ({"mcc": "260", "mnc": "1", "price": "1"}, "mnc", "two or three digits: is it 01"),
        ({"mcc": "26O", "mnc": "01", "price": "1"}, "mcc", "letter O"),
        ({"mcc": "26", "mnc": "01", "price": "1"}, "mcc", "three digits"),
        ({"mcc": "999", "mnc": "01", "price": "1"}, "mcc", "no country"),
        ({"mcc": "", "mnc": "01", "price": "1"}, "mcc", "needs its MCC"),
        ({"mcc": "", "mnc": "", "price": "1"}, "mcc", "tells no place"),
        ({"mcc": "260", "mnc": "01"}, "price", "no price"),
        ({"mcc": "260", "mnc": "01", "price": "n/a"}, "price", "no price"),
        ({"mcc": "260", "mnc": "01", "price": "-0.1"}, "price", "negative"),
        ({"mcc": "260", "mnc": "01", "price": "1,234.5"}, "price", "comma and a point"),
        ({"mcc": "260", "mnc": "01", "price": "0,5"}, "price", "decimal sign of this file is a point"),
        ({"mcc": "260", "mnc": "01", "price": "1e5"}, "price", "no number"),
        ({"mcc": "260", "mnc": "01", "price": "٣"}, "price", "no number"),
        ({"mcc": "260", "mnc": "01", "price": "0.1234567"}, "price", "six decimals"),
        ({"mcc": "260", "mnc": "01", "price": "1000000"}, "price", "not below"),
        ({"mcc": "=1+1", "mnc": "01", "price": "1"}, "mcc", "formula"),
        ({"mcc": "260", "mnc": "01", "price": "=A1"}, "price", "formula"),
    ],
)
def test_bad_row_is_named_by_column_value_and_reason(cells, column, reason):
    found = left(**cells)

    assert found[:2] == (column, cells.get(column, ""))
    assert reason in found[2]


def test_list_with_one_bad_network_gives_no_price():
    assert left(mcc="260", mnc="01,x1", price="1")[0] == "mnc"


def test_joined_code_must_agree_with_its_parts():
    mapping = replace(NETWORKS, mccmnc="joined")

    assert places(mapping, mcc="260", mnc="01", joined="26001") == ["n260-01"]
    assert places(mapping, mcc="260", mnc="0", joined="2600") == ["m260"]
    assert left(mapping, mcc="260", mnc="01", joined="26099", price="1")[0] == "joined"


@pytest.mark.parametrize(
    ("change", "cells", "submit", "delivered"),
    [
        ({}, {"price": "0.0590"}, "0.059", "0"),
        ({"decimal": ",", "divisor": 100}, {"price": "5,90"}, "0.059", "0"),
        ({"divisor": 1000}, {"price": "59"}, "0.059", "0"),
        ({"fee": "fee"}, {"price": "0.05", "fee": "0.009"}, "0.059", "0"),
        ({"charged": "delivery"}, {"price": "0.059"}, "0", "0.059"),
        ({"price_delivered": "delivered"}, {"price": "0.01", "delivered": "0.049"}, "0.01", "0.049"),
        ({}, {"price": "€ 0.059"}, "0.059", "0"),
        ({}, {"price": "0.05900000"}, "0.059", "0"),
    ],
)
def test_price_is_exact(change, cells, submit, delivered):
    (found,) = read(replace(NETWORKS, **change), mcc="260", mnc="01", **cells)

    assert (found.price, found.price_delivered) == (Decimal(submit), Decimal(delivered))


def test_lost_zeros_are_put_back_where_it_is_said():
    assert places(replace(NETWORKS, pad_mnc=True), mcc="260", mnc="1") == ["n260-01"]


def test_currency_of_a_row_wins():
    mapping = replace(NETWORKS, currency_column="other")

    assert read(mapping, mcc="260", mnc="01", price="1", other="usd")[0].currency == "USD"
    assert read(mapping, mcc="260", mnc="01", price="1")[0].currency == "EUR"
    assert left(mapping, mcc="260", mnc="01", price="1", other="dollars")[0] == "other"


def test_rows_that_are_not_meant_are_skipped_by_name():
    mapping = replace(NETWORKS, only_column="other", only_words="outbound, transactional")

    assert places(mapping, mcc="260", mnc="01", other="SMS Outbound") == ["n260-01"]
    (found,) = read(mapping, mcc="260", mnc="01", price="1", other="Inbound")
    assert (found.kind, found.value) == ("skipped", "Inbound")


@pytest.mark.parametrize(
    ("text", "order", "found"),
    [
        ("2026-12-01", "dmy", "2026-12-01T00:00:00+00:00"),
        ("2026-12-01T02:00:00+02:00", "dmy", "2026-12-01T00:00:00+00:00"),
        ("01.12.2026", "mdy", "2026-12-01T00:00:00+00:00"),
        ("01/12/2026 08:30", "dmy", "2026-12-01T08:30:00+00:00"),
        ("12/01/2026", "mdy", "2026-12-01T00:00:00+00:00"),
    ],
)
def test_moments(text, order, found):
    assert moment(text, order).isoformat() == found


@pytest.mark.parametrize("text", ["31.02.2026", "soon", "2026-13-01", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment(text):
    assert moment(text) is None


def test_times_of_a_row():
    mapping = replace(NETWORKS, valid_from="when", valid_to="until")

    assert (
        left(mapping, mcc="260", mnc="01", price="1", when="2026-12-02", until="2026-12-01")[2]
        == "ends before it begins"
    )
    assert left(mapping, mcc="260", mnc="01", price="1", when="soon")[0] == "when"


def test_more_cells_than_columns_is_an_error():
    (found,) = Reader(NETWORKS, COLUMNS).read(Row(3, ["260", "01", "0.05", *[""] * 9, "0.06"]))

    assert "more cells than columns" in found.reason
