"""Files to rows, and the mapping that is guessed from them."""

import io
import zipfile
from dataclasses import replace

import openpyxl
import pytest

from routing.imports import guess, sheets
from routing.imports.errors import Unreadable
from routing.imports.mapping import COLUMNS, Mapping, column_names, problems
from routing.imports.rows import Left, Reader, Staged
from tests.routing.price_files import PRICES, SHAPES, document, excel


def rows(content):
    return [row.cells for row in sheets.read(content, sheets.detect(content))]


TEXT = "Країна;Ціна\nУкраїна;0,05\nПольща;0,04\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1251"])
def test_encoding_is_guessed(encoding):
    assert rows(TEXT.encode(encoding)) == [["Країна", "Ціна"], ["Україна", "0,05"], ["Польща", "0,04"]]


def test_western_letters_are_not_taken_for_cyrillic():
    assert rows("pays;prix\nCôte d'Ivoire;1\nRéunion;2\n".encode("latin-1"))[1] == ["Côte d'Ivoire", "1"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_separator_is_guessed(delimiter):
    content = f'a{delimiter}b{delimiter}c\n1{delimiter}"x, y; z"{delimiter}3\n'.encode()

    assert rows(content)[1] == ["1", "x, y; z", "3"]


def test_wrong_encoding_is_told_with_its_line():
    with pytest.raises(Unreadable, match="Line 2 is not UTF-8"):
        list(sheets.read(b"a,b\n\xff,1\n", sheets.Form("csv", "utf-8")))


def test_open_quote_swallows_no_row_in_silence():
    content = b'a,b\n"x,1\ny,2\nz,3\n'

    found = list(sheets.read(content, sheets.Form("csv")))

    assert "quote not closed" in found[1].fault
    assert found[1].line == 2


def test_enormous_cell_is_a_bad_row_and_the_next_one_is_read():
    content = b"a,b\n" + b"x" * 200_000 + b",1\nok,2\n"

    found = list(sheets.read(content, sheets.Form("csv")))

    assert "field larger than field limit" in found[1].fault
    assert found[2].cells == ["ok", "2"]


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\xd0\xcf\x11\xe0old excel", b"PK\x03\x04broken", b"{not json", b"[]"]
)
def test_what_is_no_price_list_is_refused_with_words(content):
    with pytest.raises(Unreadable):
        guess.look(content)


def test_excel_cells_become_text():
    content = excel(
        ["MCC", "MNC", "Price"], [260, "01", 0.1 + 0.2], [260, 2, "=A1"], [None, None, None], [260.0, 3, 1e-7]
    )

    assert rows(content) == [
        ["MCC", "MNC", "Price"],
        ["260", "01", "0.3"],
        ["260", "2", "=A1"],
        ["260", "3", "0.0000001"],
    ]


def test_other_sheets_with_rows_are_named():
    book = openpyxl.load_workbook(io.BytesIO(excel(["Country", "Price"], ["PL", 0.03])))
    book.create_sheet("Empty")
    book.create_sheet("Asia").append(["KZ", 0.04])
    book["Asia"].append(["UZ", 0.05])
    content = io.BytesIO()
    book.save(content)

    *read, other = sheets.read(content.getvalue(), sheets.Form("excel"))

    assert [row.cells for row in read] == [["Country", "Price"], ["PL", "0.03"]]
    assert (other.cells, "another sheet" in other.fault) == (["Asia"], True)


def test_name_of_another_sheet_is_no_value_of_a_column():
    book = openpyxl.load_workbook(io.BytesIO(excel(["Country code", "Price EUR"], ["PL", 0.03], ["DE", 0.05])))
    book.create_sheet("2026").append(["KZ", 0.04])
    content = io.BytesIO()
    book.save(content)

    head = guess.look(content.getvalue())

    assert head.rows == [["PL", "0.03"], ["DE", "0.05"]]
    assert (head.mapping.country, head.mapping.dial_code) == ("Country code", "")


def test_broken_sheet_behind_the_prices_is_named():
    book = openpyxl.load_workbook(io.BytesIO(excel(["Country", "Price"], ["PL", 0.03])))
    book.create_sheet("Appendix").append(["?"])
    content = io.BytesIO()
    book.save(content)
    broken = io.BytesIO()
    with zipfile.ZipFile(content) as whole, zipfile.ZipFile(broken, "w") as damaged:
        for part in whole.infolist():
            text = whole.read(part)
            damaged.writestr(part, text.partition(b"<row")[0] if part.filename.endswith("sheet2.xml") else text)

    *read, other = sheets.read(broken.getvalue(), sheets.Form("excel"))

    assert [row.cells for row in read] == [["Country", "Price"], ["PL", "0.03"]]
    assert (other.cells, "cannot be read" in other.fault) == (["Appendix"], True)


def bomb(name, size):
    found = io.BytesIO(excel(["a"], [1]))
    with (
        zipfile.ZipFile(found, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as part,
    ):
        for _ in range(size // 2**20):
            part.write(bytes(2**20))
    return found.getvalue()


@pytest.mark.parametrize(("limit", "name"), [("STRINGS", "xl/sharedStrings.xml"), ("UNPACKED", "xl/media/1.png")])
def test_excel_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(monkeypatch, limit, name):
    monkeypatch.setattr(sheets, limit, 2**20)
    content = bomb(name, 3 * 2**20)

    assert len(content) < 100_000
    with pytest.raises(Unreadable, match="MB"):
        list(sheets.read(content, sheets.Form("excel")))


def test_entities_in_excel_are_refused():
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(excel(["a"], [1]))) as source, zipfile.ZipFile(found, "w") as target:
        for part in source.infolist():
            text = source.read(part)
            if part.filename.startswith("xl/worksheets/"):
                text = b'<!DOCTYPE x [<!ENTITY e "boom">]>' + text
            target.writestr(part, text)

    with pytest.raises(Unreadable, match="cannot be read"):
        list(sheets.read(found.getvalue(), sheets.Form("excel")))


def test_number_of_a_million_digits_is_not_written_out():
    content = document([{"iso2": "PL", "price": 1}]).replace(b'"price": 1', b'"price": 1E+999999')

    assert rows(content)[1] == ["PL", "1E+999999"]


@pytest.mark.parametrize("value", [{"message": "no such account"}, {"SMS": {}}, {"outbound_sms_prices": [1]}])
def test_json_that_begins_like_a_known_list_is_refused_with_words(value):
    with pytest.raises(Unreadable, match="goes on otherwise"):
        guess.look(document(value))


def test_all_countries_of_vonage_come_in_one_document():
    one = {"countryCode": "PL", "currency": "EUR", "defaultPrice": "0.03", "networks": []}

    assert len(rows(document({"count": 2, "countries": [one, {**one, "countryCode": "FR"}]}))) == 3


def read(content, mapping):
    """What the rows of a file become."""
    reader = None
    for row in sheets.read(content, mapping.form):
        if row.line == mapping.header:
            reader = Reader(mapping, column_names(row.cells))
        elif row.line > mapping.header:
            yield from reader.read(row)


def left_out(value):
    """Column, value and reason of what gives no price in a JSON file whose mapping is guessed."""
    content = document(value)
    return [
        (one.kind.value, one.column, one.value, one.reason)
        for one in read(content, guess.look(content).mapping)
        if isinstance(one, Left)
    ]


TWILIO = {"iso_country": "PL", "price_unit": "USD"}
SENT = [{"carrier": "One", "mcc": "260", "mnc": "01", "prices": [{"number_type": "mobile", "current_price": "0.03"}]}]
RECEIVED = [{"number_type": "mobile", "base_price": "0.02", "current_price": "0.01"}]
INBOUND = "an inbound price, not for sending"


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (
            {**TWILIO, "outbound_sms_prices": SENT, "inbound_sms_prices": RECEIVED},
            [("skipped", "current_price", "0.01", INBOUND)],
        ),
        (
            [
                {**TWILIO, "outbound_sms_prices": SENT, "inbound_sms_prices": None},
                {**TWILIO, "iso_country": "AQ", "outbound_sms_prices": None},
            ],
            [("error", "current_price", "", "no price")],
        ),
        (
            {
                "country_iso": "PL",
                "message": {"outbound": {"rate": "0.04"}, "inbound": {"rate": "0.01"}},
                "voice": {"inbound": {}},
            },
            [("skipped", "rate", "0.01", INBOUND), ("skipped", "rate", "", "voice: no prices of messages")],
        ),
        (
            {
                "countries": [
                    {"countryCode": "PL", "currency": "EUR", "defaultPrice": "0.03"},
                    {"countryCode": "AQ", "currency": "EUR", "networks": []},
                    {"countryCode": "TF"},
                ]
            },
            [("error", "price", "", "no price"), ("skipped", "type", "", "only rows with mobile are taken")],
        ),
        (
            {
                "SMS": {
                    "countryPrices": {
                        "PL": {
                            "transactional": [{"mcc": "260", "mnc": "01", "domesticPrice": 0.03}],
                            "otp": [{"mcc": "260", "mnc": "01", "domesticPrice": 0.02}],
                        },
                        "AQ": {"formatView": "ORIGINAL", "transactional": []},
                        "TF": {"formatView": "ORIGINAL"},
                    }
                }
            },
            [
                ("skipped", "class", "otp", "only rows with transactional are taken"),
                ("error", "domesticPrice", "", "no price"),
                ("skipped", "class", "", "only rows with transactional are taken"),
            ],
        ),
        (
            {
                "routes": {"sms": [{"iso2": "PL", "price_eur": "0.03"}, {"iso2": "FR", "price_eur": "0.04"}]},
                "suspended": [{"iso2": "RU", "price_eur": "0.05"}],
            },
            [("skipped", "price_eur", "", "another list, suspended (1): save it as a file of its own")],
        ),
    ],
)  # fmt: skip
def test_no_entry_of_a_price_service_is_lost(value, left):
    assert left_out(value) == left


def test_inbound_price_stays_out_whatever_the_mapping_chooses():
    """Without MCC it would be the price of the whole country."""
    content = document({**TWILIO, "outbound_sms_prices": SENT, "inbound_sms_prices": RECEIVED})
    mapping = replace(guess.look(content).mapping, only_column="number_type", only_words="mobile")

    places = [one.place for one in read(content, mapping) if isinstance(one, Staged)]

    assert places == ["n260-01"]


@pytest.mark.parametrize("name", SHAPES)
def test_mapping_of_every_shape_is_guessed(name):
    """Then a person has nothing to do but to give a currency where the file names none."""
    head = guess.look(SHAPES[name])
    mapping = head.mapping if head.mapping.currency or head.mapping.currency_column else None
    mapping = mapping or Mapping.from_json({**head.mapping.to_json(), "currency": "USD"})

    assert problems(mapping, head.columns) == []
    places = {(one.place, one.valid_from) for one in read(SHAPES[name], mapping) if isinstance(one, Staged)}
    refused = 1 if name == "bad.csv" else 0  # two prices for one place, which the comparison sees
    assert len(places) == PRICES[name] + refused


def test_date_above_the_header_is_shown():
    assert guess.look(SHAPES["supplier.csv"]).date == "15.12.2030"


def test_fields_that_are_guessed_exist():
    assert set(guess.NAMES) <= set(COLUMNS)


def test_columns_have_a_name_each():
    assert column_names(["a", "", "a", " b \n c "]) == ["a", "column 2", "a (2)", "b c"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"price": ""}, "column of the price"),
        ({"mcc": "", "mnc": ""}, "tells the place"),
        ({"currency": ""}, "currency"),
        ({"price": "gone"}, "no column gone"),
        ({"mcc": "", "country": "a"}, "needs the column of its MCC"),
        ({"only_words": "x"}, "choose rows"),
        ({"decimal": "x"}, "decimal"),
    ],
)
def test_mapping_that_cannot_work_says_why(change, words):
    stored = {"mcc": "mcc", "mnc": "mnc", "price": "price", "currency": "EUR", **change}

    assert words in " ".join(problems(Mapping.from_json(stored), ["mcc", "mnc", "price", "a"]))
