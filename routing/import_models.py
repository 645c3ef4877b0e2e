"""A price list on its way from a provider's file to a book: the upload, how it is read, and what it would change."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from providers.models import Provider


class PriceMapping(models.Model):
    """How files of one form are read: which column means what (imports/mapping.py). Without a provider: for all."""

    name = models.CharField(max_length=80)
    provider = models.ForeignKey(Provider, null=True, blank=True, on_delete=models.CASCADE, related_name="mappings")
    mapping = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["name", "provider"], name="one_mapping_per_name", nulls_distinct=False)
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.provider or 'all providers'})"


class PriceImport(models.Model):
    """One file. What waits for the import process has a status of WORK; what waits for a person one of WAITING."""

    class Status(models.TextChoices):
        UPLOADED = "uploaded"  #: its columns are being looked at
        MAPPING = "mapping"  #: a person says what the columns mean
        READING = "reading"  #: rows are read and compared
        READY = "ready"  #: the changes are there to be looked at
        WRITING = "writing"  #: the book is being written, so that its approval takes no time
        SUBMITTED = "submitted"  #: a second person is asked
        APPLIED = "applied"  #: the book is active from its start on
        ROLLED_BACK = "rolled_back"
        CANCELLED = "cancelled"
        FAILED = "failed"  #: `fault` says why

    WORK = (Status.UPLOADED, Status.READING, Status.WRITING)
    WAITING = (Status.MAPPING, Status.READY, Status.SUBMITTED)

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="price_imports")
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.UPLOADED)
    file_name = models.CharField(max_length=120)
    size = models.PositiveIntegerField(help_text="bytes")
    partial = models.BooleanField(default=False)  # only these rows change; else what the file lacks is removed
    mapping = models.JSONField(default=dict, blank=True)
    head = models.JSONField(default=dict, blank=True)  # columns and first rows, to choose a mapping by
    effective_at = models.DateTimeField(null=True, blank=True)  # empty: as soon as it is approved
    outlier_percent = models.PositiveIntegerField(
        "outlier above, %", default=50, validators=[MinValueValidator(1), MaxValueValidator(10_000)]
    )
    counts = models.JSONField(default=dict, blank=True)
    step = models.CharField(max_length=40, blank=True)  # what the import process is doing, for people
    done = models.PositiveIntegerField(default=0)  # rows, of `total`
    total = models.PositiveIntegerField(default=0)
    tries = models.PositiveSmallIntegerField(default=0)  # how often a process took the step up
    fault = models.TextField(blank=True)
    base = models.ForeignKey(
        "routing.PriceList", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )  # the book it was compared with
    book = models.ForeignKey(
        "routing.PriceList", null=True, blank=True, on_delete=models.PROTECT, related_name="price_imports"
    )  # what it proposes, and what came of it
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    # Everybody who had a hand in it, the uploader first: none of them approves.
    editors = models.JSONField(default=list, blank=True)
    submitted_at = models.DateTimeField(null=True, blank=True)
    # Who approved it, sent it back, or rolled it back.
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)  # why it was sent back
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        permissions = [("approve_pricelist", "Can approve price lists that others prepared, and roll back")]
        indexes = [
            # the import process looks for work
            models.Index(
                fields=["id"], name="price_import_work", condition=Q(status__in=["uploaded", "reading", "writing"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.file_name} ({self.provider})"


class PriceFile(models.Model):
    """The file as it came. Apart, so that nobody reads it by accident; in the database, where every process sees it."""

    price_import = models.OneToOneField(
        PriceImport, on_delete=models.CASCADE, primary_key=True, related_name="original"
    )
    content = models.BinaryField()

    def __str__(self) -> str:
        return f"file of import {self.pk}"


class Change(models.TextChoices):
    """What a row does to the book in force."""

    NEW = "new"
    UP = "up"
    DOWN = "down"
    TERMS = "terms", "other terms"  #: the same total in another currency or split
    SAME = "unchanged"
    REMOVED = "removed"  #: in the book in force, not in the file


class StagedPrice(models.Model):
    """One price that a file would bring, beside the one that it replaces. Written by COPY, compared by SQL."""

    price_import = models.ForeignKey(PriceImport, on_delete=models.CASCADE, related_name="staged", db_index=False)
    line = models.PositiveIntegerField()  # 0: removed, so in no line
    place = models.CharField(max_length=16)  # what a price is found by: n255-01, p38067, m255, cUA
    country = models.CharField(max_length=2)
    mcc = models.CharField("MCC", max_length=3)
    mnc = models.CharField("MNC", max_length=3)
    prefix = models.CharField(max_length=15)
    price = models.DecimalField("price on submit", max_digits=12, decimal_places=6)
    price_delivered = models.DecimalField("price on delivery", max_digits=12, decimal_places=6)
    currency = models.CharField(max_length=3)
    valid_from = models.DateTimeField(null=True)
    valid_to = models.DateTimeField(null=True)
    change = models.CharField(max_length=10, choices=Change.choices, blank=True)
    old_price = models.DecimalField(max_digits=13, decimal_places=6, null=True)  # submit + delivery
    old_currency = models.CharField(max_length=3, blank=True)
    percent = models.DecimalField(max_digits=16, decimal_places=2, null=True)  # of change; null: it cannot be said
    outlier = models.CharField(max_length=80, blank=True)  # why it looks wrong
    weight = models.DecimalField(max_digits=16, decimal_places=2, default=0)  # the page's order: biggest change first

    class Meta:
        indexes = [
            # the page of changes, biggest first, all or of one kind; finding duplicates
            models.Index(fields=["price_import", "-weight", "id"], name="staged_by_weight"),
            models.Index(fields=["price_import", "change", "-weight", "id"], name="staged_by_change"),
            models.Index(fields=["price_import", "place"], name="staged_by_place"),
            models.Index(fields=["price_import", "-weight", "id"], name="staged_outliers", condition=~Q(outlier="")),
        ]

    def __str__(self) -> str:
        return f"{self.country} {self.place} {self.price + self.price_delivered} {self.currency}"


class LeftOut(models.Model):
    """A row of the file that gave no price, and why: none is lost in silence."""

    class Kind(models.TextChoices):
        ERROR = "error"  #: it means something, and cannot be understood
        SKIPPED = "skipped"  #: it means nothing here: another direction, over already
        MERGED = "merged"  #: another row of the same place counts

    price_import = models.ForeignKey(PriceImport, on_delete=models.CASCADE, related_name="left_out", db_index=False)
    line = models.PositiveIntegerField()
    kind = models.CharField(max_length=8, choices=Kind.choices)
    column = models.CharField(max_length=80, blank=True)
    value = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=200)

    class Meta:
        indexes = [
            # the page of bad rows
            models.Index(fields=["price_import", "kind", "line"], name="left_out_by_line"),
        ]

    def __str__(self) -> str:
        return f"line {self.line}: {self.column} {self.value!r}: {self.reason}"
