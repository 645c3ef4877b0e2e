from django.db import migrations, models

# What is still open may be posted again: with the sender that it would have been given so far.
OPEN = """
UPDATE messaging_attempt a SET sender = coalesce(nullif(m.sender, ''), p.sender)
FROM messaging_message m, providers_provider p
WHERE a.status IN ('intent', 'unknown') AND m.id = a.message_id AND p.id = a.provider_id
"""


class Migration(migrations.Migration):
    dependencies = [("messaging", "0004_kafka")]

    operations = [
        migrations.AddField(
            model_name="attempt", name="sender", field=models.CharField(blank=True, db_default="", max_length=40)
        ),
        migrations.RunSQL(OPEN, migrations.RunSQL.noop),
    ]
