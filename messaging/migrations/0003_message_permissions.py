from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("messaging", "0002_versions")]

    operations = [
        migrations.AlterModelOptions(
            name="message",
            options={
                "permissions": [
                    ("view_full_number", "Can see whole phone numbers"),
                    ("view_text", "Can see texts (never those of class otp)"),
                    ("decide_held", "Can decide what becomes of held messages"),
                ]
            },
        )
    ]
