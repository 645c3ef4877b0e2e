"""Why a request is refused. Each class is one stable machine code."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field: `code` for machines, `message` for people, neither repeats the value."""

    field: str
    code: str
    message: str


class Refusal(Exception):
    """A request that is not carried out; nothing is stored and nothing is sent."""

    code = "refused"
    status = 422
    title = "The request was refused"

    def __init__(
        self, detail: str = "", *, errors: tuple[FieldError, ...] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after  # seconds

    def problem(self) -> dict[str, Any]:
        """RFC 9457 problem details."""
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
        }
        if self.detail:
            problem["detail"] = self.detail
        if self.errors:
            problem["errors"] = [{"field": e.field, "code": e.code, "message": e.message} for e in self.errors]
        if self.retry_after is not None:
            problem["retry_after"] = self.retry_after  # an item of a batch has no header of its own
        return problem


class InvalidRequest(Refusal):
    code = "validation_failed"
    title = "Some fields are not valid"


class NoRoute(Refusal):
    code = "no_route"
    title = "No provider has a price for this destination"


class Suppressed(Refusal):
    code = "recipient_suppressed"
    title = "This number must not be written to"


class MissingScope(Refusal):
    code = "missing_scope"
    status = 403
    title = "The API key does not have the scope this needs"


class IdempotencyMismatch(Refusal):
    code = "idempotency_mismatch"
    title = "This Idempotency-Key was used with another request"


class IdempotencyInProgress(Refusal):
    code = "idempotency_in_progress"
    status = 409
    title = "The first request with this Idempotency-Key is still running"


class RateLimited(Refusal):
    code = "rate_limited"
    status = 429
    title = "Too many messages in a second"


class QuotaExceeded(Refusal):
    code = "quota_exceeded"
    status = 429
    title = "The messages of this day are used up"


class Unauthenticated(Refusal):
    code = "invalid_api_key"
    status = 401
    title = "A valid API key is needed"


class ExpiredKey(Unauthenticated):
    code = "api_key_expired"
    title = "The API key has expired"


class RevokedKey(Unauthenticated):
    code = "api_key_revoked"
    title = "The API key was revoked"


class ClientDisabled(Refusal):
    code = "client_disabled"
    status = 403
    title = "The client is disabled"


class AddressNotAllowed(Refusal):
    code = "address_not_allowed"
    status = 403
    title = "The API key must not be used from this address"


class InvalidJson(Refusal):
    code = "invalid_json"
    status = 400
    title = "The body is not JSON"


class BodyTooLarge(Refusal):
    code = "body_too_large"
    status = 413
    title = "The body is too large"


class UnknownObject(Refusal):
    code = "not_found"
    status = 404
    title = "There is no such object"


class AlreadyLeft(Refusal):
    code = "already_left"
    status = 409
    title = "The message has left or may have left"


class AlreadyClosed(Refusal):
    code = "already_closed"
    status = 409
    title = "The message is closed and will not be sent"


class BadSignature(Refusal):
    code = "bad_signature"
    status = 401
    title = "The request is not signed by the provider"


class DatabaseAway(Refusal):
    code = "unavailable"
    status = 503
    title = "The service cannot store anything right now"
