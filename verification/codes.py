"""The digits: derived when they are needed, and kept nowhere.

`code = HMAC-SHA256(key, seed | challenge | client | purpose | number | context | generation) mod 10^length`.
The seed is random, of one challenge, and wiped when that closes: from then on not even the key tells its code.
"""

import hashlib
import hmac
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import orjson
from django.conf import settings

from providers.credentials import KeyRing

SEED_BYTES = 32
SHORTEST, LONGEST = 4, 10  # digits
LIVE_GENERATIONS = 3  # with a code per attempt: the last so many are right
ODDS_LIMIT = 20  # in a million; a profile above it needs its risk accepted
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Binding:
    """What a code is bound to: with any other value it is another code."""

    challenge: uuid.UUID
    client: uuid.UUID
    purpose: str
    msisdn: str = field(repr=False)
    context: Mapping[str, str] = field(repr=False)
    length: int = 6
    kid: int = 1
    seed: bytes = field(default=b"", repr=False)


def derive(binding: Binding, generation: int) -> str:
    """Raises KeyError where the ring has no such key any more."""
    fields = (
        binding.seed,
        b"code",
        binding.challenge.bytes,
        binding.client.bytes,
        binding.purpose.encode(),
        binding.msisdn.encode(),
        canonical(binding.context),
        generation.to_bytes(4),
    )
    digest = _mac(binding.kid, fields)
    # 64 bits: the bias of the remainder is below one in 10^9 (31 bits as in RFC 4226 would make it one in 200).
    return f"{int.from_bytes(digest[:8]) % 10**binding.length:0{binding.length}d}"


def match(binding: Binding, generations: Iterable[int], guess: str) -> int | None:
    """Which generation's code the guess is; every one is compared, so that the time tells nothing."""
    given = guess.encode("utf-8", "replace")
    found = None
    for generation in generations:
        if hmac.compare_digest(derive(binding, generation).encode(), given):
            found = generation
    return found


def result_token(reference: str, kid: int, salt: bytes) -> str:
    """The proof of a success, to be redeemed once. It is derived too: a repeated answer is the same."""
    mac = _mac(kid, (salt, b"token", reference.encode()))
    return f"{reference}.{mac.hex()}"


def mark(kid: int, salt: bytes, said: Iterable[str], context: Mapping[str, str]) -> bytes:
    """Tells whether a success is asked for once more in the same words; without the ring it tells nothing of them."""
    words = (word.encode("utf-8", "replace") for word in said)
    return _mac(kid, (salt, b"mark", *words, canonical(context)))


def canonical(context: Mapping[str, str]) -> bytes:
    return orjson.dumps(dict(context), option=orjson.OPT_SORT_KEYS)


def odds(length: int, checks: int, live: int = 1) -> float:
    """The chance to guess one challenge's code, in a million: so many checks, each against `live` right codes."""
    return min(1.0, checks * live / 10**length) * _MILLION


def newest() -> int:
    """The id of the key that new challenges use."""
    return next(iter(ring().keys))


@lru_cache(maxsize=1)
def _parsed(text: str) -> KeyRing:
    return KeyRing.parse(text)


def ring() -> KeyRing:
    """The ring of OTP_KEYS; raises ValueError."""
    return _parsed(settings.OTP_KEYS)


def _mac(kid: int, fields: Iterable[bytes]) -> bytes:
    # Each field with its length: no two lists of fields are the same bytes.
    message = b"".join(len(field).to_bytes(4) + field for field in fields)
    return hmac.digest(ring().keys[kid], message, hashlib.sha256)
