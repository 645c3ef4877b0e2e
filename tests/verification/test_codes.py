"""The digits: the same for the same challenge for ever, others for anything else, and as good as dice."""

import hashlib
import hmac
import uuid
from collections import Counter
from dataclasses import replace

import pytest
from django.conf import settings as configured
from hypothesis import given
from hypothesis import strategies as st

from verification import codes
from verification.codes import Binding, canonical, derive, mark, match, odds, result_token
from verification.profiles import DEFAULTS

BINDING = Binding(
    challenge=uuid.UUID("0199c5a0-0000-7000-8000-000000000001"),
    client=uuid.UUID("0199c5a0-0000-7000-8000-000000000002"),
    purpose="payment",
    msisdn="+380671234567",
    context={"amount": "250.00", "currency": "EUR", "payee": "Olena Test"},
    length=8,
    kid=1,
    seed=bytes(range(32)),
)
OTHERS = {
    "challenge": uuid.UUID(int=BINDING.challenge.int + 1),
    "client": uuid.UUID(int=BINDING.client.int + 1),
    "purpose": "payments",
    "msisdn": "+380671234568",
    "context": {**BINDING.context, "amount": "250.01"},
    "kid": 2,
    "seed": bytes(range(1, 33)),
}
DICE = (4, 6, 8, 10)


@pytest.fixture
def two_keys(settings):
    settings.OTP_KEYS = f"{settings.OTP_KEYS},{settings.OTP_KEYS.replace('1:A', '2:B')}"


@pytest.mark.parametrize(
    ("length", "generation", "code"),
    [
        (4, 0, "8573"),
        (6, 0, "228573"),
        (8, 0, "17228573"),
        (10, 0, "4017228573"),
        (8, 1, "81792945"),
        (8, 300, "64629152"),
    ],
)
def test_derivation_never_changes(length, generation, code):
    """A running challenge outlives a deployment: its code must too."""
    assert derive(replace(BINDING, length=length), generation) == code


def test_derivation_is_what_the_design_says():
    """HMAC-SHA256 over length-prefixed fields, written here once more, by hand."""
    fields = [
        BINDING.seed,
        b"code",
        BINDING.challenge.bytes,
        BINDING.client.bytes,
        b"payment",
        b"+380671234567",
        b'{"amount":"250.00","currency":"EUR","payee":"Olena Test"}',
        b"\x00\x00\x00\x07",
    ]
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    digest = hmac.new(bytes(range(32)), message, hashlib.sha256).digest()

    assert derive(BINDING, 7) == f"{int.from_bytes(digest[:8], 'big') % 10**8:08d}"


@pytest.mark.parametrize("name", OTHERS)
def test_code_is_bound_to(two_keys, name):
    other = replace(BINDING, length=10, **{name: OTHERS[name]})

    assert derive(other, 0) != derive(replace(BINDING, length=10), 0)


def test_code_is_bound_to_its_generation():
    binding = replace(BINDING, length=10)

    assert len({derive(binding, generation) for generation in range(100)}) == 100


def test_fields_do_not_run_into_each_other():
    """Without their lengths these two would be the same bytes."""
    first = replace(BINDING, length=10, purpose="pay", msisdn="ment+380671234567")
    second = replace(BINDING, length=10, purpose="payment", msisdn="+380671234567")

    assert derive(first, 0) != derive(second, 0)


def test_order_of_the_context_makes_no_difference():
    turned = replace(BINDING, context=dict(reversed(BINDING.context.items())))

    assert derive(turned, 0) == derive(BINDING, 0)


bindings = st.builds(
    Binding,
    challenge=st.uuids(),
    client=st.uuids(),
    purpose=st.text("abc_", min_size=1, max_size=40),
    msisdn=st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True),
    context=st.dictionaries(st.sampled_from(["amount", "currency", "payee"]), st.text(max_size=40)),
    length=st.integers(codes.SHORTEST, codes.LONGEST),
    kid=st.just(1),
    seed=st.binary(min_size=32, max_size=32),
)


@given(binding=bindings, generation=st.integers(0, 32_767))
def test_any_code_has_its_length_in_digits_and_matches_itself_alone(binding, generation):
    code = derive(binding, generation)

    assert len(code) == binding.length
    assert set(code) <= set("0123456789")
    assert match(binding, [generation], code) == generation
    assert match(binding, [generation], code[:-1]) is None
    assert match(binding, [generation], code + "0") is None


@given(binding=bindings, guess=st.text(max_size=20))
def test_no_guess_is_an_error(binding, guess):
    found = match(binding, [0], guess)

    assert (found == 0) is (guess == derive(binding, 0))


def test_lone_surrogate_is_a_wrong_guess():
    assert match(BINDING, [0], "\ud800") is None


def test_match_tells_the_generation():
    assert match(BINDING, range(2, 5), derive(BINDING, 3)) == 3
    assert match(BINDING, range(2, 5), derive(BINDING, 1)) is None


def test_code_without_its_key_is_an_error():
    with pytest.raises(KeyError):
        derive(replace(BINDING, kid=9), 0)


@pytest.mark.parametrize("length", DICE)
def test_digits_are_uniform_in_every_place(length):
    """Chi-square with nine degrees of freedom: above 33.7 once in 10,000 for good dice. The seeds are fixed."""
    found = sample(length, 25_000)

    assert {len(code) for code in found} == {length}
    for place in range(length):
        counts = Counter(code[place] for code in found)
        expected = len(found) / 10
        assert sum((counts[str(digit)] - expected) ** 2 / expected for digit in range(10)) < 33.7


def test_all_short_codes_occur_equally_often():
    """100,000 codes of four digits: 9,999 degrees of freedom, standard deviation 141."""
    counts = Counter(sample(4, 100_000))

    assert len(counts) > 9_990
    chi_square = sum((counts[f"{number:04d}"] - 10) ** 2 / 10 for number in range(10_000))
    assert abs(chi_square - 9_999) < 5 * 141


def sample(length: int, size: int) -> list[str]:
    seeds = (hashlib.sha256(b"%d" % number).digest() for number in range(size))
    return [derive(replace(BINDING, length=length, seed=seed), 0) for seed in seeds]


@pytest.mark.parametrize(
    ("length", "checks", "live", "in_a_million"),
    [(6, 5, 1, 5.0), (6, 5, 3, 15.0), (8, 5, 1, 0.05), (4, 5, 1, 500.0), (4, 10, 3, 3000.0), (10, 1, 1, 0.0001)],
)
def test_odds(length, checks, live, in_a_million):
    assert odds(length, checks, live) == pytest.approx(in_a_million)


def test_odds_of_the_defaults_are_at_most_five_in_a_million():
    assert max(policy.odds for policy in DEFAULTS.values()) <= 5


def test_odds_hold_for_real_guesses():
    """Five guesses each at 20,000 challenges of four digits: 10 are expected to hit, standard deviation 3.2."""
    guesses = {f"{number:04d}" for number in (0, 1234, 1111, 7777, 9999)}
    hits = sum(code in guesses for code in sample(4, 20_000))

    assert 20_000 * odds(4, 5) / 1_000_000 == 10
    assert 0 < hits < 10 + 5 * 3.2


def test_token_is_bound_to_reference_key_and_salt(two_keys):
    tokens = {
        result_token(reference, kid, salt)
        for reference in ("A" * 22, "B" * 22)
        for kid in (1, 2)
        for salt in (bytes(16), bytes(range(16)))
    }

    assert len(tokens) == 8
    assert all(token.partition(".")[0] in ("A" * 22, "B" * 22) for token in tokens)


def test_mark_is_bound_to_every_word():
    said = ("key-1", "123456", "payment")
    marks = {mark(1, bytes(16), said, {})}
    for place in range(3):
        marks.add(mark(1, bytes(16), [word + "x" * (at == place) for at, word in enumerate(said)], {}))
    marks |= {mark(1, bytes(16), said, {"payee": "x"}), mark(1, b"x" * 16, said, {})}

    assert len(marks) == 6


def test_uses_of_one_key_are_apart():
    """The same bytes under another word give another result: no token can be turned into a code."""
    seed, reference = bytes(32), "A" * 22
    token = result_token(reference, 1, seed).partition(".")[2]

    assert mark(1, seed, (reference,), {}).hex() != token


def test_newest_key_is_the_first_of_the_ring(two_keys, settings):
    assert codes.newest() == 1
    settings.OTP_KEYS = ",".join(reversed(settings.OTP_KEYS.split(",")))
    assert codes.newest() == 2


def test_canonical_context_tells_an_empty_one_from_none():
    assert canonical({}) == b"{}"
    assert canonical({"payee": ""}) != canonical({})


def test_nothing_that_is_shown_has_a_seed_or_a_number():
    assert "+380671234567" not in repr(BINDING)
    assert "seed" not in repr(BINDING)
    assert configured.OTP_KEYS not in repr(BINDING)
