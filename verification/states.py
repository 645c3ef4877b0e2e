"""Where a challenge may be. `pending` is left once, by one guarded UPDATE, and with its event."""

from enum import StrEnum


class ChallengeStatus(StrEnum):
    PENDING = "pending"  #: a code is out, or on its way
    VERIFIED = "verified"  #: the right code came in time
    EXPIRED = "expired"  #: its time ran out
    LOCKED = "locked"  #: too many wrong guesses
    CANCELLED = "cancelled"  #: by the client, by staff, or by a newer start for the same number and purpose


#: What a check of a challenge that was verified before is answered: its code has been used.
USED = "used"
