"""Provider credentials at rest."""

from base64 import b64encode

import pytest

from providers import credentials
from providers.credentials import CredentialsError, KeyRing, key_id

OLD = b64encode(b"o" * 32).decode()
NEW = b64encode(b"n" * 32).decode()
PLAIN = {"account_sid": "AC1", "auth_token": "sésame"}


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing.parse(f"2:{NEW}, 1:{OLD}")


def test_what_was_encrypted_is_read_back(ring):
    token = ring.encrypt(PLAIN, "provider:7")

    assert ring.decrypt(token, "provider:7") == PLAIN


def test_the_first_key_encrypts(ring):
    token = ring.encrypt(PLAIN, "provider:7")

    assert token.startswith("v1.2.")
    assert key_id(token) == 2


def test_an_older_key_of_the_ring_still_decrypts(ring):
    token = KeyRing.parse(f"1:{OLD}").encrypt(PLAIN, "provider:7")

    assert ring.decrypt(token, "provider:7") == PLAIN


def test_equal_credentials_look_different_each_time(ring):
    tokens = {ring.encrypt(PLAIN, "provider:7") for _ in range(50)}

    assert len(tokens) == 50


def test_the_token_shows_nothing_of_the_secret(ring):
    token = ring.encrypt({"auth_token": "a" * 200}, "provider:7")

    assert "auth_token" not in token
    assert "YWFh" not in token  # base64 of "aaa"


def test_a_key_outside_the_ring_is_refused_by_its_id(ring):
    token = ring.encrypt(PLAIN, "provider:7")

    with pytest.raises(CredentialsError, match="key 2, which is not in the ring"):
        KeyRing.parse(f"1:{OLD}").decrypt(token, "provider:7")


def test_another_key_under_the_same_id_is_refused(ring):
    token = ring.encrypt(PLAIN, "provider:7")

    with pytest.raises(CredentialsError, match="damaged"):
        KeyRing.parse(f"2:{OLD}").decrypt(token, "provider:7")


def test_the_value_of_another_row_is_refused(ring):
    token = ring.encrypt(PLAIN, "provider:7")

    with pytest.raises(CredentialsError, match="another row"):
        ring.decrypt(token, "provider:8")


def test_every_flipped_character_is_noticed(ring):
    token = ring.encrypt({"a": "b"}, "provider:7")
    start = len("v1.2.")
    # The last character before the padding may carry bits that base64 does not use.
    for index in range(start, len(token.rstrip("=")) - 1):
        damaged = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]

        with pytest.raises(CredentialsError):
            ring.decrypt(damaged, "provider:7")


@pytest.mark.parametrize("token", ["", "v1", "v1.2", "v1.2.", "v2.2.AAAA", "v1.0.AAAA", "v1.x.AAAA", "v1.2.AA AA"])
def test_a_text_that_is_no_token_is_refused(ring, token):
    with pytest.raises(CredentialsError):
        ring.decrypt(token, "provider:7")


@pytest.mark.parametrize("token", ["v1.2.AAAA", "v1.2.AAAAA", "v1.2." + "A" * 36])
def test_a_token_that_was_cut_is_refused(ring, token):
    with pytest.raises(CredentialsError, match="damaged"):
        ring.decrypt(token, "provider:7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "entry 1 must be written id:base64"),
        (NEW, "entry 1 must be written id:base64"),
        (f"0:{NEW}", "positive whole number"),
        (f"-1:{NEW}", "positive whole number"),
        (f"01:{NEW}", "positive whole number"),
        (f"2:{NEW},", "entry 2 must be written id:base64"),
        (f"2:{NEW},2:{OLD}", "key id 2 is used twice"),
        ("2:%%%", "key 2 is not base64"),
        ("2:", "key 2 must have 32 bytes, it has 0"),
        ("2:" + b64encode(b"n" * 31).decode(), "key 2 must have 32 bytes, it has 31"),
    ],
)
def test_a_ring_that_is_written_wrong_is_refused_with_the_reason(text, words):
    with pytest.raises(ValueError, match=words):
        KeyRing.parse(text)


def test_neither_the_ring_nor_its_errors_show_a_key(ring):
    with pytest.raises(ValueError, match="used twice") as refused:
        KeyRing.parse(f"2:{NEW},2:{OLD}")

    assert NEW not in str(refused.value)
    assert "nnn" not in repr(ring)


def test_the_ring_of_the_settings_follows_them(settings):
    settings.CREDENTIALS_KEYS = f"1:{OLD}"
    token = credentials.ring().encrypt(PLAIN, "provider:7")

    settings.CREDENTIALS_KEYS = f"2:{NEW},1:{OLD}"

    assert credentials.ring().decrypt(token, "provider:7") == PLAIN
    assert key_id(credentials.ring().encrypt(PLAIN, "provider:7")) == 2
