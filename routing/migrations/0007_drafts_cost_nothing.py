from django.db import migrations

from providers.snapshots import version_trigger
from routing.library import active_triggers


class Migration(migrations.Migration):
    dependencies = [("routing", "0006_price_exclusion")]

    operations = [
        migrations.RunSQL(*reversed(version_trigger("routing_pricelist", "prices"))),
        migrations.RunSQL(*reversed(version_trigger("routing_price", "prices"))),
        migrations.RunSQL(*active_triggers()),
    ]
