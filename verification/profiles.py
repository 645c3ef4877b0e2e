"""By which rules does a client verify for a purpose? Its own profiles, else the defaults; in memory."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from messaging.clients import Caller
from messaging.errors import FieldError, InvalidRequest
from providers.snapshots import Snapshot
from verification import codes
from verification.models import CONTEXT_FIELDS, Profile, default_cooldowns, default_number_types


@dataclass(frozen=True, slots=True)
class Policy:
    """The values of a profile; a field's name and default are those of `Profile`."""

    enabled: bool = True
    code_length: int = 6
    ttl_seconds: int = 300
    max_checks: int = 5
    max_sends: int = 5
    cooldowns: tuple[int, ...] = tuple(default_cooldowns())
    receipt_wait_seconds: int | None = 20
    template: str = ""
    locale: str = ""
    sender: str = ""
    countries: frozenset[str] = frozenset()
    number_types: frozenset[str] = frozenset(default_number_types())
    code_per_attempt: bool = False
    context_fields: tuple[str, ...] = ()
    webotp_host: str = ""
    app_hash: str = ""
    monitor_only: bool = False
    accept_risk: bool = False

    @property
    def odds(self) -> float:
        """Of guessing one challenge, in a million."""
        return odds(self.code_length, self.max_checks, code_per_attempt=self.code_per_attempt)

    def cooldown(self, sends: int) -> int:
        """Seconds to wait after so many sends."""
        return self.cooldowns[min(sends, len(self.cooldowns)) - 1]


DEFAULTS: Mapping[str, Policy] = {
    "login": Policy(),
    "signup": Policy(),
    "payment": Policy(code_length=8, context_fields=CONTEXT_FIELDS),
}


def odds(code_length: int, max_checks: int, *, code_per_attempt: bool) -> float:
    return codes.odds(code_length, max_checks, codes.LIVE_GENERATIONS if code_per_attempt else 1)


def policy_of(row: Profile) -> Policy:
    found: dict[str, Any] = {field.name: getattr(row, field.name) for field in fields(Policy)}
    for name in ("cooldowns", "context_fields"):
        found[name] = tuple(found[name])
    for name in ("countries", "number_types"):
        found[name] = frozenset(found[name])
    return Policy(**found)


def _load() -> Mapping[tuple[uuid.UUID, str, str], Policy]:
    return {(row.client_id, row.purpose, row.name): policy_of(row) for row in Profile.objects.all()}


profiles: Snapshot[Mapping[tuple[uuid.UUID, str, str], Policy]] = Snapshot(("profiles",), _load)


def find(caller: Caller, purpose: str, name: str = "") -> Policy:
    """Raises InvalidRequest for a purpose or a profile that this client does not have."""
    table = profiles.get()
    policy = table.get((caller.id, purpose, name)) or (None if name else DEFAULTS.get(purpose))
    if policy is not None and policy.enabled:
        return policy
    if name and find(caller, purpose):  # which of the two is unknown?
        error = FieldError("profile", "unknown_profile", "There is no such profile for this purpose.")
    else:
        error = FieldError("purpose", "unknown_purpose", "The client has no profile for this purpose.")
    raise InvalidRequest(errors=(error,))
