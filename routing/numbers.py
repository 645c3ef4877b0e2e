"""Phone numbers: E.164 in, E.164 and a country out."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import phonenumbers

_SHAPE = re.compile(r"\+?[0-9](?:[ .()-]*[0-9])*")
_SEPARATORS = str.maketrans("", "", " .()-")
LONGEST = 32  # characters: fifteen digits, written as generously as anybody does


class NumberType(StrEnum):
    """What a number's range is for, as the library's metadata tell."""

    MOBILE = "mobile"
    FIXED_LINE = "fixed_line"
    FIXED_LINE_OR_MOBILE = "fixed_line_or_mobile"  #: one range for both, as in North America
    VOIP = "voip"
    TOLL_FREE = "toll_free"
    PREMIUM_RATE = "premium_rate"
    SHARED_COST = "shared_cost"
    PERSONAL_NUMBER = "personal_number"
    PAGER = "pager"
    UAN = "uan"
    VOICEMAIL = "voicemail"
    UNKNOWN = "unknown"  #: a range that is newer than the metadata, or not in use


_TYPES = {getattr(phonenumbers.PhoneNumberType, kind.name): kind for kind in NumberType}


class InvalidNumber(ValueError):
    """`reason`: not_a_number | not_e164 | not_possible | not_valid. Never carries the number."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Number:
    """`country` is ISO 3166 alpha-2 (XK for Kosovo)."""

    msisdn: str  # E.164 with the plus
    country: str


def parse(value: str) -> Number:
    """Reads a number with its plus and country code; spaces, hyphens, dots and brackets between digits are dropped.

    Raises InvalidNumber.
    """
    if not isinstance(value, str) or len(value) > LONGEST or not _SHAPE.fullmatch(value):
        raise InvalidNumber("not_a_number")
    if value[0] != "+":
        raise InvalidNumber("not_e164")
    return _resolve(value.translate(_SEPARATORS))


def number_type(msisdn: str) -> NumberType:
    """Of a number that `parse` gave."""
    return _TYPES[phonenumbers.number_type(phonenumbers.parse(msisdn))]


def example(country: str) -> str:
    """A mobile number that belongs to nobody, for a question about a country; "" where the library knows none."""
    found = phonenumbers.example_number_for_type(country, phonenumbers.PhoneNumberType.MOBILE)
    return phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164) if found else ""


def mask(msisdn: str) -> str:
    """The first four characters and the last three: what logs, events and pages may show."""
    if len(msisdn) < 9:
        return msisdn[:2] + "*" * len(msisdn[2:])
    return msisdn[:4] + "*" * (len(msisdn) - 7) + msisdn[-3:]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The numbering plan of a code that one country has to itself."""

    country: str
    lengths: frozenset[int]  # of national numbers
    pattern: re.Pattern[str]
    trunk: re.Pattern[str]  # what people write before a national number, and what is not part of it


def _resolve(digits: str) -> Number:
    return _in_one_country(digits) or _by_library(digits)


def _in_one_country(digits: str) -> Number | None:
    """What `_by_library` would say, in a tenth of its time; None where only the library knows."""
    plan = national = None
    for length in (2, 3):  # the codes of one digit, +1 and +7, have several countries
        if plan := _plan(digits[1 : 1 + length]):
            national = digits[1 + length :]
            break
    if plan is None or national is None or len(national) not in plan.lengths or plan.trunk.match(national):
        return None
    return Number(digits, plan.country) if plan.pattern.fullmatch(national) else None


@lru_cache(maxsize=1024)
def _plan(code: str) -> _Plan | None:
    countries = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code), ()) if code.isdigit() and code[0] != "0" else ()
    if len(countries) != 1 or countries[0] == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY:
        return None
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(countries[0])
    general = metadata.general_desc if metadata else None
    if metadata is None or general is None or not general.national_number_pattern:
        return None
    return _Plan(
        country=countries[0],
        lengths=frozenset(general.possible_length),
        pattern=re.compile(general.national_number_pattern),
        trunk=re.compile(metadata.national_prefix_for_parsing or "(?!)"),
    )


def _by_library(digits: str) -> Number:
    try:
        number = phonenumbers.parse(digits)
    except phonenumbers.NumberParseException:
        raise InvalidNumber("not_possible") from None  # its words may hold the number
    # IS_POSSIBLE_LOCAL_ONLY (a subscriber number without its area code) cannot be reached from abroad.
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise InvalidNumber("not_possible")
    country = phonenumbers.region_code_for_number(number)
    if country == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY:
        raise InvalidNumber("not_possible")  # satellite, toll-free, machines: no country, so no price and no route
    # Not is_valid_number: it knows the ranges in use when the library was released, and refusing a customer
    # whose operator opened a new one costs more than a provider's free "no such number". The general plan of
    # the country stops what no operator could assign; in a shared code (+1, +7, +44) the country, and so the
    # price, follows from the range alone: unknown range, no number.
    if country is None or not _fits_plan(number, country):
        raise InvalidNumber("not_valid")
    return Number(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), country)


def _fits_plan(number: phonenumbers.PhoneNumber, country: str) -> bool:
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country)
    pattern = metadata.general_desc.national_number_pattern if metadata and metadata.general_desc else None
    return bool(pattern and re.fullmatch(pattern, phonenumbers.national_significant_number(number)))
