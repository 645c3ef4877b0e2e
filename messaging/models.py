"""Clients and their messages; every attempt, receipt and event of each.

Where `db_constraint=False` stands, PostgreSQL would lock the same row of a client or a provider for every row that is
written, at a tenth of what a message costs it: these two are never deleted, in the admin they have no such button.
"""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

import uuid_utils.compat
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from messaging.moves import MessageQuerySet
from messaging.states import AttemptStatus, MessageClass, Status
from messaging.tally import Tally, TallyDelta  # noqa: F401  Django looks for models here
from messaging.webhook_models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookReplay  # noqa: F401
from providers.models import Provider
from routing import encoding

SCOPES = ("send", "otp", "read", "webhooks")
E164 = RegexValidator(r"^\+[1-9][0-9]{6,14}\Z", "E.164 with the plus.")


def uuid7() -> uuid.UUID:
    """RFC 9562 version 7: ordered by time, so new rows land at one end of every index."""
    return uuid_utils.compat.uuid7()


def rfc3339(moment: datetime) -> str:
    """In UTC, to the millisecond: as answers and events tell a time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def choices(words: Iterable[str]) -> list[tuple[str, str]]:
    return [(str(word), str(word)) for word in words]


class Client(models.Model):
    """A backend service that sends."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=40, unique=True, help_text="Its name in rules and provisioning. Fixed.")
    name = models.CharField(max_length=80)
    enabled = models.BooleanField(default=True)
    scopes = ArrayField(
        models.CharField(max_length=10, choices=choices(SCOPES)), default=list, help_text="What its keys may be given."
    )
    sender = models.CharField(max_length=20, blank=True, help_text="The sender where a message names none.")
    rate_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Messages per second that are accepted at most. No limit when empty.",
    )
    daily_quota = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Messages per day (UTC) that are accepted at most. No limit when empty.",
    )
    transliteration = models.CharField(
        max_length=12,
        blank=True,
        default="typographic",
        db_default="typographic",
        choices=[(word, word) for word in encoding.LEVELS],
        help_text="What may be written otherwise where a text then needs fewer segments: typographic quotes and "
        "dashes, Cyrillic letters as well, or nothing when empty.",
    )
    kafka_enabled = models.BooleanField(
        "Kafka", default=False, db_default=False, help_text="May send commands to the topic, under its slug as source."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Usage(models.Model):
    """What was handed out of a client's limit in the current window (quotas.py)."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="+", db_index=False)
    span = models.PositiveIntegerField()  # seconds of the window
    period = models.BigIntegerField()  # its number: epoch seconds / span
    used = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client", "span"], name="one_usage_per_client_span")]

    def __str__(self) -> str:
        return f"{self.client_id} {self.span} s: {self.used}"


class ApiKey(models.Model):
    """`mx_live_<id>_<secret>`: the secret is shown once and only its SHA-256 is kept."""

    id = models.CharField(max_length=12, primary_key=True, editable=False)
    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="api_keys")
    secret_hash = models.BinaryField(max_length=32, editable=False)
    scopes = ArrayField(models.CharField(max_length=10, choices=choices(SCOPES)), default=list)
    cidrs = ArrayField(
        models.CharField(max_length=43),
        default=list,
        blank=True,
        help_text="Networks it may be used from. Any when empty.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)  # to the minute
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"mx_live_{self.id}_…"


class Message(models.Model):
    """One SMS that a client asked for."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    client = models.ForeignKey(
        Client, on_delete=models.PROTECT, related_name="messages", db_index=False, db_constraint=False
    )
    status = models.CharField(max_length=12, choices=choices(Status))
    message_class = models.CharField("class", max_length=14, choices=choices(MessageClass))
    to = models.CharField(max_length=16, validators=[E164])
    country = models.CharField(max_length=2)
    sender = models.CharField(max_length=20, blank=True, db_default="")
    text = models.TextField()  # with a renderer: a template, of which only the worker knows the whole
    renderer = models.CharField(max_length=20, blank=True, db_default="")
    encoding = models.CharField(max_length=4)
    segments = models.PositiveSmallIntegerField()
    template = models.CharField(max_length=60, blank=True, db_default="")
    locale = models.CharField(max_length=20, blank=True, db_default="")
    reference = models.CharField(max_length=100, blank=True, db_default="")
    metadata = models.JSONField(default=dict, db_default={})
    estimated_cost = models.DecimalField(max_digits=14, decimal_places=6, null=True)
    currency = models.CharField(max_length=3, blank=True, db_default="")
    max_price = models.DecimalField(max_digits=12, decimal_places=6, null=True)  # of all of it, in REPORTING_CURRENCY
    mcc = models.CharField("MCC", max_length=3, blank=True, db_default="")  # empty while the network is not known
    mnc = models.CharField("MNC", max_length=3, blank=True, db_default="")

    send_at = models.DateTimeField(null=True)  # not to be sent before, as the client asked
    not_before = models.DateTimeField()  # when it is due, while queued or scheduled
    expires_at = models.DateTimeField()  # never sent later than this
    # Seconds without a receipt after which the next provider sends it too; null: never.
    failover_after = models.PositiveSmallIntegerField(null=True)
    lease_until = models.DateTimeField(null=True)  # while sending: when its worker counts as gone
    attempt_count = models.PositiveSmallIntegerField(default=0, db_default=0)
    spent = models.PositiveSmallIntegerField(default=0, db_default=0)  # of the attempts allowance
    rounds = models.PositiveSmallIntegerField(default=0, db_default=0)  # how often every provider was tried in vain
    tried = ArrayField(models.BigIntegerField(), default=list, db_default=[])  # providers of this round
    barred = ArrayField(models.BigIntegerField(), default=list, db_default=[])  # providers that refused it for good
    decision = models.JSONField(default=list, db_default=[])  # the last routing decision: candidates, prices, reasons

    error_code = models.CharField(max_length=60, blank=True, db_default="")
    possible_duplicate = models.BooleanField(default=False, db_default=False)
    receipt_overdue = models.BooleanField(default=False, db_default=False)
    sequence = models.PositiveIntegerField(default=0, db_default=0)  # of its events
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        permissions = [
            ("view_full_number", "Can see whole phone numbers"),
            ("view_text", "Can see texts (never those of class otp)"),
            ("decide_held", "Can decide what becomes of held messages"),
        ]
        indexes = [
            # delivery.claim: what is due in a lane, the longest waiting first
            models.Index(fields=["message_class", "not_before"], name="message_due", condition=Q(status="queued")),
            # sweeper: leases that ran out
            models.Index(fields=["lease_until"], name="message_lease", condition=Q(status="sending")),
            # sweeper: scheduled messages whose time has come
            models.Index(fields=["not_before"], name="message_scheduled", condition=Q(status="scheduled")),
            # sweeper: deadlines of what has not left
            models.Index(fields=["expires_at"], name="message_expiry", condition=Q(status__in=["queued", "scheduled"])),
            # sweeper: sent, and no receipt in time
            models.Index(
                fields=["sent_at"],
                name="message_unheard",
                condition=Q(status="sent", failover_after__isnull=False),
            ),
            # sweeper: sent and never heard of again
            models.Index(fields=["sent_at"], name="message_silent", condition=Q(status="sent", receipt_overdue=False)),
            # admin: what needs a person; sweeper: unknown for too long
            models.Index(fields=["status", "id"], name="message_doubtful", condition=Q(status__in=["unknown", "held"])),
            # API and admin: a client's messages, newest first (ids are ordered by time)
            models.Index(fields=["client", "id"], name="message_client"),
            # API: by the caller's own reference
            models.Index(fields=["client", "reference"], name="message_reference", condition=~Q(reference="")),
            # API and support: by number
            models.Index(fields=["to", "id"], name="message_to"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Attempt(models.Model):
    """One submit of a message to one provider. The open one is the fence: who does not hold it cannot write."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    seq = models.PositiveSmallIntegerField()
    provider = models.ForeignKey(
        Provider, on_delete=models.PROTECT, related_name="attempts", db_index=False, db_constraint=False
    )
    our_reference = models.UUIDField(unique=True)  # 128 random bits
    sender = models.CharField(max_length=40, blank=True, db_default="")  # as posted: a re-post has the same bytes
    status = models.CharField(max_length=12, choices=choices(AttemptStatus))
    error_code = models.CharField(max_length=60, blank=True, db_default="")
    error_detail = models.CharField(max_length=200, blank=True, db_default="")
    provider_reference = models.CharField(max_length=100, blank=True, db_default="")
    price = models.DecimalField(max_digits=12, decimal_places=6, null=True)  # per segment, by our book
    price_delivered = models.DecimalField(max_digits=12, decimal_places=6, default=0, db_default=0)  # ... of it, then
    # Of the whole, once it was taken or may have been; the provider's word wins over our book.
    cost = models.DecimalField(max_digits=14, decimal_places=6, null=True)
    currency = models.CharField(max_length=3, blank=True, db_default="")
    segments = models.PositiveSmallIntegerField()
    receipt_status = models.CharField(max_length=12, blank=True, db_default="")
    receipt_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    resolve_at = models.DateTimeField(null=True)  # while unknown: when reconcile looks at it next
    resolve_lease_until = models.DateTimeField(null=True)  # in the past: when it was last asked for in vain
    not_found = models.PositiveSmallIntegerField(default=0, db_default=0)  # look-ups in a row that did not find it

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["message", "seq"], name="attempt_seq"),
            models.UniqueConstraint(
                fields=["message"], condition=Q(status__in=["intent", "unknown"]), name="one_open_attempt"
            ),
            models.UniqueConstraint(
                fields=["message"], condition=Q(status__in=["accepted", "delivered"]), name="one_success"
            ),
        ]
        indexes = [
            # receipts: matched by the provider's own id. Not unique: a vendor's mistake must not stop a settle.
            models.Index(
                fields=["provider", "provider_reference"],
                name="attempt_provider_reference",
                condition=~Q(provider_reference=""),
            ),
            # reconcile: what is to be looked at
            models.Index(fields=["resolve_at"], name="attempt_resolve", condition=Q(status="unknown")),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} #{self.seq}"


class Receipt(models.Model):
    """A provider's later word about an attempt, as it came in: redacted, and in our words."""

    provider = models.ForeignKey(
        Provider, on_delete=models.PROTECT, related_name="receipts", db_index=False, db_constraint=False
    )
    attempt = models.ForeignKey(Attempt, null=True, on_delete=models.CASCADE, related_name="receipts")
    dedupe_key = models.BinaryField(max_length=32, unique=True)
    our_reference = models.UUIDField(null=True)
    provider_reference = models.CharField(max_length=100, blank=True, db_default="")
    status = models.CharField(max_length=12)
    provider_status = models.CharField(max_length=60, blank=True, db_default="")
    error_code = models.CharField(max_length=60, blank=True, db_default="")
    opted_out = models.BooleanField(default=False)
    cost = models.DecimalField(max_digits=14, decimal_places=6, null=True)
    currency = models.CharField(max_length=3, blank=True, db_default="")
    segments = models.PositiveSmallIntegerField(null=True)
    mcc = models.CharField("MCC", max_length=3, blank=True, db_default="")
    mnc = models.CharField("MNC", max_length=3, blank=True, db_default="")
    occurred_at = models.DateTimeField(null=True)
    received_at = models.DateTimeField()
    raw = models.JSONField(default=dict)
    applied_at = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    apply_at = models.DateTimeField()

    class Meta:
        indexes = [
            # receipts.apply_due
            models.Index(fields=["apply_at"], name="receipt_due", condition=Q(applied_at=None)),
            # settle: receipts that came before the outcome
            models.Index(fields=["our_reference"], name="receipt_early", condition=Q(applied_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.provider_id} {self.status}"


class Event(models.Model):
    """The outbox: written in the transaction of the change it tells of."""

    id = models.UUIDField(primary_key=True, editable=False)
    type = models.CharField(max_length=40)
    subject = models.CharField(max_length=64)
    sequence = models.PositiveIntegerField()
    client = models.ForeignKey(Client, null=True, on_delete=models.CASCADE, db_index=False, db_constraint=False)
    data = models.JSONField()
    created_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True)  # or refused: the relay is done with it
    refusal = models.CharField("Kafka's refusal", max_length=40, blank=True, default="", db_default="")
    fan_out = models.BooleanField(default=False, db_default=False)  # to be made deliveries of (webhooks)

    class Meta:
        indexes = [
            # relay: what is not out yet. Never "id > last seen": ids commit out of order.
            models.Index(fields=["id"], name="event_unpublished", condition=Q(published_at=None)),
            # webhooks: what is not fanned out yet
            models.Index(fields=["id"], name="event_unfanned", condition=Q(fan_out=True)),
            # metrics, admin: what Kafka did not take
            models.Index(fields=["id"], name="event_refused", condition=~Q(refusal="")),
        ]
        constraints = [
            # relay: the event before; admin: the timeline of one subject
            models.UniqueConstraint(fields=["subject", "sequence"], name="one_event_per_sequence"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.subject}"


class DeadLetter(models.Model):
    """A record of the commands topic that was not carried out, with the reason."""

    topic = models.CharField(max_length=249)
    partition = models.PositiveIntegerField()
    offset = models.BigIntegerField()
    produced_at = models.DateTimeField()
    key = models.BinaryField(null=True)
    raw = models.BinaryField(null=True)  # null: a tombstone
    truncated = models.BooleanField(default=False)  # `raw` and `key` are kept up to a limit
    headers = models.JSONField(default=dict)
    client = models.ForeignKey(Client, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    reason = models.CharField(max_length=60)
    detail = models.CharField(max_length=300, blank=True)
    received_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True)  # to the topic of dead letters, or refused there
    refusal = models.CharField("Kafka's refusal", max_length=40, blank=True, default="", db_default="")
    replayed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            # `produced_at` too: the offsets of a topic that is made anew begin again.
            models.UniqueConstraint(
                fields=["topic", "partition", "offset", "produced_at"], name="one_dead_letter_per_record"
            )
        ]
        indexes = [
            # relay: what is not out yet
            models.Index(fields=["id"], name="dead_letter_unpublished", condition=Q(published_at=None)),
            # home page, metrics: how many wait for a person
            models.Index(fields=["id"], name="dead_letter_open", condition=Q(replayed_at=None)),
            # dead_letters.purge
            models.Index(fields=["received_at"], name="dead_letter_age"),
            # metrics: what Kafka did not take
            models.Index(fields=["id"], name="dead_letter_refused", condition=~Q(refusal="")),
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.partition}/{self.offset}"


class KafkaProcess(models.Model):
    """A relay or a bridge, as it last told of itself (heartbeats.py)."""

    id = models.UUIDField(primary_key=True, editable=False)
    role = models.CharField(max_length=10)
    host = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    state = models.CharField(max_length=20)  # leads, stands by, reads, waits
    detail = models.CharField(max_length=200, blank=True)  # what is in its way
    partitions = ArrayField(models.IntegerField(), default=list)
    waiting = models.BigIntegerField(null=True)  # commands in its partitions that are not taken yet

    class Meta:
        verbose_name = "relay or bridge"
        verbose_name_plural = "relays and bridges"

    def __str__(self) -> str:
        return f"{self.role} {self.host}/{self.pid}"


class IdempotencyKey(models.Model):
    """The first answer to a request, replayed for every repeat of it."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, db_index=False, db_constraint=False)
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    expires_at = models.DateTimeField(db_index=True)  # sweeper: purge

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client", "key"], name="one_idempotency_key_per_client")]

    def __str__(self) -> str:
        return self.key


class Template(models.Model):
    """A text with {parameters}. A client's own wins over everybody's, and both over the shipped file."""

    client = models.ForeignKey(Client, null=True, blank=True, on_delete=models.CASCADE, related_name="templates")
    name = models.SlugField(max_length=60)
    locale = models.CharField(max_length=20, default="en")
    text = models.TextField(help_text="{name} stands for the parameter of that name.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["client", "name", "locale"], name="one_template_per_client_name_locale", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.locale})"


class Suppression(models.Model):
    """A number that must not be written to: by everybody, or by one client."""

    msisdn = models.CharField(max_length=16, validators=[E164])
    client = models.ForeignKey(Client, null=True, blank=True, on_delete=models.CASCADE, related_name="suppressions")
    reason = models.CharField(max_length=60)
    source = models.CharField(max_length=60, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["msisdn", "client"], name="one_suppression_per_number_client", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"suppression {self.pk}"
