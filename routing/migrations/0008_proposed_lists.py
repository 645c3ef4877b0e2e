from django.db import migrations, models

# What was approved and not yet written is written now, and asked for once more.
WRITE = """
UPDATE routing_pricelist SET status = 'proposed' WHERE status = 'draft' AND id IN (
  SELECT book_id FROM routing_priceimport WHERE status NOT IN ('applied', 'rolled_back'));
UPDATE routing_priceimport i SET book_id = NULL FROM routing_pricelist l
WHERE l.id = i.book_id AND l.status <> 'proposed' AND i.status NOT IN ('applied', 'rolled_back');
UPDATE routing_priceimport SET status = 'writing', done = 0, total = 0, tries = 0, decided_by_id = NULL,
  decided_at = NULL
WHERE status IN ('submitted', 'approved');
"""
UNDO = """
UPDATE routing_pricelist SET status = 'draft' WHERE status = 'proposed';
UPDATE routing_priceimport SET status = 'ready' WHERE status = 'writing';
"""


class Migration(migrations.Migration):
    dependencies = [("routing", "0007_drafts_cost_nothing")]

    operations = [
        migrations.RemoveIndex(model_name="priceimport", name="price_import_work"),
        migrations.AlterField(
            model_name="priceimport",
            name="status",
            field=models.CharField(
                choices=[
                    ("uploaded", "Uploaded"),
                    ("mapping", "Mapping"),
                    ("reading", "Reading"),
                    ("ready", "Ready"),
                    ("writing", "Writing"),
                    ("submitted", "Submitted"),
                    ("applied", "Applied"),
                    ("rolled_back", "Rolled Back"),
                    ("cancelled", "Cancelled"),
                    ("failed", "Failed"),
                ],
                default="uploaded",
                max_length=12,
            ),
        ),
        migrations.AlterField(
            model_name="pricelist",
            name="status",
            field=models.CharField(
                choices=[
                    ("draft", "Draft"),
                    ("proposed", "Proposed"),
                    ("active", "Active"),
                    ("retired", "Retired"),
                ],
                default="draft",
                max_length=10,
            ),
        ),
        migrations.AddIndex(
            model_name="priceimport",
            index=models.Index(
                condition=models.Q(("status__in", ["uploaded", "reading", "writing"])),
                fields=["id"],
                name="price_import_work",
            ),
        ),
        migrations.RunSQL(WRITE, UNDO),
    ]
