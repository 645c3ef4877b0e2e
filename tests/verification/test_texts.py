import re
from pathlib import Path

import pytest
from babel.core import get_global
from django.conf import settings

from messaging.errors import InvalidRequest
from messaging.models import Template
from messaging.texts import edited
from routing.encoding import measure
from tests.factories import ClientFactory
from verification import texts

pytestmark = pytest.mark.django_db

LOCALES = ("de", "en", "es", "fr", "pl", "tr", "uk")
PAYMENT = {"amount": "12500", "currency": "EUR", "payee": "ABCDEFGHIJKLMNOPQRST"}
CONTEXTS = {"code": {}, "code_payment": PAYMENT}
HASH = "FA+9qCX9VSu"


def compose(template="code", locale="en", minutes=10, client="core", context=None, **lines):
    context = CONTEXTS.get(template, {}) if context is None else context
    return texts.compose(client=client, template=template, locale=locale, minutes=minutes, context=context, **lines)


def billed(template, locale, **lines):
    """With a ten-digit code, the longest there is."""
    measured = measure(texts.sample(compose(template, locale, **lines), 10))
    return measured.name, measured.segments


def errors_of(**request):
    with pytest.raises(InvalidRequest) as caught:
        compose(**request)
    return [(error.field, error.code) for error in caught.value.errors]


def edit(text, name="code", locale="en", client=None):
    Template.objects.create(client=client, name=name, locale=locale, text=text)
    edited.forget()


@pytest.mark.parametrize("template", CONTEXTS)
def test_both_texts_are_there_in_every_locale(template):
    directory = Path(settings.BASE_DIR) / "templates" / "messages" / template

    assert sorted(path.stem for path in directory.iterdir()) == list(LOCALES)


@pytest.mark.parametrize("template", CONTEXTS)
@pytest.mark.parametrize("locale", LOCALES)
def test_a_text_has_everything_but_the_code(template, locale):
    text = compose(template, locale, context=CONTEXTS[template])

    assert text.count("{code}") == 1
    assert re.findall(r"\{[^}]*\}", text) == ["{code}"]
    assert "10 " in text
    assert all(value in text for name, value in CONTEXTS[template].items() if name != "amount")


@pytest.mark.parametrize("template", CONTEXTS)
@pytest.mark.parametrize("locale", [locale for locale in LOCALES if locale != "uk"])
def test_one_gsm7_segment(template, locale):
    assert billed(template, locale) == ("gsm7", 1)


def test_ukrainian_is_one_ucs2_segment_and_a_payment_two():
    assert billed("code", "uk") == ("ucs2", 1)
    assert billed("code_payment", "uk") == ("ucs2", 2)


@pytest.mark.parametrize("locale", LOCALES)
def test_a_code_with_an_app_hash_is_still_one_segment_that_android_reads(locale):
    text = texts.sample(compose("code", locale, app_hash=HASH), 10)

    assert measure(text).segments == 1
    assert texts.problems(text, HASH) == []


@pytest.mark.parametrize(
    ("locale", "one", "two", "five", "ten"),
    [
        ("en", "1 minute", "2 minutes", "5 minutes", "10 minutes"),
        ("de", "1 Minute", "2 Minuten", "5 Minuten", "10 Minuten"),
        ("es", "1 minuto", "2 minutos", "5 minutos", "10 minutos"),
        ("fr", "1 minute", "2 minutes", "5 minutes", "10 minutes"),
        ("pl", "1 minuta", "2 minuty", "5 minut", "10 minut"),
        ("tr", "1 dakika", "2 dakika", "5 dakika", "10 dakika"),
        ("uk", "1 хвилина", "2 хвилини", "5 хвилин", "10 хвилин"),
    ],
)
def test_minutes_take_the_form_of_their_number(locale, one, two, five, ten):
    said = [re.search(r"\b\d+ \w+", compose("code", locale, minutes))[0] for minutes in (1, 2, 5, 10)]

    assert said == [one, two, five, ten]


def test_the_case_is_right_where_a_language_has_cases():
    """CLDR's forms are nominative: the sentence must ask for no other."""
    assert compose(locale="uk", minutes=1) == "Код: {code}. Строк дії: 1 хвилина. Нікому не кажіть."
    assert compose(locale="pl", minutes=1) == "Kod: {code}. Waznosc: 1 minuta. Nikomu go nie podawaj."


@pytest.mark.parametrize(
    ("locale", "amount", "currency", "shown"),
    [
        ("en", "250", "EUR", "EUR 250.00"),
        ("en", "1234567.5", "EUR", "EUR 1,234,567.50"),
        ("en", "250.005", "EUR", "EUR 250.005"),
        ("en", "0.123456", "EUR", "EUR 0.123456"),
        ("en", "999999999999999999", "EUR", "EUR 999,999,999,999,999,999.00"),
        ("en", "250.00500", "EUR", "EUR 250.005"),
        ("en", "5000.00", "JPY", "JPY 5,000"),
        ("en", "5000.50", "JPY", "JPY 5,000.5"),
        ("en", "5.00", "KWD", "KWD 5.000"),
        ("en", "5", "", " 5.00"),
        ("de", "1234567.5", "EUR", "1.234.567,50 EUR"),
        ("de-CH", "1234567.5", "CHF", "1.234.567,50 CHF"),
        ("es", "1234567.5", "EUR", "1.234.567,50 EUR"),
        ("fr", "1234567.5", "EUR", "1 234 567,50 EUR"),
        ("pl", "1234567.5", "PLN", "1 234 567,50 PLN"),
        ("tr", "1234567.5", "TRY", "1.234.567,50 TRY"),
        ("uk", "1234567.5", "UAH", "1 234 567,50 UAH"),
    ],
)
def test_an_amount_is_written_as_the_locale_does_and_never_rounded(locale, amount, currency, shown):
    text = compose("code_payment", locale, context={"amount": amount, "currency": currency, "payee": "Olha"})

    assert re.search(rf" {re.escape(shown)}[,.]? ", text)


@pytest.mark.parametrize("amount", ["", "abc", "NaN", "Infinity", "1e5", "1e-999999", "-1", "1,5", "٣"])
def test_an_amount_that_is_no_decimal_is_refused(amount):
    context = {**PAYMENT, "amount": amount}

    assert errors_of(template="code_payment", context=context) == [("context.amount", "bad_format")]


def test_the_last_line_is_what_webotp_reads():
    text = compose("code_payment", webotp_host="pay.example.com")

    assert text.split("\n")[1:] == ["@pay.example.com #{code}"]
    assert texts.fill(text, "0123456789").endswith("\n@pay.example.com #0123456789")


def test_an_app_hash_ends_the_text():
    assert compose(app_hash=HASH).split("\n")[1:] == [HASH]


def test_webotp_keeps_the_last_line_and_the_hash_stands_before_it():
    text = compose(app_hash=HASH, webotp_host="example.com")

    assert text.split("\n")[1:] == [HASH, "@example.com #{code}"]
    assert text.count("{code}") == 2


def test_filling_puts_the_code_wherever_it_belongs_and_nothing_else():
    text = texts.fill(compose("code_payment", webotp_host="example.com"), "0042")

    assert text == (
        "Payment of EUR 12,500.00 to ABCDEFGHIJKLMNOPQRST. Your code is 0042, valid for 10 minutes. "
        "Do not share it with anyone.\n@example.com #0042"
    )


def test_a_sample_is_as_long_as_the_text():
    text = compose(webotp_host="example.com")

    assert len(texts.sample(text, 8)) == len(texts.fill(text, "12345678"))
    assert "{" not in texts.sample(text, 8)


@pytest.mark.parametrize(
    "payee", ["{code}", "{", "a}b", "{amount}", "Olha\n@example.com #1", "a\rb", "a\u2028b", "\x00"]
)
def test_a_value_that_could_pose_as_the_code_or_the_last_line_is_refused(payee):
    context = {**PAYMENT, "payee": payee}

    assert errors_of(template="code_payment", context=context) == [("context.payee", "bad_format")]


@pytest.mark.parametrize("payee", [r"\1 \g<0>", "%s %(code)s $code", "#1 @example.com", "Ольга", "code"])
def test_other_values_are_shown_as_they_are(payee):
    text = texts.fill(compose("code_payment", context={**PAYMENT, "payee": payee}), "0042")

    assert f"to {payee}. Your code is 0042," in text


def test_a_context_is_shown_whole_or_refused():
    missing = errors_of(template="code_payment", context={"amount": "1", "currency": "EUR"})
    unshown = errors_of(template="code", context=PAYMENT)

    assert missing == [("context.payee", "missing_parameter")]
    assert unshown == [(f"context.{name}", "unknown_parameter") for name in ("amount", "currency", "payee")]


def test_an_unknown_template_is_refused():
    assert errors_of(template="nothing") == [("template", "unknown_template")]


def test_an_edited_text_wins_and_the_clients_own_wins_over_it():
    shipped = compose()
    edit("All: {code}, {minutes}")
    all_clients = compose()
    edit("Own: {code}, {minutes}", client=ClientFactory(slug="core"))

    assert shipped == "{code} is your code, valid for 10 minutes. Do not share it with anyone."
    assert all_clients == "All: {code}, 10 minutes"
    assert compose() == "Own: {code}, 10 minutes"
    assert compose(client="other") == "All: {code}, 10 minutes"


@pytest.mark.parametrize(("text", "lacking"), [("For {minutes}", "code"), ("{code}", "minutes")])
def test_an_edited_text_without_a_parameter_is_refused_as_the_templates_fault(text, lacking):
    edit(text)

    with pytest.raises(InvalidRequest) as caught:
        compose()

    (error,) = caught.value.errors
    assert (error.field, error.message) == ("template", f"Staff must put {{{lacking}}} into the text of this template.")


def test_an_edited_text_with_a_parameter_that_nobody_gives_is_refused():
    edit("{code}, {minutes}, {brand}")

    assert errors_of() == [("context.brand", "missing_parameter")]


def test_an_edited_payment_that_hides_the_payee_is_refused():
    edit("{code}, {minutes}, {amount} {currency}", name="code_payment")

    assert errors_of(template="code_payment") == [("context.payee", "unknown_parameter")]


def test_the_minutes_are_in_the_language_of_the_text_that_was_found():
    edit("{code}: {minutes}", locale="pt", client=ClientFactory(slug="core"))

    assert compose(locale="pt-BR", minutes=5) == "{code}: 5 minutos"
    assert compose(locale="pt-BR", minutes=5, client="other").endswith("for 5 minutes. Do not share it with anyone.")
    assert compose(locale="it", minutes=5) == "{code} is your code, valid for 5 minutes. Do not share it with anyone."


def test_a_locale_that_cldr_does_not_know_takes_the_forms_of_its_language():
    edit("{code}: {minutes}", locale="pl-zz")
    edit("{code}: {minutes}", locale="qq")

    assert compose(locale="pl-ZZ", minutes=5) == "{code}: 5 minut"
    assert compose(locale="qq", minutes=5) == "{code}: 5 minutes"


@pytest.mark.parametrize(
    ("requested", "msisdn", "country", "default", "chosen"),
    [
        ("fr", "+380501234567", "UA", "de", "fr"),
        ("FR_ca", "+380501234567", "UA", "de", "fr"),
        ("en-GB", "+380501234567", "UA", "de", "en"),
        ("it", "+380501234567", "UA", "de", "uk"),
        ("", "+380501234567", "UA", "de", "uk"),
        ("", "+48512345678", "PL", "de", "pl"),
        ("", "+436641234567", "AT", "en", "de"),
        ("", "+41791234567", "CH", "fr", "de"),
        ("", "+5215512345678", "MX", "en", "es"),
        ("", "+221701234567", "SN", "en", "fr"),
        ("", "+905321234567", "TR", "en", "tr"),
        ("", "+12025550123", "US", "es", "en"),
        ("", "+17875550123", "PR", "en", "es"),
        ("", "+32470123456", "BE", "fr", "fr"),
        ("", "+32470123456", "BE", "en", "en"),
        ("", "+14165550123", "CA", "fr", "en"),
        ("", "+15145550123", "CA", "en", "fr"),
        ("", "+351912345678", "PT", "es", "es"),
        ("", "+351912345678", "PT", "pt-BR", "en"),
        ("", "+351912345678", "PT", "", "en"),
    ],
)
def test_the_locale_is_asked_for_or_follows_the_number(requested, msisdn, country, default, chosen):
    assert texts.locale_for(requested, msisdn, country, default) == chosen


def test_a_text_that_staff_wrote_makes_its_locale_available():
    edit("{code}, {minutes}", locale="pt-BR", client=ClientFactory(slug="core"))

    chosen = [texts.locale_for("pt-BR", "+351912345678", "PT", "es", client=client) for client in ("core", "other")]

    assert chosen == ["pt-br", "es"]


@pytest.mark.parametrize("country", texts.LANGUAGES)
def test_the_language_of_a_country_is_one_of_its_official_ones(country):
    spoken = get_global("territory_languages")[country]

    assert (spoken[texts.LANGUAGES[country]]["official_status"] or "").endswith("official")


def test_staff_are_told_what_android_will_not_read():
    fits = texts.sample(compose("code_payment", app_hash=HASH), 6)
    long_gsm7 = fits + "x" * (141 - len(fits))
    long_ucs2 = "я" * 59 + "\n" + HASH

    assert texts.problems(fits, HASH) == []
    assert texts.problems(long_gsm7[:140], HASH) == []
    assert texts.problems(long_gsm7, HASH) == ["The text has 141 bytes: Android gives an app no text longer than 140."]
    assert texts.problems(long_ucs2, HASH) == ["The text has 142 bytes: Android gives an app no text longer than 140."]
    assert texts.problems(long_gsm7, "") == []


@pytest.mark.parametrize("app_hash", ["short", HASH + "x", "FA-9qCX9VSu", "FA+9qCX9VS\n"])
def test_staff_are_told_of_a_hash_that_is_none(app_hash):
    assert texts.problems("text", app_hash) == [
        "An Android app hash has exactly 11 characters: letters, digits, + and /."
    ]
