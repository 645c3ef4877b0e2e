"""Price lists, and the exchange rates that make prices comparable."""

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeOperators
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Func, Q
from django.db.models import Value as V
from django.db.models.functions import Concat

from providers.models import Provider
from routing.import_models import (  # noqa: F401  Django looks for models here
    LeftOut,
    PriceFile,
    PriceImport,
    PriceMapping,
    StagedPrice,
)

COUNTRY = RegexValidator(r"^[A-Z]{2}\Z", "Two capital letters (ISO 3166-1 alpha-2).")
CURRENCY = RegexValidator(r"^[A-Z]{3}\Z", "Three capital letters (ISO 4217).")
DIGITS = RegexValidator(r"^[0-9]*\Z", "Digits only.")


class PriceList(models.Model):
    """One complete book of a provider. In force at T: the active one with the greatest `valid_from` <= T."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        PROPOSED = "proposed"  #: what an import would bring in force; nobody changes it
        ACTIVE = "active"
        RETIRED = "retired"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="price_lists")
    name = models.CharField(max_length=80)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.DRAFT)
    valid_from = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    # Ids of everybody who made or changed it: none of them activates it (books.py).
    editors = models.JSONField(default=list, blank=True, editable=False)

    class Meta:
        ordering = ["provider", "-valid_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "valid_from"],
                condition=Q(status="active"),
                name="one_active_list_per_provider_and_start",
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.name}"


class Price(models.Model):
    """The price of one segment. Empty mcc, mnc and prefix mean: the whole country."""

    price_list = models.ForeignKey(PriceList, on_delete=models.CASCADE, related_name="prices")
    country = models.CharField(max_length=2, validators=[COUNTRY])
    mcc = models.CharField("MCC", max_length=3, blank=True, validators=[DIGITS])
    mnc = models.CharField("MNC", max_length=3, blank=True, validators=[DIGITS])
    prefix = models.CharField(
        max_length=15, blank=True, validators=[DIGITS], help_text="Leading digits of the number, country code included."
    )
    price = models.DecimalField(
        "price on submit", max_digits=12, decimal_places=6, validators=[MinValueValidator(0)], default=0
    )
    price_delivered = models.DecimalField(
        "price on delivery", max_digits=12, decimal_places=6, validators=[MinValueValidator(0)], default=0
    )
    currency = models.CharField(max_length=3, validators=[CURRENCY])
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_to = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["country", "mcc", "mnc", "prefix"]
        constraints = [
            ExclusionConstraint(
                name="one_price_at_a_time",
                violation_error_message="The list has a price for this place and time already.",
                expressions=[
                    # One number for list, country, MCC, MNC and prefix: a GiST index of five columns takes four times
                    # as long to write. Two places with one number (in 2^64) would be refused, never let through.
                    (
                        Func(
                            Concat("country", V("."), "mcc", V("."), "mnc", V("."), "prefix"),
                            F("price_list"),
                            function="hashtextextended",
                            output_field=models.BigIntegerField(),
                        ),
                        RangeOperators.EQUAL,
                    ),
                    (Func(F("valid_from"), F("valid_to"), function="tstzrange"), RangeOperators.OVERLAPS),
                ],
            ),
            models.CheckConstraint(
                condition=Q(price__gte=0) & Q(price_delivered__gte=0), name="prices_are_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(mnc="") | ~Q(mcc=""), name="mnc_needs_mcc", violation_error_message="An MNC needs its MCC."
            ),
            models.CheckConstraint(
                condition=Q(prefix="") | Q(mcc=""),
                name="prefix_or_mcc",
                violation_error_message="A prefix and an MCC exclude each other.",
            ),
        ]

    def __str__(self) -> str:
        where = self.prefix or f"{self.mcc}{self.mnc}" or "*"
        return f"{self.country} {where} {self.price + self.price_delivered} {self.currency}"


class ExchangeRate(models.Model):
    """How much of `currency` one unit of REPORTING_CURRENCY buys, from that moment on (the form the ECB uses)."""

    currency = models.CharField(max_length=3, validators=[CURRENCY])
    rate = models.DecimalField(max_digits=18, decimal_places=8, validators=[MinValueValidator(0)])
    valid_from = models.DateTimeField()

    class Meta:
        ordering = ["currency", "-valid_from"]
        constraints = [
            models.UniqueConstraint(fields=["currency", "valid_from"], name="one_rate_per_currency_and_start"),
            models.CheckConstraint(
                condition=Q(rate__gt=0), name="rate_above_zero", violation_error_message="The rate must be above zero."
            ),
        ]

    def __str__(self) -> str:
        return f"{self.currency} {self.rate}"


class Quality(models.Model):
    """What became of the messages that a provider was handed in one hour, by where they went (quality.py)."""

    hour = models.DateTimeField()
    message_class = models.CharField("class", max_length=14)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="quality", db_index=False)
    country = models.CharField(max_length=2)
    mcc = models.CharField("MCC", max_length=3, blank=True)  # empty while the network is unknown
    mnc = models.CharField("MNC", max_length=3, blank=True)
    attempts = models.PositiveIntegerField()  # handed over, or perhaps
    delivered = models.PositiveIntegerField()
    converted = models.PositiveIntegerField()  # the person did what the message was for
    unattributed = models.PositiveIntegerField()  # so did this person, by this message or by another provider's

    class Meta:
        verbose_name_plural = "quality"
        constraints = [
            # record finds its row, readers and purge the hours of a time
            models.UniqueConstraint(
                fields=["hour", "message_class", "provider", "country", "mcc", "mnc"], name="one_quality_per_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.provider_id} {self.country} {self.converted} of {self.attempts}"


from routing.order_models import (  # noqa: E402, F401  Django looks for models here
    Network,
    NetworkPrefix,
    NetworkSighting,
    Rule,
    SenderRegistration,
)
