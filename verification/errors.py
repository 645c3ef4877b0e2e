"""Why a verification is refused."""

from typing import Any

from messaging.errors import Refusal


class Recorded(Refusal):
    """One that guard.recorded stores, once `guard.told` has said what it is about."""

    note: Any = None


class LimitReached(Recorded):
    code = "limit_reached"
    status = 429
    title = "Too many verifications"


class DestinationBlocked(Recorded):
    code = "destination_blocked"
    status = 403
    title = "No code is sent to this destination"


class ResendTooEarly(Recorded):
    code = "resend_too_early"
    status = 429
    title = "The code was sent a moment ago"


class NoSendsLeft(Recorded):
    code = "no_sends_left"
    status = 409
    title = "The code was sent as often as the profile allows"


class NotPending(Refusal):
    code = "not_pending"
    status = 409
    title = "The verification is closed"


class KeyAway(Refusal):
    """Of OTP_KEYS: not in this process yet, or taken out too early. It is no guess that was wrong."""

    code = "key_away"
    status = 503
    title = "The key of this verification is not here"


class AlreadyRedeemed(Refusal):
    code = "already_redeemed"
    status = 409
    title = "The token was redeemed before"
