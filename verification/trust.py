"""`messaging.contact.trust`: a client vouches for a number, for its own verifications alone."""

from datetime import datetime
from typing import Any

from messaging.clients import Caller
from messaging.drafts import parse_moment
from messaging.errors import FieldError, InvalidRequest, MissingScope
from providers.sql import rows
from routing import numbers

BY_COMMAND = "Told by the client"


def command(caller: Caller, data: Any) -> None:
    """`data` keeps to the schema. In the caller's transaction; raises MissingScope and InvalidRequest."""
    if "otp" not in caller.scopes:
        raise MissingScope("The client does not have the scope otp.")
    try:
        number = numbers.parse(data["to"]).msisdn
    except numbers.InvalidNumber as error:
        raise InvalidRequest(errors=(FieldError("to", error.reason, "No phone number of any country."),)) from None
    if data.get("trusted", True):
        params = {"number": number, "client": caller.id, "reason": data.get("reason") or BY_COMMAND}
        rows(_TRUST, params | {"until": _until(data.get("expires_at"))})
    else:
        rows(
            "DELETE FROM verification_trustednumber WHERE msisdn = %(number)s AND client_id = %(client)s",
            {"number": number, "client": caller.id},
        )


# The last word counts, whoever had the one before: staff or the client.
_TRUST = """
INSERT INTO verification_trustednumber (msisdn, client_id, reason, expires_at, created_at)
VALUES (%(number)s, %(client)s, %(reason)s, %(until)s, clock_timestamp())
ON CONFLICT (msisdn, client_id) DO UPDATE SET reason = excluded.reason, expires_at = excluded.expires_at
"""


def _until(value: str | None) -> datetime | None:
    try:
        return None if value is None else parse_moment(value)
    except ValueError:
        error = FieldError("expires_at", "bad_format", "An ISO 8601 date and time with its offset is expected.")
        raise InvalidRequest(errors=(error,)) from None
