"""django-otp's devices, in whose tables nothing is kept that a copy of them would give away."""

import base64
import hashlib
import secrets
from collections.abc import Iterator

from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from providers.credentials import CredentialsError, ring, under_newest_key

KEY_BYTES = 20  # RFC 4226, section 4, R6
CODE_BYTES = 10  # so many random bits that a plain hash cannot be undone
CODES = 10


class Authenticator(TOTPDevice):
    """An app that shows codes (RFC 6238). `key` is sealed under CREDENTIALS_KEYS and bound to the user."""

    class Meta:
        proxy = True
        default_permissions = ()

    @property
    def bin_key(self) -> bytes:
        """What django-otp computes codes with. Raises CredentialsError."""
        return ring().unseal(self.key, self._bound_to)

    def set_key(self, key: bytes) -> None:
        self.key = ring().seal(key, self._bound_to)  # 74 characters at most, of 80

    @property
    def is_readable(self) -> bool:
        try:
            return bool(self.bin_key)
        except CredentialsError:
            return False

    @property
    def key_text(self) -> str:
        """As people type it into an app."""
        text = base64.b32encode(self.bin_key).decode()
        return " ".join(text[start : start + 4] for start in range(0, len(text), 4))

    @property
    def _bound_to(self) -> str:
        return f"staff:{self.user_id}"


class RecoveryCodes(StaticDevice):
    """What stands on the paper in the drawer: each code counts once, and only its hash is kept."""

    class Meta:
        proxy = True
        default_permissions = ()

    def renew(self) -> list[str]:
        """New codes in place of all that there were; they are returned here and can never be read again."""
        codes = [base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode().lower() for _ in range(CODES)]
        self.token_set.all().delete()
        StaticToken.objects.bulk_create(StaticToken(device=self, token=self._hash(code)) for code in codes)
        return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in codes]

    def verify_token(self, token: str) -> bool:
        return bool(super().verify_token(self._hash(token)))

    def _hash(self, code: str) -> str:
        """96 bits of SHA-256: the column has 16 characters."""
        found = hashlib.sha256(f"{self.user_id}:{code}".encode()).digest()
        return base64.urlsafe_b64encode(found[:12]).decode()


def encrypt_anew() -> Iterator[str]:
    """Brings the keys of all authenticators under the newest of CREDENTIALS_KEYS. Raises CredentialsError."""
    found = Authenticator.objects.all()
    return under_newest_key(found, "key", lambda row: row.set_key(row.bin_key), lambda row: f"authenticator {row.pk}")
