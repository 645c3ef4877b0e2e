from django.db import migrations, models

# What the tables hold already. What moves while an older version still runs is left to `manage.py recount`.
SEED = """
SET LOCAL statement_timeout = 0;
INSERT INTO messaging_tally
  (slot, kind, message_class, provider_id, origin, target, bucket, currency, n, seconds, cost)
SELECT timestamptz '1970-01-01 00:00:00+00', 'message', message_class, 0, '', status, -1, '', count(*), 0, 0
FROM messaging_message GROUP BY message_class, status
UNION ALL
SELECT timestamptz '1970-01-01 00:00:00+00', 'attempt', '', provider_id, '', status, -1, currency, count(*), 0,
  coalesce(sum(cost), 0)
FROM messaging_attempt WHERE status <> 'intent' GROUP BY provider_id, status, currency
"""


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0005_attempt_sender'),
    ]

    operations = [
        migrations.CreateModel(
            name='TallyDelta',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slot', models.DateTimeField()),
                ('kind', models.CharField(max_length=7)),
                ('message_class', models.CharField(max_length=14)),
                ('provider_id', models.BigIntegerField()),
                ('origin', models.CharField(max_length=12)),
                ('target', models.CharField(max_length=12)),
                ('bucket', models.SmallIntegerField()),
                ('currency', models.CharField(max_length=3)),
                ('n', models.BigIntegerField()),
                ('seconds', models.FloatField()),
                ('cost', models.DecimalField(decimal_places=6, max_digits=20)),
            ],
        ),
        migrations.CreateModel(
            name='Tally',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slot', models.DateTimeField()),
                ('kind', models.CharField(max_length=7)),
                ('message_class', models.CharField(max_length=14)),
                ('provider_id', models.BigIntegerField()),
                ('origin', models.CharField(max_length=12)),
                ('target', models.CharField(max_length=12)),
                ('bucket', models.SmallIntegerField()),
                ('currency', models.CharField(max_length=3)),
                ('n', models.BigIntegerField()),
                ('seconds', models.FloatField()),
                ('cost', models.DecimalField(decimal_places=6, max_digits=20)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('slot', 'kind', 'message_class', 'provider_id', 'origin', 'target', 'bucket', 'currency'), name='one_tally_per_key')],
            },
        ),
        # Thousands of rows come and go in each minute.
        migrations.RunSQL(
            "ALTER TABLE messaging_tallydelta SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000)",
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL(SEED, migrations.RunSQL.noop),
        # Last: it locks the messages, and the seed reads them all.
        migrations.AddField(
            model_name='message',
            name='send_at',
            field=models.DateTimeField(null=True),
        ),
    ]
