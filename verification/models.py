"""Challenges, the profiles they are started by, and what is counted and refused."""

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from messaging.models import E164, Attempt, Client, Message, choices, uuid7
from routing.models import COUNTRY
from routing.numbers import NumberType
from verification import codes
from verification.fraud_models import (  # noqa: F401  Django looks for models here
    Block,
    CountryRule,
    Refused,
    StartCount,
    TrustedNumber,
)
from verification.states import ChallengeStatus

PURPOSE = RegexValidator(r"^[a-z][a-z0-9_]{0,39}\Z", "Small letters, digits and _, at most 40.")
CONTEXT_FIELDS = ("amount", "currency", "payee")
NUMBER_TYPES = (NumberType.MOBILE, NumberType.FIXED_LINE_OR_MOBILE, NumberType.UNKNOWN)
HOST = RegexValidator(r"^(?=.{1,100}\Z)[a-z0-9-]+(\.[a-z0-9-]+)+\Z", "A host like app.example.com.")
APP_HASH = RegexValidator(r"^[A-Za-z0-9+/]{11}\Z", "The 11 characters of the app's hash.")


def default_cooldowns() -> list[int]:
    return [30, 60, 120, 240]


def default_number_types() -> list[str]:
    return [str(kind) for kind in NUMBER_TYPES]


def _between(least: int, most: int) -> list[MinValueValidator | MaxValueValidator]:
    return [MinValueValidator(least), MaxValueValidator(most)]


class Profile(models.Model):
    """How a client verifies for one purpose. Without a row of its own the defaults hold (profiles.py)."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="profiles")
    purpose = models.CharField(max_length=40, validators=[PURPOSE], help_text="What for: login, signup, payment, ...")
    name = models.CharField(
        max_length=40,
        blank=True,
        validators=[PURPOSE],
        help_text="For starts that name it as their profile. Empty: for all others.",
    )
    enabled = models.BooleanField(default=True, help_text="Off: nothing can be started for this purpose.")
    code_length = models.PositiveSmallIntegerField(default=6, validators=_between(codes.SHORTEST, codes.LONGEST))
    ttl_seconds = models.PositiveSmallIntegerField(
        "lifetime", default=300, validators=_between(30, 600), help_text="Seconds, at most 600 (NIST SP 800-63B)."
    )
    max_checks = models.PositiveSmallIntegerField(
        default=5, validators=_between(1, 10), help_text="Wrong guesses that lock a challenge; a resend adds none."
    )
    max_sends = models.PositiveSmallIntegerField(default=5, validators=_between(1, 10))
    cooldowns = ArrayField(
        models.PositiveSmallIntegerField(validators=_between(1, 600)),
        default=default_cooldowns,
        help_text="Seconds from one send to the next; the last one repeats.",
    )
    receipt_wait_seconds = models.PositiveSmallIntegerField(
        "failover without a receipt",
        null=True,
        blank=True,
        default=20,
        validators=_between(3, 300),
        help_text="Seconds without a receipt until the next provider sends the same challenge. Never, when empty.",
    )
    template = models.SlugField(max_length=60, blank=True, help_text="Empty: code, or code_payment with a payee.")
    locale = models.CharField(max_length=20, blank=True, help_text="Where neither request nor number tell one.")
    sender = models.CharField(max_length=20, blank=True, help_text="Empty: the client's.")
    countries = ArrayField(
        models.CharField(max_length=2, validators=[COUNTRY]),
        default=list,
        blank=True,
        help_text="Countries that may be sent to. Every one with a price, when empty.",
    )
    number_types = ArrayField(
        models.CharField(max_length=20, choices=choices(NumberType)), default=default_number_types
    )
    code_per_attempt = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Every attempt has a code of its own, and the last three are right: tells which provider's arrived.",
    )
    context_fields = ArrayField(
        models.CharField(max_length=10, choices=choices(CONTEXT_FIELDS)),
        default=list,
        blank=True,
        help_text="What a start must name, a check must repeat and the text shows (PSD2 RTS, article 5).",
    )
    webotp_host = models.CharField("WebOTP host", max_length=100, blank=True, validators=[HOST])
    app_hash = models.CharField("Android app hash", max_length=11, blank=True, validators=[APP_HASH])
    monitor_only = models.BooleanField(
        default=False, db_default=False, help_text="Limits and fraud rules are noted, and refuse nothing."
    )
    accept_risk = models.BooleanField(
        default=False,
        db_default=False,
        help_text=f"Needed where a code is guessed with a chance above {codes.ODDS_LIMIT} in a million.",
    )

    class Meta:
        ordering = ["client", "purpose", "name"]
        constraints = [
            models.UniqueConstraint(fields=["client", "purpose", "name"], name="one_profile_per_client_purpose_name"),
            models.CheckConstraint(
                condition=Q(code_length__range=(codes.SHORTEST, codes.LONGEST)), name="profile_code_length"
            ),
            models.CheckConstraint(condition=Q(ttl_seconds__range=(30, 600)), name="profile_lifetime"),
            models.CheckConstraint(
                condition=Q(max_checks__range=(1, 10), max_sends__range=(1, 10)), name="profile_counts"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.name}".rstrip()


class Challenge(models.Model):
    """One person asked to prove that they hold one phone. Its code is not here: see codes.py."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    reference = models.CharField(max_length=22)  # 128 random bits, for outside
    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="challenges", db_index=False)
    purpose = models.CharField(max_length=40)
    profile = models.CharField(max_length=40, blank=True, db_default="")
    to = models.CharField(max_length=16, validators=[E164])
    country = models.CharField(max_length=2)
    locale = models.CharField(max_length=20)
    status = models.CharField(max_length=10, choices=choices(ChallengeStatus))
    reason = models.CharField(max_length=40, blank=True, db_default="")  # of a cancellation
    context = models.JSONField(default=dict, db_default={})
    ip = models.GenericIPAddressField(null=True)  # of the person, as the client said
    device = models.CharField(max_length=100, blank=True, db_default="")

    seed = models.BinaryField(max_length=32, null=True)  # wiped when it closes
    kid = models.PositiveIntegerField()
    code_length = models.PositiveSmallIntegerField()
    code_per_attempt = models.BooleanField(default=False)
    generation = models.PositiveSmallIntegerField(default=0, db_default=0)  # allotted so far, with a code per attempt
    verified_generation = models.PositiveSmallIntegerField(null=True)
    checks = models.PositiveSmallIntegerField(default=0, db_default=0)
    max_checks = models.PositiveSmallIntegerField()
    sends = models.PositiveSmallIntegerField(default=1, db_default=1)
    max_sends = models.PositiveSmallIntegerField()

    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    resend_at = models.DateTimeField()
    verified_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    # Of the check that succeeded: its repeat under the same Idempotency-Key is answered the same.
    checked_by = models.BinaryField(max_length=32, null=True)
    token_salt = models.BinaryField(max_length=16, null=True)
    token_expires_at = models.DateTimeField(null=True)
    redeemed_at = models.DateTimeField(null=True)
    redeemed_by = models.ForeignKey(Client, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    counted_at = models.DateTimeField(null=True)  # its conversion is in the figures

    class Meta:
        permissions = [("cancel_challenge", "Can cancel challenges")]
        constraints = [
            models.UniqueConstraint(fields=["reference"], name="one_challenge_per_reference"),
            # A newer start closes the older one, however many come at once.
            models.UniqueConstraint(
                fields=["client", "purpose", "to"], condition=Q(status="pending"), name="one_pending_challenge"
            ),
            models.CheckConstraint(condition=Q(checks__lte=F("max_checks")), name="no_check_beyond_the_last"),
            models.CheckConstraint(condition=Q(status="pending") | Q(seed=None), name="closed_has_no_seed"),
        ]
        indexes = [
            # maintenance.expire
            models.Index(fields=["expires_at"], name="challenge_expiry", condition=Q(status="pending")),
            # conversions.count
            models.Index(
                fields=["closed_at"],
                name="challenge_uncounted",
                condition=Q(counted_at=None) & ~Q(status="pending"),
            ),
            # maintenance.purge
            models.Index(fields=["closed_at"], name="challenge_closed"),
            # support: by number, newest first
            models.Index(fields=["to", "id"], name="challenge_to"),
        ]

    def __str__(self) -> str:
        return f"challenge {self.reference}"


class CodeMessage(models.Model):
    """A start or a resend: the message that carries a challenge's code."""

    message = models.OneToOneField(Message, primary_key=True, on_delete=models.CASCADE, related_name="code")
    challenge = models.ForeignKey(Challenge, on_delete=models.CASCADE, related_name="messages", db_index=False)
    seq = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            # also: the messages of a challenge
            models.UniqueConstraint(fields=["challenge", "seq"], name="code_message_seq")
        ]

    def __str__(self) -> str:
        return f"{self.challenge_id} #{self.seq}"


class CodeAttempt(models.Model):
    """With a code per attempt: which generation an attempt carried. No digits."""

    attempt = models.OneToOneField(Attempt, primary_key=True, on_delete=models.CASCADE, related_name="code")
    challenge = models.ForeignKey(Challenge, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    generation = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            # also: the codes of a challenge
            models.UniqueConstraint(fields=["challenge", "generation"], name="one_attempt_per_generation")
        ]

    def __str__(self) -> str:
        return f"{self.challenge_id} generation {self.generation}"


class Bucket(models.Model):
    """How much of a limit is used up: `n` of `most` until `until`, then it begins anew (limits.py)."""

    kind = models.CharField(max_length=20)
    value = models.CharField(max_length=120)
    span = models.PositiveIntegerField()  # seconds
    n = models.DecimalField(max_digits=20, decimal_places=6)
    most = models.DecimalField(max_digits=20, decimal_places=6)
    until = models.DateTimeField()

    class Meta:
        verbose_name = "counter"
        constraints = [models.UniqueConstraint(fields=["kind", "value", "span"], name="one_bucket_per_limit")]
        indexes = [
            # maintenance.purge
            models.Index(fields=["until"], name="bucket_until"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.n} of {self.most}"


#: Upper ends of the buckets of `Hour.times`, in seconds from the start to the right code; the last has no end.
TIMES = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)


class Hour(models.Model):
    """What became of the challenges that began in one hour (conversions.py). Closed ones only."""

    hour = models.DateTimeField()
    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="+", db_index=False)
    country = models.CharField(max_length=2)
    purpose = models.CharField(max_length=40)
    starts = models.PositiveIntegerField()
    sends = models.PositiveIntegerField()
    delivered = models.PositiveIntegerField()  # challenges of which a message arrived
    verified = models.PositiveIntegerField()
    expired = models.PositiveIntegerField()
    locked = models.PositiveIntegerField()
    cancelled = models.PositiveIntegerField()
    superseded = models.PositiveIntegerField()  # by a newer start: the same person asked again
    wrong = models.PositiveIntegerField(default=0, db_default=0)  # guesses
    cost = models.DecimalField(max_digits=20, decimal_places=6)  # in REPORTING_CURRENCY
    unpriced = models.PositiveIntegerField()  # attempts whose cost is not in it: no exchange rate
    times = ArrayField(models.PositiveIntegerField())  # of the verified ones, by bucket of TIMES

    class Meta:
        constraints = [
            # count finds its row, readers and purge the hours of a time
            models.UniqueConstraint(fields=["hour", "client", "country", "purpose"], name="one_hour_per_key")
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.country} {self.purpose} {self.verified} of {self.starts}"
