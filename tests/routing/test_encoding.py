import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.encoding import BASIC, EXTENSION, Encoding, measure, write


def fill(text: str, width: int, capacity: int) -> int:
    """Parts by putting one character after another: the obvious way, for comparison."""
    parts, free = 1, capacity
    for character in text:
        wide = character in EXTENSION if width == 7 else ord(character) > 0xFFFF
        size = 2 if wide else 1
        if size > free:
            parts, free = parts + 1, capacity
        free -= size
    return parts


def slowly(text: str) -> Encoding:
    if all(character in BASIC or character in EXTENSION for character in text):
        units = sum(2 if character in EXTENSION else 1 for character in text)
        return Encoding("gsm7", 1 if units <= 160 else fill(text, 7, 153), units)
    units = len(text.encode("utf-16-be")) // 2
    return Encoding("ucs2", 1 if units <= 70 else fill(text, 16, 67), units)


@pytest.mark.parametrize(
    ("text", "name", "segments", "units"),
    [
        ("", "gsm7", 1, 0),
        ("a" * 160, "gsm7", 1, 160),
        ("a" * 161, "gsm7", 2, 161),
        ("a" * 306, "gsm7", 2, 306),
        ("a" * 307, "gsm7", 3, 307),
        ("€" * 80, "gsm7", 1, 160),
        ("€" * 81, "gsm7", 2, 162),
        # 306 septets would fill two parts, but the escape pair may not lie across the first cut.
        ("a" * 152 + "€" + "a" * 152, "gsm7", 3, 306),
        ("a" * 151 + "€" + "a" * 153, "gsm7", 2, 306),
        ("a" * 159 + "€", "gsm7", 2, 161),
        ("ж" * 70, "ucs2", 1, 70),
        ("ж" * 71, "ucs2", 2, 71),
        ("👍" * 35, "ucs2", 1, 70),
        ("👍" * 36, "ucs2", 2, 72),
        ("ж" * 66 + "👍" + "ж" * 66, "ucs2", 3, 134),
        ("\U0010ffff" * 36, "ucs2", 2, 72),
        ("Ё", "ucs2", 1, 1),
        ("it\u2019s", "ucs2", 1, 4),  # the typographic apostrophe
        ("`", "ucs2", 1, 1),
        ("ç", "ucs2", 1, 1),  # only the capital is in the alphabet
        ("\t", "ucs2", 1, 1),
        ("\x1b", "ucs2", 1, 1),
        ("\r\n\f", "gsm7", 1, 4),
        ("ΔΦΓΛΩΠΨΣΘΞ", "gsm7", 1, 10),
    ],
)
def test_known_texts(text: str, name: str, segments: int, units: int) -> None:
    assert measure(text) == Encoding(name, segments, units)


def test_alphabet_is_complete() -> None:
    """128 places of the default table less the escape; ten characters behind it."""
    assert (len(BASIC), len(set(BASIC))) == (127, 127)
    assert (len(EXTENSION), len(set(EXTENSION))) == (10, 10)
    assert not set(BASIC) & set(EXTENSION)


def test_one_foreign_character_turns_the_whole_text() -> None:
    assert measure("a" * 160).segments == 1
    assert measure("a" * 159 + "—") == Encoding("ucs2", 3, 160)


@settings(deadline=None, max_examples=150)
@given(st.text(st.sampled_from("ab€[") | st.sampled_from(BASIC + EXTENSION), max_size=700))
def test_gsm_text_is_measured_as_by_hand(text: str) -> None:
    assert measure(text) == slowly(text)


@settings(deadline=None, max_examples=150)
@given(st.text(st.sampled_from("aж€👍\U0010ffff") | st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_text_is_measured_as_by_hand(text: str) -> None:
    assert measure(text) == slowly(text)


@settings(deadline=None, max_examples=60)
@given(st.integers(60, 320), st.sampled_from(["€", "👍"]), st.integers(0, 320))
def test_pair_at_any_place_is_measured_as_by_hand(before: int, pair: str, after: int) -> None:
    text = "a" * before + pair + "a" * after

    assert measure(text) == slowly(text)


@given(st.text(max_size=300), st.sampled_from(["", "typographic", "cyrillic"]))
def test_a_text_is_only_changed_where_that_saves_segments(text, level):
    written = write(text, level)

    assert written.encoding == measure(written.text)
    assert written.before == measure(text)
    assert (written.text != text) == (written.saved > 0)


@pytest.mark.parametrize(
    ("level", "text", "sent"),
    [
        ("typographic", "“It’s” – «ok»… №\u00a01", '"It\'s" - "ok"... No. 1'),
        ("cyrillic", "Щука, ґанок, її Юля", "Shchuka, ganok, ii Iulia"),
    ],
)
def test_letters_are_written_as_people_do(level, text, sent):
    padding = "x" * 80

    assert write(text + padding, level).text == sent + padding
