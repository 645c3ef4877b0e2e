from django.db import migrations

from providers.snapshots import version_trigger


class Migration(migrations.Migration):
    dependencies = [("verification", "0001_initial"), ("providers", "0002_versions")]

    operations = [migrations.RunSQL(*version_trigger("verification_profile", "profiles"))]
