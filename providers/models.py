"""Provider accounts, and what the fleet knows about each: its health and how fast it may be used."""

from collections.abc import Iterator, Mapping

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from providers.adapters import ADAPTERS, adapter_class
from providers.adapters.base import Adapter, Resolve
from providers.credentials import ring, under_newest_key
from providers.types import Account

# Hosts without a dot are right inside a private network, which URLField refuses.
BASE_URL = RegexValidator(r"^https?://[^\s/?#@]+(/[^\s?#]*)?\Z", "An http or https address without a query.")


def adapter_choices() -> list[tuple[str, str]]:
    return [(slug, adapter_class(slug).name) for slug in ADAPTERS]


class Provider(models.Model):
    """One account at one vendor."""

    slug = models.SlugField(max_length=40, unique=True, help_text="Its name in the API, in events and in rules. Fixed.")
    name = models.CharField(max_length=80)
    adapter = models.CharField(max_length=40, choices=adapter_choices)
    base_url = models.CharField(
        max_length=200, blank=True, validators=[BASE_URL], help_text="The vendor's own address when empty."
    )
    sender = models.CharField(
        max_length=40, blank=True, help_text="What the handset shows where neither message nor client names a sender."
    )
    credentials = models.TextField(editable=False, blank=True)  # encrypted, bound to the slug
    enabled = models.BooleanField(default=True)
    rate = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(100_000)],
        help_text="Messages per second that the whole fleet may offer. No limit when empty.",
    )
    resolve = models.CharField(
        max_length=10,
        blank=True,
        choices=[(word.value, word.value) for word in Resolve],
        help_text="What settles a lost answer here, as measured, where it differs from the adapter's own.",
    )
    lag = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(86_400)],
        help_text="Seconds until its look-up surely shows an accepted submit, as measured.",
    )
    balance_floor = models.DecimalField(
        max_digits=14,
        decimal_places=4,
        null=True,
        blank=True,
        help_text="Nothing is sent by it while its account holds less, in the account's currency. Never when empty.",
    )
    balance_warning = models.DecimalField(
        max_digits=14, decimal_places=4, null=True, blank=True, help_text="Staff are warned below it."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    def set_credentials(self, values: Mapping[str, str]) -> None:
        self.credentials = ring().encrypt(values, bound_to=f"provider:{self.slug}")

    def read_credentials(self) -> dict[str, str]:
        """Raises providers.credentials.CredentialsError."""
        return ring().decrypt(self.credentials, bound_to=f"provider:{self.slug}") if self.credentials else {}

    def build_adapter(self) -> Adapter:
        account = Account(self.slug, self.base_url.rstrip("/"), self.read_credentials())
        return adapter_class(self.adapter)(account)


def encrypt_anew() -> Iterator[str]:
    """Brings all credentials under the newest of CREDENTIALS_KEYS; names each provider. Raises CredentialsError."""
    found = Provider.objects.exclude(credentials="")
    return under_newest_key(found, "credentials", lambda row: row.set_credentials(row.read_credentials()), str)


class ProviderHealth(models.Model):
    """One breaker: of a provider as a whole (country empty), or of a provider in one country."""

    class State(models.TextChoices):
        CLOSED = "closed"
        OPEN = "open"
        HALF_OPEN = "half_open"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="health")
    country = models.CharField(max_length=2, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.CLOSED)
    failures = models.PositiveIntegerField(default=0)  # in a row
    window_start = models.DateTimeField(null=True)  # counts below are since then
    window_total = models.PositiveIntegerField(default=0)
    window_failed = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=80, blank=True)
    opened_at = models.DateTimeField(null=True)
    openings = models.PositiveIntegerField(default=0)  # without a success in between: the pause doubles
    probe_at = models.DateTimeField(null=True)  # when the next single message may try
    panic_at = models.DateTimeField(null=True)  # ... and when it may where every provider's breaker is open
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "provider health"
        constraints = [models.UniqueConstraint(fields=["provider", "country"], name="one_breaker_per_provider_country")]

    def __str__(self) -> str:
        return f"{self.provider_id} {self.country or '*'} {self.state}"


class ProviderThroughput(models.Model):
    """The fleet's shared rate of one provider (GCRA: `tat` is the theoretical arrival time of the next message)."""

    provider = models.OneToOneField(Provider, on_delete=models.CASCADE, primary_key=True, related_name="throughput")
    tat = models.DateTimeField(null=True)
    horizons = models.JSONField(default=dict)  # lane -> epoch seconds up to which waiting messages were spread
    paused_until = models.DateTimeField(null=True)  # the provider said 429
    slowdown = models.PositiveSmallIntegerField(default=0)  # the rate is halved this many times

    class Meta:
        verbose_name_plural = "provider throughput"
        constraints = [models.CheckConstraint(condition=Q(slowdown__lte=6), name="slowdown_at_most_64_times")]

    def __str__(self) -> str:
        return f"{self.provider_id}"


class ProviderBalance(models.Model):
    """What was left on the account when it was last asked (balances.py)."""

    provider = models.OneToOneField(Provider, on_delete=models.CASCADE, primary_key=True, related_name="balance")
    amount = models.DecimalField(max_digits=18, decimal_places=6, null=True)
    currency = models.CharField(max_length=3, blank=True)
    fetched_at = models.DateTimeField(null=True)
    fault = models.CharField(max_length=80, blank=True)  # of the last question
    asked_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.provider_id} {self.amount} {self.currency}"

    @property
    def closes(self) -> bool:
        """Its provider carries nothing: less is left than staff want to be left."""
        floor = self.provider.balance_floor
        return floor is not None and self.amount is not None and self.amount < floor

    @property
    def warns(self) -> bool:
        below = self.provider.balance_warning
        return below is not None and self.amount is not None and self.amount < below


class Version(models.Model):
    """Raised by triggers whenever a table behind an in-memory snapshot changes."""

    topic = models.CharField(max_length=20, primary_key=True)
    version = models.BigIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.topic} {self.version}"
