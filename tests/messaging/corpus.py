"""Bodies of requests, right and wrong in every way that somebody could think of."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from messaging.drafts import FIELDS, MAX_AHEAD
from messaging.errors import InvalidRequest
from tests.messaging.door import GOOD

TEMPLATE = {"to": GOOD["to"], "template": "transfer", "params": {"amount": "1"}}
ANYTHING = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    10**100,
    "",
    " ",
    "x",
    "\x00",
    "\ud800",
    "x" * 2000,
    [],
    ["x"],
    {},
    {"a": 1},
]


def ahead(seconds):
    return (datetime.now(UTC) + MAX_AHEAD + timedelta(seconds=seconds)).isoformat()


VALUES = {
    "to": [
        "+380671234567",
        "+38 (067) 123-45-67",
        "+38..067..1234567",
        "+38-067-1234567-",
        " +380671234567",
        "+380671234567\n",
        "380671234567",
        "00380671234567",
        "+38067123456\u0667",
        "\uff0b380671234567",
        "+38067",
        "+999123456789",
        "+8835100012345",
        "+" + "3" * 40,
        "+1" + " " * 30 + "2",
        "tel:+380671234567",
        "+380671234567;ext=5",
        "MEXAR",
        "+12015550123",
        "+447400123456",
        "+4915123456789",
    ],
    "text": [
        "Hello",
        " padded ",
        "\n\t\u00a0\u2003",
        "\ufeff",
        "\x1c\x1d",
        "a\x00b",
        "a\ud83db",
        "😀" * 335,
        "😀" * 336,
        "a" * 1530,
        "a" * 1531,
        "€" * 760,
        "€" * 766,
        "я" * 670,
        "я" * 671,
        "é" * 1530,
        "{name}",
    ],
    "template": ["transfer", "a" * 60, "a" * 61, "a b", "ä", "../x", "transfer\n", "-", "_", "a" * 101],
    "params": [
        {},
        {"amount": ""},
        {"amount": None},
        {"amount": 1},
        {"amount": ["x"]},
        {"amount": "x" * 1530},
        {"amount": "x" * 1531},
        {"amount": "a\x00"},
        {"amount": "\udc00"},
        {"Amount": "1"},
        {"a" * 40: "1"},
        {"a" * 41: "1"},
        {"1a": "1"},
        {"": "1"},
        {"ä": "1"},
        {"a\n": "1"},
        {"a": "1", "B": 2, "c": None},
        {f"p{n}": "x" for n in range(20)},
        {f"p{n}": "x" for n in range(21)},
        {f"P{n}": 1 for n in range(21)},
    ],
    "sender": [
        "MEXAR",
        "A",
        "ELEVENCHARS",
        "TWELVELETTER",
        "123",
        "12",
        "+123",
        "1" * 15,
        "1" * 16,
        "+" + "1" * 16,
        "1A",
        "M & N",
        "-._&",
        "MEX\nAR",
        "МЕКСАР",
        "MEXAR ",
        "MEXAR\n",
        "\u0661\u0662\u0663",
    ],
    "class": ["otp", "transactional", "bulk", "OTP", "otp ", "fast", "['otp']", ["otp"], {"otp": "otp"}],
    "locale": [
        "en",
        "pt-BR",
        "pt_BR",
        "zh-Hant-TW",
        "e",
        "engl",
        "en-",
        "en-x",
        "en\n",
        "../etc",
        "en-" + "aa-" * 60,
        "en-latn-aaaaaaaa-bbb",
        "en-latn-aaaaaaaa-bbbb",
        "ёё",
    ],
    "send_at": [
        "2026-01-02T03:04:05+02:00",
        "2026-01-02T03:04:05Z",
        "2026-01-02t03:04:05z",
        "2026-01-02 03:04:05+00:00",
        "20260102T030405Z",
        "2026-W01-1T00:00:00+00:00",
        "2026-01-02T03:04Z",
        "2026-01-02T03:04:05.123456789Z",
        "2026-01-02T03:04:05",
        "2026-01-02",
        "2026-02-30T00:00:00Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T23:59:60Z",
        "2026-01-02T03:04:05+25:00",
        "2026-01-02T03:04:05+00:00:30",
        "2026-01-02\ud80003:04:05+00:00",
        "2026-01-02\u300003:04:05+00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "9999-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "tomorrow",
        "1800000000",
        1_800_000_000,
        ahead(-60),
        ahead(60),
    ],
    "validity_seconds": [10, 9, 259_200, 259_201, 60.0, "60", "", 1e300, float("1e5"), -(10**30)],
    "reference": ["order-1", "x" * 100, "x" * 101, "я" * 100, "😀" * 100, "a\x00", "\udfff", " "],
    "max_price": [
        *("0.08", "1", "0", "999999.999999", "1000000", "0.1234567", ".5", "1.", "-1", "1e2", "0,08", " 1", "١"),
        *(0.08, 1, "NaN"),
    ],
    "metadata": [
        {},
        {"order": "1"},
        {"order": ""},
        {"order": None},
        {"order": 1},
        {"order": True},
        {"order": {"a": "b"}},
        {"order": "x" * 500},
        {"order": "x" * 501},
        {"order": "\x00"},
        {"order": "\ud800"},
        {"k" * 40: "x"},
        {"k" * 41: "x"},
        {"k" * 100: "x", "k" * 101: "x"},
        {"": "x"},
        {"\x00": "x"},
        {"\x1f": "x"},
        {"\x7f": "x"},
        {"\ud800": "x"},
        {"Ключ 🔑": "x"},
        {"a.b": "x", "a": 1},
        {str(n): "" for n in range(20)},
        {str(n): "" for n in range(21)},
        {"k": 1, "l": "x" * 501, "": None, "m": "ok"},
    ],
}
OTHERS = [
    *ANYTHING,
    {**GOOD, **TEMPLATE},
    {"to": GOOD["to"]},
    {"text": "Hello"},
    TEMPLATE,
    {"to": GOOD["to"], "template": "transfer"},
    {**GOOD, "params": {}},
    {**GOOD, "params": {"A": 1}},
    {"to": GOOD["to"], "params": None},
    {**GOOD, "from": "MEXAR"},
    {**GOOD, "To": GOOD["to"], "": 1, "to ": 1, "\ud800\x00": 1},
    {**GOOD, "n" * 1000: 1},
    {**GOOD, "errors": [], "data": {}, "self": 1},
    {"to": 1, "text": "", "class": "fast", "sendr": "x", "metadata": {"a": 1}},
    {name: None for name in FIELDS},
    {name: "\x00" for name in FIELDS},
]
MESSAGES = [
    *OTHERS,
    *[{**GOOD, name: value} for name, values in VALUES.items() for value in [*values, *ANYTHING]],
    *[{**TEMPLATE, name: value} for name, values in VALUES.items() for value in [*values, *ANYTHING]],
]
QUOTES = [*OTHERS, *[{**GOOD, name: value} for name, values in VALUES.items() for value in [*values, *ANYTHING]]]
BATCHES = [
    *ANYTHING,
    *[{"messages": value} for value in ANYTHING],
    {"messages": [GOOD]},
    {"messages": [None, 1, GOOD, {}]},
    {"messages": [GOOD] * 1000},
    {"messages": [GOOD] * 1001},
    {"messages": [GOOD], "class": "otp"},
    {"Messages": [GOOD]},
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=8,
)


def bodies():
    """Some of the fields, each with a value that was thought of, or with any at all."""
    values = {name: st.sampled_from([*good, *ANYTHING]) | JSON for name, good in VALUES.items()}
    values["to"] = st.just(GOOD["to"]) | values["to"]  # most of them right, or nothing else would matter
    return st.fixed_dictionaries({}, optional=values) | JSON


def refused_by_the_door(read, body):
    """The fields that the door's reader finds wrong."""
    try:
        read(body)
    except InvalidRequest as refusal:
        return {error.field for error in refusal.errors}
    return set()


def refused_by_the_document(serializer, body):
    """Those that the documenting serializer does."""
    found = serializer(data=body)
    found.is_valid()
    return set(found.errors)
