import uuid

from django.db import models


class Message(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    client = models.CharField(max_length=40)
    idempotency_key = models.CharField(max_length=64)
    to = models.CharField(max_length=16, db_index=True)
    text = models.TextField()
    sender = models.CharField(max_length=20)
    status = models.CharField(max_length=12, default="queued")
    provider_reference = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client", "idempotency_key"], name="naive_one_key")]
        indexes = [models.Index(fields=["status", "created_at"], name="naive_status")]

    def __str__(self) -> str:
        return str(self.id)
