"""What a fresh database needs before the processes start: tables, the demo's clients and carriers, one admin user."""

import io
import os
import sys

import django
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import OperationalError


def main() -> None:
    try:
        django.setup()
        call_command("check", stdout=io.StringIO())
        call_command("migrate", verbosity=0)
    except (ImproperlyConfigured, SystemCheckError) as error:
        sys.exit(str(error))
    except OperationalError as error:
        sys.exit(f"The database of DATABASE_URL does not serve: {error}")
    if settings.BROKER_URL.startswith("postgresql://"):
        from config.local.broker import create_schema

        create_schema(settings.BROKER_URL)
    provision_demo()
    create_admin(os.environ["ADMIN_USER"], os.environ["ADMIN_PASSWORD"])


def provision_demo() -> None:
    from config.local.demo import FILE, provision_missing
    from messaging.provisioning import ProvisioningError

    try:
        changes = provision_missing()
    except ProvisioningError as error:
        sys.exit(f"{FILE.name} cannot be provisioned:\n" + "\n".join(f"  {problem}" for problem in error.problems))
    for line in changes:
        print(line)


def create_admin(name: str, password: str) -> None:
    """An existing user keeps its password: the database may be somebody's own."""
    users = get_user_model().objects
    existing = users.filter(username=name).first()
    if existing is None:
        users.create_superuser(username=name, password=password)
    elif not existing.check_password(password):
        print(f"The user {name} has a password of its own, the one shown below does not apply.")


if __name__ == "__main__":
    main()
