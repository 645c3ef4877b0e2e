"""`manage.py otp_keys`."""

from datetime import datetime
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand

from messaging.models import rfc3339
from providers.sql import rows
from verification import codes
from verification.checking import TOKEN_SECONDS


class Use(NamedTuple):
    """What still needs a key, and how long it can."""

    pending: int
    tokens: int
    until: datetime


class Command(BaseCommand):
    help = "Show what still needs each key of OTP_KEYS: an old one is removed when nothing does."

    def handle(self, *args: Any, **options: Any) -> None:
        used = uses()
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


def _needed(use: Use | None, *, newest: bool) -> str:
    if newest:
        return f"the newest, used by every start; {_counts(use)}"
    if use is None:
        return "needed by nothing, may be removed"
    return f"{_counts(use)}; needed until {rfc3339(use.until)} at most"


def _counts(use: Use | None) -> str:
    pending, tokens = (use.pending, use.tokens) if use else (0, 0)
    return f"{pending} pending, {tokens} {'token' if tokens == 1 else 'tokens'} not redeemed"
