"""The second step of a key's rotation: the first puts the new key in front, the third removes the old one."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from providers.credentials import CredentialsError, key_id, ring
from providers.models import Provider


class Command(BaseCommand):
    help = (
        "Encrypts the credentials of all providers anew, with the first of CREDENTIALS_KEYS. "
        "Run it when every process has the new key, and remove the old one afterwards."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        newest = next(iter(ring().keys))
        changed = 0
        for pk in Provider.objects.exclude(credentials="").values_list("pk", flat=True):
            with transaction.atomic():
                provider = Provider.objects.select_for_update().get(pk=pk)
                if key_id(provider.credentials) != newest:
                    try:
                        provider.set_credentials(provider.read_credentials())
                    except CredentialsError as error:
                        raise CommandError(f"{provider}: {error}") from None
                    provider.save(update_fields=["credentials"])
                    changed += 1
        self.stdout.write(f"{changed} encrypted anew: everything is under key {newest}")
