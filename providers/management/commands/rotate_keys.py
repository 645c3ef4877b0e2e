"""The second step of a key's rotation: the first puts the new key in front, the third removes the old one."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from providers.credentials import CredentialsError, ring


class Command(BaseCommand):
    help = (
        "Encrypts the credentials of providers and the secrets of webhooks anew, with the first of CREDENTIALS_KEYS. "
        "Run it when every process has the new key, and remove the old one afterwards."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        newest = next(iter(ring().keys))
        try:
            changed = sum(1 for path in settings.ENCRYPTED for _ in import_string(path)())
        except CredentialsError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{changed} encrypted anew: everything is under key {newest}")
