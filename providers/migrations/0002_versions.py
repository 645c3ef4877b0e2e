from django.db import migrations

from providers.snapshots import version_trigger


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_initial")]

    operations = [migrations.RunSQL(*version_trigger("providers_provider", "providers"))]
