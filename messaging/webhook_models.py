"""Where a client's events go, and what became of each."""

from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
STATUSES = [(word, word) for word in (PENDING, DELIVERED, FAILED)]
#: Why an endpoint gets nothing: its client or staff said so, it answered 410, or it failed for days on end.
BY_CLIENT, BY_STAFF, GONE, FAILING = "client", "staff", "gone", "failing"
REASONS = [(word, word) for word in (BY_CLIENT, BY_STAFF, GONE, FAILING)]


class WebhookEndpoint(models.Model):
    """An address of a client that takes events. A deleted one stays until its deliveries are purged."""

    id = models.UUIDField(primary_key=True, editable=False)
    client = models.ForeignKey(
        "messaging.Client", on_delete=models.CASCADE, related_name="webhook_endpoints", db_index=False
    )
    url = models.CharField("URL", max_length=500)
    events = ArrayField(models.CharField(max_length=40))  # types, message.* or *
    description = models.CharField(max_length=100, blank=True, db_default="")
    secrets = models.TextField(editable=False)  # encrypted: each secret with the end of its time (signatures.py)
    enabled = models.BooleanField(default=True, db_default=True)
    disabled_reason = models.CharField(max_length=10, choices=REASONS, blank=True, db_default="")
    disabled_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True)  # since then nothing but failures
    last_success_at = models.DateTimeField(null=True)  # to the minute
    last_failure_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=60, blank=True, db_default="")
    created_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # whoever writes an event: has this client endpoints?
            models.Index(fields=["client"], name="webhook_client", condition=Q(deleted_at=None)),
        ]

    def __str__(self) -> str:
        return f"endpoint {urlsplit(self.url).netloc}"


class WebhookDelivery(models.Model):
    """One event for one endpoint. A worker that is gone has a lease that ends; `claims` is the fence."""

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    event = models.ForeignKey("messaging.Event", on_delete=models.CASCADE, related_name="+", db_index=False)
    status = models.CharField(max_length=10, choices=STATUSES)
    tries = models.PositiveSmallIntegerField(default=0, db_default=0)  # since the beginning or the last replay
    claims = models.PositiveIntegerField(default=0, db_default=0)
    next_at = models.DateTimeField()  # while pending: when it is due
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()  # of the event
    replayed_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="one_delivery_per_event_endpoint"),
        ]
        indexes = [
            # sending.claim: what is due at an endpoint, the longest waiting first
            models.Index(fields=["endpoint", "next_at"], name="webhook_due", condition=Q(status=PENDING)),
            # purge
            models.Index(fields=["finished_at"], name="webhook_finished", condition=~Q(status=PENDING)),
            # admin: those of an endpoint, newest first
            models.Index(fields=["endpoint", "id"], name="webhook_endpoint"),
        ]

    def __str__(self) -> str:
        return f"delivery {self.pk}"


class WebhookAttempt(models.Model):
    """One request to an endpoint. What it answered is not kept: it may hold anything."""

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="+", db_index=False)
    number = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField()
    seconds = models.FloatField()
    http_status = models.PositiveSmallIntegerField(null=True)
    error_code = models.CharField(max_length=60, blank=True, db_default="")  # empty: delivered

    class Meta:
        indexes = [
            # API: those of an endpoint, newest first
            models.Index(fields=["endpoint", "id"], name="webhook_attempts"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.pk}"


class WebhookReplay(models.Model):
    """Everything of a time once more, worked through in groups."""

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="replays")
    since = models.DateTimeField()
    until = models.DateTimeField()
    failed_only = models.BooleanField(default=False)  # not what was delivered or is still being tried
    cursor = models.UUIDField(null=True)  # the last event that was looked at
    found = models.PositiveIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # replays.step
            models.Index(fields=["id"], name="webhook_replay_open", condition=Q(finished_at=None)),
        ]

    def __str__(self) -> str:
        return f"replay {self.pk}"
