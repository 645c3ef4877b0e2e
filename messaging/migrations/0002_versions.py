from django.db import migrations

from providers.snapshots import version_trigger


class Migration(migrations.Migration):
    dependencies = [("messaging", "0001_initial"), ("providers", "0002_versions")]

    operations = [
        migrations.RunSQL(*version_trigger("messaging_client", "clients")),
        # Not for last_used_at: a key in use must not renew every process's table each minute.
        migrations.RunSQL(
            *version_trigger("messaging_apikey", "clients", "scopes, cidrs, expires_at, revoked_at, client_id")
        ),
        migrations.RunSQL(*version_trigger("messaging_template", "templates")),
    ]
