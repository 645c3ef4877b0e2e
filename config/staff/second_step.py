"""The second step of staff: set up, present, renew, take away. Codes and keys are never logged."""

import logging
import re
import secrets
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from config.staff import sessions
from config.staff.models import KEY_BYTES, Authenticator, RecoveryCodes
from providers.credentials import CredentialsError

log = logging.getLogger(__name__)

WRONG = "This code is not right. Each counts once: wait for the next one."


class Refused(Exception):
    """The code does not count; the message is for the person."""


def is_set_up(user: User) -> bool:
    return Authenticator.objects.filter(user=user, confirmed=True).exists()


def codes_left(user: User) -> int:
    found = RecoveryCodes.objects.filter(user=user).first()
    return found.token_set.count() if found else 0


def present(user: User, code: str) -> Authenticator | RecoveryCodes:
    """What accepts the code, which is thereby used up. Raises Refused."""
    plain = _plain(code)
    kind = Authenticator if re.fullmatch("[0-9]{6}", plain) else RecoveryCodes
    with transaction.atomic():
        found = kind.objects.select_for_update().filter(user=user, confirmed=True).first()
        refusal = _refusal(found, plain)
    if refusal:
        log.warning("a code of staff was refused", extra={"user_id": user.pk})
        raise Refused(refusal)
    if kind is RecoveryCodes:
        note(user, "Second step: a recovery code was used.")
    return found


def draft(user: User, pk: Any) -> Authenticator:
    """The authenticator that a session is setting up, or a new one: its key is shown to that session alone."""
    found = Authenticator.objects.filter(pk=pk, user=user, confirmed=False).first() if pk else None
    if found is None or not found.is_readable:
        found = Authenticator(user=user, name="authenticator", confirmed=False)
        found.set_key(secrets.token_bytes(KEY_BYTES))
        found.save()
    return found


def confirm(user: User, pk: int, code: str, *, replace: bool) -> list[str]:
    """The draft counts from now on, instead of any other; returns new recovery codes. Raises Refused."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # of two sessions that set up the first one, one wins
        if not replace and is_set_up(user):
            raise Refused("Another session has set it up in the meantime: sign in again.")
        found = Authenticator.objects.select_for_update().filter(pk=pk, user=user, confirmed=False).first()
        refusal = _refusal(found, _plain(code))
        if not refusal:
            Authenticator.objects.filter(user=user).exclude(pk=pk).delete()
            found.confirmed = True
            found.save(update_fields=["confirmed"])
            codes = _renew(user)
    if refusal:
        raise Refused(refusal)
    note(user, "Second step: an authenticator and recovery codes were set up.")
    return codes


def renew_codes(user: User) -> list[str]:
    with transaction.atomic():
        codes = _renew(user)
    note(user, "Second step: new recovery codes were made.")
    return codes


def reset(user: User) -> dict[str, int]:
    """Takes the second step away, and the sessions with it; what there was, by name."""
    with transaction.atomic():
        gone = {
            "authenticators": Authenticator.objects.filter(user=user, confirmed=True).count(),
            "recovery codes": codes_left(user),
            "sessions": sessions.end(user),
        }
        Authenticator.objects.filter(user=user).delete()
        RecoveryCodes.objects.filter(user=user).delete()
    note(user, "Second step: taken away by manage.py reset_totp.")
    return gone


def note(user: User, text: str) -> None:
    """In the account's history, and in the log."""
    LogEntry.objects.log_actions(user.pk, [user], CHANGE, text, single_object=True)
    log.warning(text, extra={"user_id": user.pk})


def _renew(user: User) -> list[str]:
    found, _ = RecoveryCodes.objects.get_or_create(user=user, defaults={"name": "recovery codes"})
    found.throttle_reset()
    return found.renew()


def _refusal(device: Authenticator | RecoveryCodes | None, plain: str) -> str:
    """Empty when the code counts. The row is locked: of two that present it at once, one is right."""
    if device is None:
        return WRONG
    allowed, why = device.verify_is_allowed()
    if not allowed:
        seconds = max(1, round((why["locked_until"] - timezone.now()).total_seconds()))
        return f"After wrong codes there is a pause: {seconds} s more."
    try:
        return "" if device.verify_token(plain) else WRONG
    except CredentialsError as error:
        log.error("an authenticator of staff cannot be read: %s", error, extra={"user_id": device.user_id})
        return "Your authenticator cannot be read here: use a recovery code, and tell an administrator."


def _plain(code: str) -> str:
    return re.sub(r"[\s-]", "", code).lower()
