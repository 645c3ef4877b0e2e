from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import post_migrate


class StaffConfig(AppConfig):
    name = "config.staff"
    label = "staff"

    def ready(self) -> None:
        from config.staff import checks as checks
        from config.staff import roles, sessions

        user_logged_in.connect(sessions.begin)
        post_migrate.connect(roles.complete, sender=self)
