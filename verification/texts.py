"""The texts of one-time codes.

A text is stored with `{code}` in place of the digits; only the worker that hands it to a provider fills it.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.numbers import format_decimal, get_currency_precision
from babel.units import format_unit

from messaging import texts
from messaging.errors import FieldError, InvalidRequest
from routing.encoding import measure

PLACEHOLDER = "{code}"
TEMPLATE = "code"
OURS = frozenset({"code", "minutes"})  # parameters that are not in a context
APP_HASH = re.compile(r"[A-Za-z0-9+/]{11}")
RETRIEVER_BYTES = 140

# A brace in a value could be taken for the placeholder later, a line break for the last line of the text.
_UNSAFE = re.compile("[{}\x00-\x1f\x7f\x85\u2028\u2029]")
_AMOUNT = re.compile(r"[0-9]{1,18}(?:\.([0-9]{1,6}))?")
# What CLDR groups digits with and GSM-7 does not have.
_PLAIN = str.maketrans({"\xa0": " ", "\u202f": " ", "\u2019": "'"})

# The language that most people of a country use, where one is clear. Belgium has none (Dutch and French share it);
# in Switzerland most read German; Canada is decided by its area codes below.
_SPOKEN = {
    "de": "AT CH DE LI",
    "en": "AU BB BS CA GB GG GH GI IE IM JE JM KE LR NG NZ SG SL TT UG US ZA ZM ZW",
    "es": "AR BO CL CO CR CU DO EC ES GQ GT HN MX NI PA PE PR PY SV UY VE",
    "fr": "BF BJ CD CF CG CI CM FR GA GF GN GP LU MC ML MQ NC NE PF RE SN TD TG YT",
    "pl": "PL",
    "tr": "TR",
    "uk": "UA",
}
LANGUAGES = {country: language for language, countries in _SPOKEN.items() for country in countries.split()}
# Area codes of Quebec (Canadian Numbering Administrator): French is the language of most there, and mobiles have them.
_QUEBEC = re.compile(r"\+1(263|354|367|418|438|450|468|514|579|581|819|873)")


def compose(
    *,
    client: str,
    template: str,
    locale: str,
    minutes: int,
    context: Mapping[str, str],
    app_hash: str = "",
    webotp_host: str = "",
) -> str:
    """The text with everything but the code filled in: `{code}` stands in the sentence, and in the WebOTP line.

    Raises InvalidRequest for a context that cannot be shown, and for an edited template without a parameter.
    """
    found = texts.locale_of(client=client, name=template, locale=locale) or texts.DEFAULT_LOCALE
    params = {**_shown(context, found), "minutes": _duration(minutes, found), "code": PLACEHOLDER}
    lines = [_render(client, template, found, params)]
    # WebOTP reads the last line and no other (wicg.github.io/sms-one-time-codes, parsing); Android wants its hash in
    # the message (developers.google.com/identity/sms-retriever/verify), at the end when nothing else claims it.
    if app_hash:
        lines.append(app_hash)
    if webotp_host:
        lines.append(f"@{webotp_host} #{PLACEHOLDER}")
    return "\n".join(lines)


def fill(text: str, code: str) -> str:
    """The one place where a code enters a text."""
    return text.replace(PLACEHOLDER, code)


def sample(text: str, code_length: int) -> str:
    """As long as the real text, with no code in it: for encoding and segments."""
    return fill(text, "0" * code_length)


def locale_for(
    requested: str, msisdn: str, country: str, default: str, *, client: str = "", template: str = TEMPLATE
) -> str:
    """The first of these that has a text: the locale asked for, the language of the number, the default, English.

    The arguments are language tags already; the door refuses what is not.
    """
    for locale in (requested, _language(msisdn, country), default):
        found = texts.locale_of(client=client, name=template, locale=locale) if locale else ""
        if found and found.partition("-")[0] == re.split("[-_]", locale.lower())[0]:
            return found
    return texts.DEFAULT_LOCALE


def problems(text_sample: str, app_hash: str) -> list[str]:
    """What staff should know about a filled text, in words for them."""
    if not app_hash:
        return []
    found = []
    if not APP_HASH.fullmatch(app_hash):
        found.append("An Android app hash has exactly 11 characters: letters, digits, + and /.")
    if (size := _bytes(text_sample)) > RETRIEVER_BYTES:
        found.append(f"The text has {size} bytes: Android gives an app no text longer than {RETRIEVER_BYTES}.")
    return found


def _render(client: str, template: str, locale: str, params: Mapping[str, str]) -> str:
    try:
        return texts.render(client=client, name=template, locale=locale, params=params)
    except InvalidRequest as refusal:
        raise InvalidRequest(errors=tuple(_as_ours(error) for error in refusal.errors)) from None


def _as_ours(error: FieldError) -> FieldError:
    """A caller has no `params` here: it has a context, and what else is wrong is the template's fault."""
    name = error.field.removeprefix("params.")
    if name in OURS:
        return FieldError("template", error.code, f"Staff must put {{{name}}} into the text of this template.")
    return replace(error, field=error.field.replace("params.", "context.", 1))


def _bytes(text: str) -> int:
    """Google does not say in which encoding it counts: the greater of UTF-8 and what UCS-2 takes on the air."""
    encoding = measure(text)
    return max(len(text.encode()), 2 * encoding.units if encoding.name == "ucs2" else 0)


def _language(msisdn: str, country: str) -> str:
    if country == "CA" and _QUEBEC.match(msisdn):
        return "fr"
    return LANGUAGES.get(country, "")


def _shown(context: Mapping[str, str], locale: str) -> dict[str, str]:
    """Values as they are, but the amount as the locale writes it."""
    unsafe = [name for name, value in context.items() if _UNSAFE.search(value)]
    if unsafe:
        message = "Braces and control characters cannot be shown in a text."
        raise InvalidRequest(
            errors=tuple(FieldError(f"context.{name}", "bad_format", message) for name in sorted(unsafe))
        )
    shown = dict(context)
    if "amount" in shown:
        shown["amount"] = _amount(shown["amount"], shown.get("currency", ""), locale)
    return shown


def _amount(value: str, currency: str, locale: str) -> str:
    """With the decimals of the currency, or more where more were given: what is shown is what is agreed to."""
    amount = _AMOUNT.fullmatch(value)
    if amount is None:
        raise InvalidRequest(errors=(FieldError("context.amount", "bad_format", "A decimal number is needed."),))
    decimals = max(get_currency_precision(currency), len((amount[1] or "").rstrip("0")))
    pattern = "#,##0" + ("." + "0" * decimals if decimals else "")
    return format_decimal(Decimal(value), format=pattern, locale=_babel(locale)).translate(_PLAIN)


@lru_cache(maxsize=256)
def _duration(minutes: int, locale: str) -> str:
    """In the form of the number, nominative: "5 minutes", "5 хвилин"."""
    return format_unit(minutes, "duration-minute", length="long", locale=_babel(locale)).translate(_PLAIN)


@lru_cache(maxsize=256)
def _babel(locale: str) -> Locale:
    try:
        return Locale.parse(locale, sep="-")
    except (ValueError, UnknownLocaleError):  # a template may be stored under any tag
        return Locale(texts.DEFAULT_LOCALE)
