"""The sign-in of staff. `code(device, 1)` is what the phone shows 30 seconds from now."""

import time

from django_otp.oath import TOTP

from config.staff.models import Authenticator, RecoveryCodes

PASSWORD = "correct horse battery"


def code(device, ahead=0):
    generator = TOTP(device.bin_key)
    generator.time = time.time() + 30 * ahead
    return f"{generator.token():06}"


def wrong(device):
    """No code of these minutes."""
    right = {code(device, ahead) for ahead in range(-3, 5)}
    return next(f"{number:06}" for number in range(20) if f"{number:06}" not in right)


def with_device(user):
    """Set up a moment ago, with a code that is used up; returns the authenticator and its recovery codes."""
    device = Authenticator(user=user, name="authenticator")
    device.set_key(b"k" * 20)
    device.save()
    found = RecoveryCodes.objects.create(user=user, name="recovery codes")
    return device, found.renew()
