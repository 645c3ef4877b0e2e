"""What belongs to the request at hand, for log lines and problems."""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
