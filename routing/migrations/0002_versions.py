from django.db import migrations

from providers.snapshots import version_trigger


class Migration(migrations.Migration):
    dependencies = [("routing", "0001_initial"), ("providers", "0002_versions")]

    operations = [
        migrations.RunSQL(*version_trigger("routing_pricelist", "prices")),
        migrations.RunSQL(*version_trigger("routing_price", "prices")),
        migrations.RunSQL(*version_trigger("routing_exchangerate", "prices")),
    ]
