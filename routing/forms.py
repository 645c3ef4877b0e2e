"""The forms of an import: the upload, what the columns mean, and what is confirmed before others are asked."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.conf import settings
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from providers.models import Provider
from routing.import_models import PriceImport, PriceMapping
from routing.imports import flow, mapping
from routing.imports.mapping import Mapping
from routing.imports.sheets import DELIMITERS, ENCODINGS, Form

EXTENT = {"full": "the whole list", "partial": "some changes"}
EXTENT_HELP = "What is not in a whole list loses its price; with some changes, all else stays as it is."


def _choice(choices: Any, label: str, **kwargs: Any) -> forms.ChoiceField:
    return forms.ChoiceField(choices=choices, label=label, widget=UnfoldAdminSelectWidget, **kwargs)


def _text(label: str, **kwargs: Any) -> forms.CharField:
    return forms.CharField(label=label, required=False, widget=UnfoldAdminTextInputWidget, **kwargs)


def _extent() -> forms.ChoiceField:
    return forms.ChoiceField(
        label="The file is",
        choices=list(EXTENT.items()),
        initial="full",
        widget=UnfoldAdminRadioSelectWidget,
        help_text=EXTENT_HELP,
    )


class UploadForm(forms.Form):
    provider = forms.ModelChoiceField(Provider.objects.order_by("slug"), widget=UnfoldAdminSelectWidget)
    file = forms.FileField(
        label="Price list", widget=UnfoldAdminFileFieldWidget, help_text="CSV in any encoding, Excel (.xlsx) or JSON."
    )
    extent = _extent()
    saved = forms.ModelChoiceField(
        PriceMapping.objects.select_related("provider").order_by("name"),
        label="Mapping",
        required=False,
        widget=UnfoldAdminSelectWidget,
        empty_label="guess it from the file",
        help_text="What the columns mean. A saved mapping skips that step.",
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > settings.PRICE_IMPORT_MB * 2**20:
            raise forms.ValidationError(f"At most {settings.PRICE_IMPORT_MB} MB: cut the file.")
        return file

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        saved, provider = found.get("saved"), found.get("provider")
        if saved and provider and saved.provider_id not in (None, provider.pk):
            self.add_error("saved", f"This mapping is for {saved.provider} only.")
        return found


class MappingForm(forms.Form):
    """Which column means what, and how values are written. `columns` are the file's."""

    only_words = _text("... that contain", help_text="One of these words, with commas between.")
    currency = _text("Currency of the file", max_length=3, help_text="ISO 4217, like EUR, where no column has it.")
    divisor = forms.TypedChoiceField(
        label="Prices are in", choices=list(mapping.DIVISORS.items()), coerce=int, widget=UnfoldAdminSelectWidget
    )
    charged = _choice(list(mapping.CHARGED.items()), "The price is charged")
    decimal = _choice(list(mapping.DECIMALS.items()), "Decimal sign")
    dates = _choice(list(mapping.DATES.items()), "Dates like 5/6/2026")
    repeats = _choice(list(mapping.REPEATS.items()), "Several prices for one place are")
    pad_mnc = forms.BooleanField(
        label="Leading zeros are lost: an MNC 1 is 01", required=False, widget=UnfoldBooleanSwitchWidget
    )
    extent = _extent()
    effective_at = forms.DateTimeField(
        label="In force from (UTC)",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="Empty: as soon as it is approved.",
    )
    outlier_percent = forms.IntegerField(
        label="A change looks wrong above, %", min_value=1, max_value=10_000, widget=UnfoldAdminIntegerFieldWidget
    )
    save_as = _text("Save this mapping as", max_length=80, help_text="So that the next file needs no questions.")
    shared = forms.BooleanField(label="... for all providers", required=False, widget=UnfoldBooleanSwitchWidget)

    def __init__(self, found: PriceImport, *args: Any, **kwargs: Any) -> None:
        self.columns: list[str] = found.head.get("columns", [])
        self._known = Mapping.from_json(found.mapping)
        kwargs.setdefault("initial", self._initial(found))
        super().__init__(*args, **kwargs)
        choices = [("", "(none)"), *((name, name) for name in self.columns)]
        for field, (label, hint) in mapping.COLUMNS.items():
            self.fields[field] = _choice(choices, label, required=False, help_text=hint)

    def _initial(self, found: PriceImport) -> dict[str, Any]:
        at = found.effective_at
        return {
            **self._known.to_json(),
            "extent": "partial" if found.partial else "full",
            "effective_at": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M}" if at else "",
            "outlier_percent": found.outlier_percent,
        }

    def column_fields(self) -> Iterator[forms.BoundField]:
        return (self[name] for name in (*mapping.COLUMNS, "only_words"))

    def value_fields(self) -> Iterator[forms.BoundField]:
        names = ("currency", "divisor", "charged", "decimal", "dates", "repeats", "pad_mnc")
        return (self[name] for name in names)

    def list_fields(self) -> Iterator[forms.BoundField]:
        return (self[name] for name in ("extent", "effective_at", "outlier_percent", "save_as", "shared"))

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).strip().upper()

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if not self.errors:
            for problem in mapping.problems(self.mapping(), self.columns):
                self.add_error(None, problem)
        return found

    def mapping(self) -> Mapping:
        named = {field.name for field in fields(Mapping)} & set(self.cleaned_data)
        return Mapping.from_json({**self._known.to_json(), **{name: self.cleaned_data[name] for name in named}})

    @property
    def effective(self) -> datetime | None:
        at: datetime | None = self.cleaned_data["effective_at"]
        return at

    def save_mapping(self, provider: Provider) -> None:
        """Under its name, in the place of one that had it."""
        if name := self.cleaned_data["save_as"].strip():
            owner = None if self.cleaned_data["shared"] else provider
            PriceMapping.objects.update_or_create(
                name=name, provider=owner, defaults={"mapping": self.mapping().to_json()}
            )


class FormForm(forms.Form):
    """How the file is written, where that was guessed wrong: the columns are read anew."""

    encoding = _choice(list(ENCODINGS.items()), "Encoding")
    delimiter = _choice(list(DELIMITERS.items()), "Separator")
    header = forms.IntegerField(
        label="Line with the names of the columns", min_value=1, max_value=60, widget=UnfoldAdminIntegerFieldWidget
    )

    def form(self, kind: str) -> Form:
        given = self.cleaned_data
        return Form(kind, given["encoding"], given["delimiter"], given["header"])


class SubmitForm(forms.Form):
    """Everything that looks wrong is confirmed by itself."""

    def __init__(self, found: PriceImport, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind, words in flow.ACCEPTED.items():
            if count := found.counts.get(kind):
                self.fields[kind] = forms.BooleanField(
                    label=f"{words} ({count:,})", required=False, widget=UnfoldBooleanSwitchWidget
                )

    @property
    def accepted(self) -> set[str]:
        return {name for name, value in self.cleaned_data.items() if value}
