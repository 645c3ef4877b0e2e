"""What staff decide about destinations, and what the fraud rules count, block and refuse."""

from enum import StrEnum

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from messaging.models import E164, Client, choices
from routing.models import COUNTRY

CURRENCY = RegexValidator(r"^[A-Z]{3}\Z", "Three capital letters (ISO 4217).")


class Mode(StrEnum):
    """Of a country."""

    FILTER = "filter"  #: limits and fraud rules refuse
    ALLOW = "allow"  #: limits refuse; velocity and ratio do not
    MONITOR = "monitor"  #: what would be refused is noted and let through
    BLOCK = "block"  #: nothing is sent


class BlockKind(StrEnum):
    NUMBER = "number"
    PREFIX = "prefix"  #: ten thousand neighbours
    IP = "ip"  #: a /24 or a /64
    DEVICE = "device"  #: as one client names it


class CountryRule(models.Model):
    """How starts to a country are judged, and what a client may spend on it in a day. A client's own row wins."""

    client = models.ForeignKey(
        Client,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="country_rules",
        help_text="Empty: every client that has no row of its own for the country.",
    )
    country = models.CharField(max_length=2, validators=[COUNTRY])
    mode = models.CharField(
        max_length=7,
        choices=choices(Mode),
        default=Mode.FILTER,
        help_text="filter: limits and fraud rules refuse. allow: limits refuse, fraud rules do not. "
        "monitor: both are noted only. block: nothing is sent.",
    )
    daily_cap = models.DecimalField(
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="What one client may spend on codes to the country in a UTC day. Empty: VERIFY_DAILY_CAP.",
    )
    currency = models.CharField(max_length=3, blank=True, validators=[CURRENCY], help_text="Of the cap.")

    class Meta:
        ordering = ["country", "client"]
        constraints = [
            models.UniqueConstraint(
                fields=["client", "country"], name="one_rule_per_client_country", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=Q(daily_cap=None) | (Q(daily_cap__gte=0) & ~Q(currency="")),
                name="cap_has_currency",
                violation_error_message="A cap is not below zero, and has a currency.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.country}: {self.mode}"


class Block(models.Model):
    """Nothing is sent to, or asked for from, what `kind` and `value` name, until it expires or staff lift it."""

    kind = models.CharField(max_length=6, choices=choices(BlockKind))
    value = models.CharField(max_length=120)  # as limits.py names it
    client = models.ForeignKey(
        Client, null=True, blank=True, on_delete=models.CASCADE, related_name="+", help_text="Empty: for all clients."
    )
    reason = models.CharField(max_length=200)
    by_rule = models.BooleanField(default=False, db_default=False)  # else by a person
    level = models.PositiveSmallIntegerField(default=0, db_default=0)  # how often a rule has doubled its time
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until it is lifted.")
    lifted_at = models.DateTimeField(null=True)
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )

    class Meta:
        indexes = [
            # evidence.read: what holds now, and what a rule has blocked before
            models.Index(fields=["kind", "value", "created_at"], name="block_value"),
        ]

    def __str__(self) -> str:
        return f"block {self.pk}"


class TrustedNumber(models.Model):
    """A number that limits, velocity and ratio do not stop. Its wrong guesses count like anybody's."""

    msisdn = models.CharField("number", max_length=16, validators=[E164])
    client = models.ForeignKey(
        Client, null=True, blank=True, on_delete=models.CASCADE, related_name="+", help_text="Empty: for all clients."
    )
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until it is deleted.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["msisdn", "client"], name="trusted_once", nulls_distinct=False),
        ]

    def __str__(self) -> str:
        return f"trusted number {self.pk}"


class StartCount(models.Model):
    """How many started in an hour or a UTC day, and how many of those were verified (evidence.py)."""

    kind = models.CharField(max_length=7)  # country | prefix | ip
    value = models.CharField(max_length=50, blank=True)
    country = models.CharField(max_length=2)
    span = models.PositiveIntegerField()  # seconds
    at = models.DateTimeField()  # the window's begin
    # A busy window has several rows, so that parallel starts and checks do not queue for one.
    shard = models.PositiveSmallIntegerField()
    starts = models.PositiveIntegerField()
    verified = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "value", "country", "span", "at", "shard"], name="one_count_per_window"
            )
        ]
        indexes = [
            # maintenance.purge
            models.Index(fields=["at"], name="start_count_at"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.country}: {self.verified} of {self.starts}"


class Refused(models.Model):
    """A start or a resend that a rule or a limit stopped; or would have, where it only monitors."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="+")
    purpose = models.CharField(max_length=40)
    reference = models.CharField(max_length=22, blank=True, db_default="")  # of the challenge, at a resend
    to = models.CharField(max_length=16)
    country = models.CharField(max_length=2)
    rule = models.CharField(max_length=20)
    detail = models.CharField(max_length=200)
    monitored = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "refusal"
        indexes = [
            # maintenance.purge; admin: how far back to look
            models.Index(fields=["created_at"], name="refused_at"),
            # support: by number, newest first
            models.Index(fields=["to", "id"], name="refused_to"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.pk}"
