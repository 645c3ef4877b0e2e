import django.db.models.deletion
from django.db import migrations, models


def challenge(related_name: str) -> models.ForeignKey:
    """Found by the unique constraint that begins with it."""
    return models.ForeignKey(
        db_index=False,
        on_delete=django.db.models.deletion.CASCADE,
        related_name=related_name,
        to="verification.challenge",
    )


class Migration(migrations.Migration):
    dependencies = [("verification", "0004_conversions")]

    operations = [
        migrations.AddField(
            model_name="hour", name="wrong", field=models.PositiveIntegerField(db_default=0, default=0)
        ),
        migrations.AlterField(model_name="codemessage", name="challenge", field=challenge("messages")),
        migrations.AlterField(model_name="codeattempt", name="challenge", field=challenge("attempts")),
    ]
