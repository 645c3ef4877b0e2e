"""System checks of the verification settings."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from providers.credentials import KeyRing


@register()
def otp_keys(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    try:
        KeyRing.parse(settings.OTP_KEYS)
    except ValueError as error:
        hint = "Make one: python -c 'import base64, os; print(\"1:\" + base64.b64encode(os.urandom(32)).decode())'"
        return [Error(f"OTP_KEYS: {error}", hint=hint, id="verification.E001")]
    return []


@register(deploy=True)
def example_keys(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """.env.example is public, and so are the keys in it."""
    if b64encode(b"replace-this").decode() in settings.OTP_KEYS:
        return [Error("OTP_KEYS is the one of .env.example, which everybody knows.", id="verification.E003")]
    return []


@register(deploy=True)
def test_numbers(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """A number whose code never changes is a way in for everybody who knows it."""
    if settings.VERIFY_TEST_NUMBERS:
        return [Error("VERIFY_TEST_NUMBERS must be empty in production.", id="verification.E002")]
    return []
