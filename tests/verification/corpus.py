"""Bodies of verification requests, right and wrong in every way that somebody could think of."""

from hypothesis import strategies as st

from tests.messaging.corpus import ANYTHING, JSON
from tests.messaging.corpus import VALUES as MESSAGE_VALUES
from tests.verification.phone import NUMBER, PAYMENT

START = {"to": NUMBER, "purpose": "login"}
CHECK = {"code": "123456", "purpose": "login"}
REDEEM = {"token": "A" * 22 + "." + "0" * 64, "purpose": "login"}

AMOUNTS = ["250", "250.00", "0250.000", "0.0001", "999999999999.9999"]
WRONG_AMOUNTS = [
    *("0", "0.00", "000", "-1", "+1", "1e3", "1E3", " 1", "1 ", "1\n", "1,000", "1.", ".5", "1.00001", "0x1", "1_000"),
    *("٢٥٠", "２５０", "1\u00a0000", "Infinity", "NaN", "1" * 13, "1" * 5000, "1/2", "²"),
]
PAYEES = [
    "Olena K.",
    "Олена",
    "علی\u200cرضا",
    "王小明",
    "M & N <x>",
    "A" * 40,
    "😀",
    "\u2764\ufe0f",
    "O'Neill {".strip(" {"),
]
WRONG_PAYEES = [
    *(" ", "\u00a0\u2003", "A" * 41, "A\nB", "A\rB", "A\tB", "A\x1bB", "A\x85B", "A\u2028B", "A\u2029B"),
    *("{code}", "A{", "}A", "A\u202eB", "A\u2066B", "A\u200fB", "A\u200bB", "A\u2060B", "A\ufeffB", "A\xadB", "\u200c"),
    *("\u3164", "A\u115fB", "A\u2800B", "\ufe0f", "A\U000e0041", "\U000e0041\U000e007f", "A\u034fB", "A\U00100000"),
]
CONTEXTS = [
    {},
    PAYMENT,
    {"payee": "Olena K."},
    {"amount": "1", "currency": "EUR"},
    *[{**PAYMENT, "amount": amount} for amount in [*AMOUNTS, *WRONG_AMOUNTS]],
    *[{**PAYMENT, "payee": payee} for payee in [*PAYEES, *WRONG_PAYEES]],
    *[{**PAYMENT, "currency": currency} for currency in ["USD", "eur", "EURO", "EU", "978", "ЕВР", "EUR\n", "ÉUR"]],
    *[{**PAYMENT, name: value} for name in PAYMENT for value in ANYTHING],
    {"amount": "1"},
    {"currency": "EUR"},
    {"currency": None},
    {**PAYMENT, "fee": "1"},
    {**PAYMENT, "Amount": "1", "": "1", "\ud800": "1", "n" * 1000: 1},
    {"amount": {"amount": "1"}, "currency": ["EUR"]},
    [PAYMENT],
]
PURPOSES = [
    *("login", "signup", "payment", "a", "a" * 40, "a" * 41, "a" * 101, "Login", "1a", "_a", "a-b", "a b", "login\n"),
    *("../login", "löschen", "логин", "a\u200b", "a1_"),
]
ADDRESSES = [
    *("203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7", "::1", "0.0.0.0", "2001:DB8:0:0:0:0:0:1"),  # noqa: S104
    *("fe80::1%eth0", "fe80::1%1", "::1%", "203.0.113.7%1", "203.0.113.7/24", "203.0.113.07", "203.0.113", "1", "::g"),
    *(" ::1", "::1\n", "[::1]", "localhost", "٢٠٣.0.113.7", "203.0.113.7, 10.0.0.1", "2001:db8::1:" * 5, "256.1.1.1"),
]
CODES = [
    *("123456", "١٢٣٤٥٦", "123 456", "123-456", "12\u00a034", "abcdef", "1" * 20, "1" * 21, "-1", "1e5", "', 1=1"),
    *(" ", "---", "\u00a0", "\x00123456", "12345\ud800", "{code}", "𝟙𝟚𝟛", "0" * 5000),
]
TOKENS = ["x", "A" * 100, "A" * 101, ".", "A" * 22 + ".", "..", "a\x00", "\udfff", "ä" * 50, " "]
LOCALES = [*MESSAGE_VALUES["locale"], "en/../de", "..", "%2e%2e", "en\x00", "C", "de_DE.UTF-8", "EN", "zz", "uk-UA"]

START_VALUES = {
    "to": MESSAGE_VALUES["to"],
    "purpose": PURPOSES,
    "profile": [*PURPOSES, ""],
    "locale": LOCALES,
    "context": CONTEXTS,
    "client_ip": ADDRESSES,
    "device_id": ["device", "x" * 64, "x" * 65, "😀" * 64, "a\x00", "\ud800", " "],
}
CHECK_VALUES = {"code": CODES, "purpose": PURPOSES, "context": CONTEXTS}
REDEEM_VALUES = {"token": TOKENS, "purpose": PURPOSES}


def _all(good, values):
    names = [*values, *("errors", "data", "self", "To", "", "\x00", "\ud800", "n" * 1000)]
    return [
        *ANYTHING,
        good,
        *[{**good, name: value} for name in names for value in [*values.get(name, []), *ANYTHING]],
        *[{key: value for key, value in good.items() if key != name} for name in good],
        {name: None for name in values},
        {name: "\x00" for name in values},
        {**good, **{f"x{n}": n for n in range(15)}},
    ]


STARTS = _all(START, START_VALUES)
CHECKS = _all(CHECK, CHECK_VALUES)
REDEEMS = _all(REDEEM, REDEEM_VALUES)


def bodies(good, all_values):
    """Some of the fields, each with a value that was thought of, or with any at all; most of the time the needed."""
    values = {name: st.sampled_from([*found, *ANYTHING]) | JSON for name, found in all_values.items()}
    for name, value in good.items():
        values[name] = st.just(value) | values[name]
    return st.fixed_dictionaries({}, optional=values) | JSON
