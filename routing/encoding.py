"""How a text is billed: GSM 03.38 (3GPP TS 23.038, 6.2.1) where every character is in it, UCS-2 otherwise.

A text that does not fit one SMS is cut into parts, each shorter by the header that joins them (3GPP TS
23.040, 9.2.3.24.1, eight-bit reference). National language shift tables are not used: no provider
promises them end to end.
"""

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
