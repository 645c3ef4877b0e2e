"""How a text is billed: GSM 03.38 (3GPP TS 23.038, 6.2.1) where every character is in it, UCS-2 otherwise.

A text that does not fit one SMS is cut into parts, each shorter by the header that joins them (3GPP TS
23.040, 9.2.3.24.1, eight-bit reference). National language shift tables are not used: no provider
promises them end to end.
"""
# ruff: noqa: RUF001  the letters that look alike are the matter here

import re
from dataclasses import dataclass

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = "\f^{}\\[~]|€"  # two septets each: the escape and the character

_basic = re.compile(f"[{re.escape(BASIC)}]*")
_gsm7 = re.compile(f"[{re.escape(BASIC + EXTENSION)}]*")
_escaped = re.compile(f"[{re.escape(EXTENSION)}]")
_astral = re.compile("[\U00010000-\U0010ffff]")  # a surrogate pair in UTF-16
# Stands for two units that belong together. The first half is in neither alphabet once the pairs are replaced.
_FIRST = "\U0010ffff"
_PAIR = _FIRST + "."


@dataclass(frozen=True, slots=True)
class Encoding:
    """`units` are septets (gsm7) or UTF-16 code units (ucs2) of the whole text, without headers."""

    name: str  # "gsm7" | "ucs2"
    segments: int
    units: int


def measure(text: str) -> Encoding:
    """The encoding a text needs and the segments it is billed as; an empty text is one segment."""
    if _basic.fullmatch(text):
        return Encoding("gsm7", _parts(text, 160, 153), len(text))
    if _gsm7.fullmatch(text):
        units = _escaped.sub(_PAIR, text)
        return Encoding("gsm7", _parts(units, 160, 153), len(units))
    units = _astral.sub(_PAIR, text)
    return Encoding("ucs2", _parts(units, 70, 67), len(units))


def _parts(units: str, single: int, part: int) -> int:
    """Counts parts; one whose last place would take half of a pair stays a unit short."""
    if len(units) <= single:
        return 1
    count = end = 0
    while end < len(units):
        end += part
        if end < len(units) and units[end - 1] == _FIRST:
            end -= 1
        count += 1
    return count


# --- transliteration ------------------------------------------------------------------------------

LEVELS = ("typographic", "cyrillic")  # the second includes the first

# What looks the same, or nearly: nobody reads another text.
_TYPOGRAPHIC = {
    **dict.fromkeys("‘’‚‛′ʼ`´", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("‹", "<"),
    **dict.fromkeys("›", ">"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f", " "),
    **dict.fromkeys("\u00ad\u200b\ufeff", ""),
    "…": "...",
    "•": "-",
    "№": "No.",
    "\t": " ",
}
# Ukrainian as the Cabinet's resolution 55 of 2010 writes it inside words; letters that it lacks as passports have them.
_CYRILLIC = dict(
    zip(
        "абвгґдежзийіклмнопрстуфхцчшщьъыэюяєїёў",
        (
            *("a", "b", "v", "h", "g", "d", "e", "zh", "z", "y", "i", "i", "k", "l", "m", "n", "o", "p", "r", "s"),
            *("t", "u", "f", "kh", "ts", "ch", "sh", "shch", "", "", "y", "e", "iu", "ia", "ie", "i", "e", "u"),
        ),
        strict=True,
    )
)
_TABLES = {
    "": str.maketrans({}),
    "typographic": str.maketrans(_TYPOGRAPHIC),
    "cyrillic": str.maketrans(
        {**_TYPOGRAPHIC, **_CYRILLIC, **{big.upper(): latin.capitalize() for big, latin in _CYRILLIC.items()}}
    ),
}


@dataclass(frozen=True, slots=True)
class Written:
    """A text as it will be sent. `before` is what it needed as it came."""

    text: str
    encoding: Encoding
    before: Encoding

    @property
    def saved(self) -> int:
        """Segments."""
        return self.before.segments - self.encoding.segments


def write(text: str, level: str) -> Written:
    """The text transliterated as far as `level` allows, where that saves a segment; as it is where it saves none."""
    before = measure(text)
    if not level or before.name == "gsm7":
        return Written(text, before, before)
    for tried in LEVELS[: LEVELS.index(level) + 1]:
        other = text.translate(_TABLES[tried])
        after = measure(other)
        if after.segments < before.segments:
            return Written(other, after, before)
    return Written(text, before, before)
