"""What staff prefer, which senders are registered, and which networks numbers belong to: models of the order."""

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from providers.models import Provider

COUNTRY = RegexValidator(r"^[A-Z]{2}\Z", "Two capital letters (ISO 3166-1 alpha-2).")
MCC = RegexValidator(r"^[0-9]{3}\Z", "Three digits.")
MNC = RegexValidator(r"^[0-9]{2,3}\Z", "Two or three digits: 01, 1 and 001 are different networks.")
PREFIX = RegexValidator(r"^[1-9][0-9]{0,14}\Z", "Leading digits of the number, country code included.")
CLASSES = [(word, word) for word in ("otp", "transactional", "bulk")]


class Rule(models.Model):
    """What staff decide beside the price. An empty condition means: any. All rules that match count (rules.py)."""

    class Action(models.TextChoices):
        PIN = "pin", "pin: nobody else may carry it"
        BAR = "bar", "bar: it may not carry it"
        PREFER = "prefer", "prefer: it comes first"
        WEIGHT = "weight", "weight: it gets this share of the first places"
        CEILING = "ceiling", "ceiling: not at a higher price"

    name = models.CharField(max_length=80, unique=True)
    enabled = models.BooleanField(default=True)
    action = models.CharField(max_length=10, choices=Action.choices)
    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.CASCADE, related_name="rules", help_text="All when empty."
    )
    weight = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Its share among the weights that match: 70 beside 30 is 70 %."
    )
    ceiling = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="The most that a segment may cost, in the reporting currency.",
    )
    client = models.SlugField(max_length=40, blank=True, help_text="The slug of a client.")
    message_class = models.CharField("class", max_length=14, blank=True, choices=CLASSES)
    country = models.CharField(max_length=2, blank=True, validators=[COUNTRY])
    mcc = models.CharField("MCC", max_length=3, blank=True, validators=[MCC])
    mnc = models.CharField("MNC", max_length=3, blank=True, validators=[MNC])
    sender = models.CharField(max_length=20, blank=True, help_text="The sender of the message or of its client.")
    begins = models.TimeField(null=True, blank=True, help_text="Time of day (UTC) from which it holds.")
    ends = models.TimeField(null=True, blank=True, help_text="... and until which; before its begin: over midnight.")

    class Meta:
        verbose_name = "routing rule"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(action="ceiling") | Q(provider__isnull=False),
                name="rule_names_a_provider",
                violation_error_message="Only a ceiling may be for all providers.",
            ),
            models.CheckConstraint(
                condition=~Q(action="weight") | Q(weight__gt=0, weight__isnull=False),
                name="weight_rule_has_a_weight",
                violation_error_message="A weight above zero is needed.",
            ),
            models.CheckConstraint(
                condition=~Q(action="ceiling") | Q(ceiling__isnull=False),
                name="ceiling_rule_has_a_ceiling",
                violation_error_message="A ceiling is needed.",
            ),
            models.CheckConstraint(
                condition=Q(mnc="") | ~Q(mcc=""),
                name="rule_mnc_needs_mcc",
                violation_error_message="An MNC needs its MCC.",
            ),
            models.CheckConstraint(
                condition=Q(begins__isnull=True, ends__isnull=True)
                | (Q(begins__isnull=False, ends__isnull=False) & ~Q(begins=F("ends"))),
                name="rule_hours_begin_and_end",
                violation_error_message="A begin and another time as end are needed, or neither.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class SenderRegistration(models.Model):
    """A sender ID as a provider may use it in a country. With one there, only registered senders go that way."""

    class State(models.TextChoices):
        PENDING = "pending"
        APPROVED = "approved"
        REJECTED = "rejected"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="sender_registrations")
    country = models.CharField(max_length=2, validators=[COUNTRY])
    sender = models.CharField(max_length=40)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Never when empty.")
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["provider", "country", "sender"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "country", "sender"], name="one_registration_per_provider_country_sender"
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.country} {self.sender}"


class Network(models.Model):
    """The name of a mobile network. Shared MCCs have it once per country."""

    mcc = models.CharField("MCC", max_length=3, validators=[MCC])
    mnc = models.CharField("MNC", max_length=3, validators=[MNC])
    country = models.CharField(max_length=2, validators=[COUNTRY])
    name = models.CharField(max_length=120)

    class Meta:
        ordering = ["mcc", "mnc", "country"]
        constraints = [models.UniqueConstraint(fields=["mcc", "mnc", "country"], name="one_network_per_country")]

    def __str__(self) -> str:
        return f"{self.mcc}-{self.mnc} {self.name}"


class NetworkPrefix(models.Model):
    """Numbers that begin like this were given to this network. The longest one that fits counts."""

    prefix = models.CharField(max_length=15, unique=True, validators=[PREFIX])
    mcc = models.CharField("MCC", max_length=3, validators=[MCC])
    mnc = models.CharField("MNC", max_length=3, validators=[MNC])
    source = models.CharField(max_length=60)

    class Meta:
        verbose_name_plural = "network prefixes"
        ordering = ["prefix"]

    def __str__(self) -> str:
        return f"{self.prefix} {self.mcc}-{self.mnc}"


class NetworkSighting(models.Model):
    """Where a provider has seen a number: it wins over the prefix while it is young. No number is here, only a key."""

    key = models.BinaryField(max_length=16, unique=True)  # networks.key
    mcc = models.CharField("MCC", max_length=3)
    mnc = models.CharField("MNC", max_length=3)
    seen_at = models.DateTimeField(db_index=True)  # networks.purge

    def __str__(self) -> str:
        return f"{self.mcc}-{self.mnc} {self.seen_at:%Y-%m-%d}"
