from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging import drafts
from messaging.errors import InvalidRequest
from messaging.states import MessageClass

GOOD = {"to": "+380671234567", "text": "Hello"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=8,
)


def errors_of(data):
    with pytest.raises(InvalidRequest) as caught:
        drafts.read(data)
    return [(error.field, error.code) for error in caught.value.errors]


def test_defaults():
    draft = drafts.read(GOOD)

    assert (draft.msisdn, draft.country, draft.text) == ("+380671234567", "UA", "Hello")
    assert draft.message_class == MessageClass.TRANSACTIONAL
    assert draft.validity == 4 * 3600
    assert draft.send_at is None
    assert (draft.template, draft.sender, draft.locale, draft.reference) == ("", "", "", "")
    assert (dict(draft.params), dict(draft.metadata)) == ({}, {})


def test_every_field():
    draft = drafts.read(
        {
            "to": "+38 (067) 123-45-67",
            "template": "transfer-arrived",
            "params": {"amount": "100.00 EUR"},
            "sender": "MEXAR",
            "class": "otp",
            "locale": "pt-BR",
            "validity_seconds": 10,
            "send_at": "2026-01-02T03:04:05+02:00",
            "reference": "order-1",
            "metadata": {"order": "1"},
        }
    )

    assert draft.msisdn == "+380671234567"
    assert (draft.template, dict(draft.params)) == ("transfer-arrived", {"amount": "100.00 EUR"})
    assert (draft.sender, draft.message_class, draft.locale) == ("MEXAR", "otp", "pt-BR")
    assert (draft.validity, draft.send_at) == (10, datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC))
    assert (draft.reference, dict(draft.metadata)) == ("order-1", {"order": "1"})


@pytest.mark.parametrize(("name", "seconds"), [("otp", 600), ("transactional", 14_400), ("bulk", 86_400)])
def test_validity_follows_the_class(name, seconds):
    draft = drafts.read({**GOOD, "class": name})

    assert draft.validity == seconds


@pytest.mark.parametrize("data", [None, [], "text", 1, True, [GOOD]])
def test_a_body_that_is_no_object(data):
    assert errors_of(data) == [("", "wrong_type")]


def test_all_errors_are_told_at_once():
    found = errors_of({"to": 1, "text": "", "class": "fast", "sendr": "x"})

    assert found == [("class", "bad_choice"), ("sendr", "unknown_field"), ("text", "empty"), ("to", "wrong_type")]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"to": None}, ("to", "required")),
        ({"to": 380671234567}, ("to", "wrong_type")),
        ({"to": ""}, ("to", "not_a_number")),
        ({"to": "abc"}, ("to", "not_a_number")),
        ({"to": "+380671234567\x00"}, ("to", "not_a_number")),
        ({"to": "+38067123456\ud800"}, ("to", "not_a_number")),
        ({"to": "+" + "3" * 5000}, ("to", "not_a_number")),
        ({"to": "380671234567"}, ("to", "not_e164")),
        ({"to": "+38067"}, ("to", "not_possible")),
        ({"to": "+999123456789"}, ("to", "not_possible")),
        ({"text": None}, ("text", "wrong_type")),
        ({"text": ""}, ("text", "empty")),
        ({"text": " \n\t\u00a0"}, ("text", "empty")),
        ({"text": "a" * 1531}, ("text", "too_long")),
        ({"text": "я" * 671}, ("text", "too_long")),
        ({"text": "€" * 766}, ("text", "too_long")),
        ({"text": "a\x00b"}, ("text", "bad_character")),
        ({"text": "a\ud83db"}, ("text", "bad_character")),
        ({"class": None}, ("class", "bad_choice")),
        ({"class": "OTP"}, ("class", "bad_choice")),
        ({"class": ["otp"]}, ("class", "bad_choice")),
        ({"sender": None}, ("sender", "wrong_type")),
        ({"sender": ""}, ("sender", "bad_format")),
        ({"sender": "TWELVELETTER"}, ("sender", "bad_format")),
        ({"sender": "12"}, ("sender", "bad_format")),
        ({"sender": "MEX\nAR"}, ("sender", "bad_format")),
        ({"sender": "МЕКСАР"}, ("sender", "bad_format")),
        ({"locale": "e"}, ("locale", "bad_format")),
        ({"locale": "../../etc"}, ("locale", "bad_format")),
        ({"locale": "en-" + "a" * 8 + "-" + "b" * 9}, ("locale", "too_long")),  # as long as its column
        ({"validity_seconds": None}, ("validity_seconds", "wrong_type")),
        ({"validity_seconds": "60"}, ("validity_seconds", "wrong_type")),
        ({"validity_seconds": 60.0}, ("validity_seconds", "wrong_type")),
        ({"validity_seconds": True}, ("validity_seconds", "wrong_type")),
        ({"validity_seconds": 9}, ("validity_seconds", "out_of_range")),
        ({"validity_seconds": -1}, ("validity_seconds", "out_of_range")),
        ({"validity_seconds": 72 * 3600 + 1}, ("validity_seconds", "out_of_range")),
        ({"validity_seconds": 10**100}, ("validity_seconds", "out_of_range")),
        ({"send_at": None}, ("send_at", "bad_format")),
        ({"send_at": 1_800_000_000}, ("send_at", "bad_format")),
        ({"send_at": "tomorrow"}, ("send_at", "bad_format")),
        ({"send_at": "2026-01-02T03:04:05"}, ("send_at", "bad_format")),
        ({"send_at": "2026-01-02\ud80003:04:05+00:00"}, ("send_at", "bad_format")),
        ({"send_at": "0001-01-01T00:00:00+14:00"}, ("send_at", "bad_format")),
        ({"send_at": "9999-01-01T00:00:00+00:00"}, ("send_at", "out_of_range")),
        ({"reference": 1}, ("reference", "wrong_type")),
        ({"reference": "x" * 101}, ("reference", "too_long")),
        ({"reference": "a\x00"}, ("reference", "bad_character")),
        ({"reference": "\udfff"}, ("reference", "bad_character")),
        ({"metadata": None}, ("metadata", "wrong_type")),
        ({"metadata": ["a"]}, ("metadata", "wrong_type")),
        ({"metadata": {str(n): "" for n in range(21)}}, ("metadata", "too_many")),
        ({"metadata": {"a": 1}}, ("metadata.a", "wrong_type")),
        ({"metadata": {"a": {"b": "c"}}}, ("metadata.a", "wrong_type")),
        ({"metadata": {"a": "x" * 501}}, ("metadata.a", "too_long")),
        ({"metadata": {"a": "\x00"}}, ("metadata.a", "bad_character")),
        ({"metadata": {"a": "\udc00"}}, ("metadata.a", "bad_character")),
        ({"metadata": {"": "x"}}, ("metadata.", "bad_name")),
        ({"metadata": {"\x00": "x"}}, ("metadata.\x00", "bad_name")),
        ({"metadata": {"\ud800": "x"}}, ("metadata.?", "bad_name")),
        ({"metadata": {"k" * 41: "x"}}, ("metadata." + "k" * 41, "bad_name")),
        ({"params": {"a": "b"}}, ("params", "needs_template")),
        ({"template": "transfer"}, ("text", "one_of")),
        ({"from": "MEXAR"}, ("from", "unknown_field")),
        ({"\ud800\x00": 1}, ("?\x00", "unknown_field")),
        ({"n" * 1000: 1}, ("n" * 60, "unknown_field")),
    ],
)
def test_one_wrong_field(changes, error):
    assert errors_of({**GOOD, **changes}) == [error]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"template": ""}, ("template", "bad_format")),
        ({"template": "../secrets"}, ("template", "bad_format")),
        ({"template": "a\x00"}, ("template", "bad_character")),
        ({"template": 1}, ("template", "wrong_type")),
        ({"params": []}, ("params", "wrong_type")),
        ({"params": {"amount": 100}}, ("params.amount", "wrong_type")),
        ({"params": {"Amount": "1"}}, ("params.Amount", "bad_name")),
        ({"params": {"a\x00": "1"}}, ("params.a\x00", "bad_name")),
        ({"params": {"a": "\ud800"}}, ("params.a", "bad_character")),
        ({"params": {"a": "x" * 1531}}, ("params.a", "too_long")),
    ],
)
def test_one_wrong_field_of_a_template(changes, error):
    assert errors_of({"to": GOOD["to"], "template": "transfer", **changes}) == [error]


def test_neither_text_nor_template():
    assert errors_of({"to": GOOD["to"]}) == [("text", "one_of")]


@pytest.mark.parametrize(
    ("text", "length"), [("a", 1530), ("я", 670), ("€", 760)], ids=["gsm7", "ucs2", "gsm7 extension"]
)
def test_ten_segments_are_the_most(text, length):
    draft = drafts.read({**GOOD, "text": text * length})

    assert len(draft.text) == length


def test_many_unknown_fields_do_not_make_a_long_answer():
    found = errors_of({**GOOD, **{f"field{n}": n for n in range(5000)}})

    assert len(found) == drafts.MAX_UNKNOWN


def test_send_at_in_ninety_days_is_taken():
    moment = datetime.now(UTC) + timedelta(days=89)

    draft = drafts.read({**GOOD, "send_at": moment.isoformat()})

    assert draft.send_at == moment


def test_errors_and_drafts_do_not_show_what_was_sent():
    draft = drafts.read({**GOOD, "text": "The code is 123456"})
    with pytest.raises(InvalidRequest) as caught:
        drafts.read({"to": "+380671234567 secret", "text": "\x00 123456", "class": "123456"})

    assert "+380671234567" not in repr(draft)
    assert "123456" not in repr(draft)
    assert "123456" not in repr(caught.value) + str(caught.value.errors)


@given(JSON)
@settings(deadline=None)
def test_any_json_is_read_or_refused(data):
    with pytest.raises(InvalidRequest):
        drafts.read(data)


@given(st.sampled_from(sorted(drafts.FIELDS)), JSON)
@settings(deadline=None, max_examples=300)
def test_any_value_in_any_field_is_read_or_refused(name, value):
    data = {**GOOD, name: value}
    if name == "template":
        del data["text"]

    try:
        draft = drafts.read(data)
    except InvalidRequest:
        return

    for kept in (draft.text, draft.reference, *draft.metadata, *draft.metadata.values()):
        assert "\x00" not in kept
        kept.encode()
