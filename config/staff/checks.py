"""System checks of the sign-in of staff."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register(deploy=True)
def second_step(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """A password that was guessed, reused or phished would open the admin."""
    if not settings.STAFF_TOTP:
        hint = "Leave STAFF_TOTP out, or set it to true; false is for development."
        return [Error("STAFF_TOTP is off: a password alone opens the admin.", hint=hint, id="staff.E001")]
    return []
