import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing import numbers
from routing.numbers import InvalidNumber, Number, mask, parse


def refusal(value: object) -> str:
    with pytest.raises(InvalidNumber) as caught:
        parse(value)  # type: ignore[arg-type]
    assert str(caught.value) == caught.value.reason, "the message must not quote the number"
    assert caught.value.__context__ is None or caught.value.__suppress_context__, "nor may a traceback"
    return caught.value.reason


@pytest.mark.parametrize(
    ("value", "msisdn", "country"),
    [
        ("+380501234567", "+380501234567", "UA"),
        ("+38 (050) 123-45-67", "+380501234567", "UA"),
        ("+38.050.123.45.67", "+380501234567", "UA"),
        ("+12025550123", "+12025550123", "US"),
        ("+18095551234", "+18095551234", "DO"),
        ("+77012345678", "+77012345678", "KZ"),
        ("+79161234567", "+79161234567", "RU"),
        ("+38344123456", "+38344123456", "XK"),
        ("+390612345678", "+390612345678", "IT"),
        ("+44 (0) 7400 123456", "+447400123456", "GB"),  # the trunk zero, as people write it
    ],
)
def test_numbers_are_normalised_and_placed(value: str, msisdn: str, country: str) -> None:
    assert parse(value) == Number(msisdn, country)


@pytest.mark.parametrize(
    "value",
    [None, 380501234567, b"+380501234567", ["+1"], "", " ", "+", "++380501234567", "hello", "+38050123456a",
     "+380501234567;ext=5", "+380501234567\n", " +380501234567", "+380501234567 ", "+٣٨٠٥٠١٢٣٤٥٦٧",
     "+380\u00a0501234567", "+380501234567\x00", "tel:+380501234567", "+1" + "0" * 5000],
)  # fmt: skip
def test_what_is_not_written_as_a_number(value: object) -> None:
    assert refusal(value) == "not_a_number"


@pytest.mark.parametrize("value", ["380501234567", "0501234567", "00380501234567", "5"])
def test_number_without_its_plus_is_not_e164(value: str) -> None:
    assert refusal(value) == "not_e164"


@pytest.mark.parametrize(
    "value",
    [
        "+1",
        "+3805",
        "+38050123456",  # a digit short
        "+380501234567890",  # three too many
        "+999123456789",  # no such country code
        "+0123456789",
        "+99999999999999999999",
        "+15550100",  # a subscriber without the area code
    ],
)
def test_impossible_numbers(value: str) -> None:
    assert refusal(value) == "not_possible"


@pytest.mark.parametrize("value", ["+883510012345", "+882161234567", "+870773111632", "+80012345678"])
def test_number_of_no_country_has_no_route(value: str) -> None:
    assert phonenumbers.is_possible_number(phonenumbers.parse(value))
    assert refusal(value) == "not_possible"


@pytest.mark.parametrize(
    "value",
    [
        "+10000000000",
        "+15551234567",  # fits the plan of +1, but nobody knows in which of its 25 countries
        "+380000000000",
        "+3805012345678",  # ten digits: possible in Ukraine, not for a mobile
    ],
)
def test_numbers_outside_the_national_plan(value: str) -> None:
    assert refusal(value) == "not_valid"


def test_range_newer_than_the_library_is_accepted() -> None:
    value = "+380791234567"

    assert not phonenumbers.is_valid_number(phonenumbers.parse(value))
    assert parse(value) == Number(value, "UA")


@pytest.mark.parametrize("kind", [phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])
def test_no_country_is_shut_out(kind: int) -> None:
    examples = {region: phonenumbers.example_number_for_type(region, kind) for region in phonenumbers.SUPPORTED_REGIONS}
    written = {
        region: phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        for region, number in examples.items()
        if number is not None
    }

    assert len(written) > 200
    assert {region: parse(value).msisdn for region, value in written.items()} == written


def by_library(msisdn: str) -> Number | str:
    try:
        return numbers._by_library(msisdn)
    except InvalidNumber as error:
        return error.reason


def by_short_way(msisdn: str) -> Number | str:
    try:
        return parse(msisdn)
    except InvalidNumber as error:
        return error.reason


@settings(deadline=None, max_examples=3000)
@given(st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)), st.from_regex("[0-9]{2,13}", fullmatch=True))
def test_short_way_says_what_the_library_says(code: int, national: str) -> None:
    msisdn = f"+{code}{national}"

    assert by_short_way(msisdn) == by_library(msisdn)


def test_short_way_says_what_the_library_says_around_every_example() -> None:
    checked = 0
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in range(11):
            example = phonenumbers.example_number_for_type(region, kind)
            if example is None:
                continue
            code, national = example.country_code, phonenumbers.national_significant_number(example)
            prefix = phonenumbers.PhoneMetadata.metadata_for_region(region).national_prefix or "0"
            written = (national, prefix + national, "0" + national, national[1:], national + "1", "9" + national[1:])
            for digits in written:
                msisdn = f"+{code}{digits}"
                assert by_short_way(msisdn) == by_library(msisdn)
                checked += isinstance(numbers._in_one_country(msisdn), Number)

    assert checked > 1000  # the short way was taken


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40) | st.from_regex(r"\+?[0-9 .()-]{0,24}", fullmatch=True))
def test_any_text_is_read_or_refused_with_a_reason(value: str) -> None:
    reason, number = "", None
    try:
        number = parse(value)
    except InvalidNumber as error:
        reason = error.reason

    if number is None:
        assert reason in {"not_a_number", "not_e164", "not_possible", "not_valid"}
    else:
        assert parse(number.msisdn) == number
        assert len(number.country) == 2


@pytest.mark.parametrize(
    ("msisdn", "masked"),
    [
        ("+380501234567", "+380******567"),
        ("+12345678", "+123**678"),
        ("+1234567", "+1******"),
        ("+1", "+1"),
        ("", ""),
    ],
)
def test_masked_number(msisdn: str, masked: str) -> None:
    assert mask(msisdn) == masked
