"""`manage.py reset_totp USER`."""

from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.staff import second_step


class Command(BaseCommand):
    help = (
        "Take the authenticator and the recovery codes of a member of staff away, and end their sessions: for\n"
        "somebody who has lost both. At the next sign-in the password alone leads to the page that sets up a new one."
    )

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(*args, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "Be sure who asks for it: see or call them, a mail is not enough.\n"
            "Whoever knows the password can set up the new one. If a thief might, change it first:\n"
            "  manage.py changepassword alice\n"
            "  manage.py reset_totp alice"
        )
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the name that they sign in with")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']}. Nothing was changed.")
        gone = second_step.reset(user)
        told = ", ".join(f"{name} {number}" for name, number in gone.items())
        self.stdout.write(f"{user.username}: taken away ({told}); the next sign-in sets up a new authenticator")
