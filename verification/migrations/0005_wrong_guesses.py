from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("verification", "0004_conversions")]

    operations = [
        migrations.AddField(
            model_name="hour", name="wrong", field=models.PositiveIntegerField(db_default=0, default=0)
        ),
    ]
