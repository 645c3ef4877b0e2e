"""`manage.py otp_keys`."""

import os
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError, CommandParser

from messaging.models import rfc3339
from providers.credentials import KEY_BYTES
from providers.sql import rows
from verification import codes
from verification.checking import TOKEN_SECONDS


class Use(NamedTuple):
    """What still needs a key, and how long it can."""

    pending: int
    tokens: int
    until: datetime


class Command(BaseCommand):
    help = (
        "Show what still needs each key of OTP_KEYS: an old one is removed when nothing does. "
        "With --new write the next ring: a new key in front, and behind it those that are needed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--new", metavar="FILE", help="for OTP_KEYS_FILE; it must not be there yet, and only its owner can read it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        used = uses()
        if options["new"]:
            kid = _write(options["new"], used)
            told = "until a process has it too, it answers checks of new codes with 503, which counts as no guess"
            self.stdout.write(f"{options['new']} has the new key {kid} in front: {told}")
            return
        for place, kid in enumerate(codes.ring().keys):
            self.stdout.write(f"key {kid}: {_needed(used.pop(kid, None), newest=place == 0)}")
        for kid, use in sorted(used.items()):
            line = f"key {kid} is not in OTP_KEYS: {_counts(use)} cannot be checked or redeemed; put it back"
            self.stderr.write(self.style.WARNING(line))


def uses() -> dict[int, Use]:
    """By the id of the key. A code that is checked in the last second still gives a token."""
    found = rows(
        """
        SELECT kid, count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'verified'),
          max(CASE status WHEN 'pending' THEN expires_at + %(seconds)s * interval '1 second' ELSE token_expires_at END)
        FROM verification_challenge
        WHERE status = 'pending' AND expires_at > clock_timestamp()
          OR status = 'verified' AND redeemed_at IS NULL AND token_expires_at > clock_timestamp()
            AND closed_at > clock_timestamp() - %(seconds)s * interval '1 second'
        GROUP BY kid""",
        {"seconds": TOKEN_SECONDS},
    )
    return {kid: Use(*rest) for kid, *rest in found}


def _write(name: str, used: Mapping[int, Use]) -> int:
    """The next ring; returns the id of the new key. One that any challenge has had is never used again."""
    keys = codes.ring().keys
    ((latest,),) = rows("SELECT coalesce(max(kid), 0) FROM verification_challenge")
    kid = max(latest, *keys) + 1
    newest = codes.newest()  # starts use it until the last process has the new one
    ring = {kid: os.urandom(KEY_BYTES), **{old: key for old, key in keys.items() if old == newest or old in used}}
    try:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    except FileExistsError:
        raise CommandError(f"{name} is there already") from None
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror}") from None
    with os.fdopen(file, "w") as out:
        out.write(",".join(f"{old}:{b64encode(key).decode()}" for old, key in ring.items()) + "\n")
    return kid


def _needed(use: Use | None, *, newest: bool) -> str:
    if newest:
        return f"the newest, used by every start; {_counts(use)}"
    if use is None:
        return "needed by nothing, may be removed"
    return f"{_counts(use)}; needed until {rfc3339(use.until)} at most"


def _counts(use: Use | None) -> str:
    pending, tokens = (use.pending, use.tokens) if use else (0, 0)
    return f"{pending} pending, {tokens} {'token' if tokens == 1 else 'tokens'} not redeemed"
