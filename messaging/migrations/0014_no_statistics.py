from django.db import migrations

# Nobody looks for them by value, and to compare them is most of the work of an ANALYZE.
COLUMNS = {
    "messaging_message": ("text", "metadata", "decision"),
    "messaging_attempt": ("error_detail",),
    "messaging_event": ("data",),
    "messaging_receipt": ("raw",),
    "messaging_idempotencykey": ("fingerprint", "body"),
}


def keep(target: str) -> str:
    return ";".join(
        f"ALTER TABLE {table} {', '.join(f'ALTER COLUMN {column} SET STATISTICS {target}' for column in columns)}"
        for table, columns in COLUMNS.items()
    )


class Migration(migrations.Migration):
    dependencies = [("messaging", "0013_unchecked_client")]

    operations = [migrations.RunSQL(keep("0"), keep("DEFAULT"))]
