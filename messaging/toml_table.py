"""A TOML table read strictly: types, forms and unknown keys, each mistake with its place; `env:NAME` for any string."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlsplit

import phonenumbers

SLUG = re.compile(r"[A-Za-z0-9_-]{1,40}")

T = TypeVar("T")


class Table:
    """One TOML table. A read that fails is noted and gives None; what was never read is unknown."""

    def __init__(self, data: dict[str, Any], place: str, problems: list[str], environ: Mapping[str, str]) -> None:
        self.data = data
        self.place = place
        self._problems = problems
        self._environ = environ
        self._known: set[str] = set()

    def wrong(self, key: str, problem: str) -> None:
        self._problems.append(f"{'.'.join(filter(None, (self.place, key)))}: {problem}")

    def finish(self) -> None:
        for key in sorted(self.data.keys() - self._known):
            self.wrong(key, "there is no such key")

    def string(
        self,
        key: str,
        pattern: re.Pattern[str] | None = None,
        hint: str = "",
        *,
        required: bool = False,
        blank: bool = False,
        secret: bool = False,
        longest: int = 500,
    ) -> str | None:
        value = self._get(key, str, "a string in quotes", required)
        if value is None:
            return None
        shown = "" if secret else f", it is {value!r}"
        if value.startswith("env:"):
            name = value.removeprefix("env:")
            value = self._environ.get(name, "")
            if not value:
                self.wrong(key, f"the environment variable {name} is not set")
                return None
        if not value and not blank:
            self.wrong(key, "must not be empty")
        elif len(value) > longest:
            self.wrong(key, f"must have at most {longest} characters")
        elif not _storable(value):
            self.wrong(key, "has a character that cannot be stored")
        elif pattern and value and not pattern.fullmatch(value):
            self.wrong(key, f"must be {hint}{shown}")
        else:
            return value
        return None

    def choice(self, key: str, allowed: Sequence[str], *, required: bool = False, blank: bool = False) -> str | None:
        pattern = re.compile("|".join(map(re.escape, allowed)))
        return self.string(key, pattern, f"one of {', '.join(allowed)}", required=required, blank=blank)

    def network(self) -> tuple[str, str]:
        mcc = self.string("mcc", re.compile("[0-9]{3}"), "three digits", blank=True) or ""
        mnc = self.string("mnc", re.compile("[0-9]{2,3}"), "two or three digits", blank=True) or ""
        if mnc and not mcc:
            self.wrong("mnc", "needs mcc beside it")
        return mcc, mnc

    def amount(self, key: str, pattern: re.Pattern[str], hint: str, *, required: bool = False) -> Decimal | None:
        value = self.string(key, pattern, hint, required=required)
        return None if value is None else Decimal(value)

    def country(self, key: str, *, required: bool = True) -> str:
        value = self.string(key, required=required)
        if value is not None and value not in phonenumbers.SUPPORTED_REGIONS:
            self.wrong(key, "must be a country with phone numbers, by ISO 3166-1 alpha-2: UA, GB, ...")
            return ""
        return value or ""

    def currency(self) -> str:
        return self.string("currency", re.compile("[A-Z]{3}"), "three capital letters (ISO 4217)", required=True) or ""

    def url(self, key: str, *, required: bool = False) -> str | None:
        value = self.string(key, required=required, blank=not required, longest=200)
        if not value:
            return value
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            good = False
        if not good or any(character.isspace() for character in value):
            self.wrong(key, "must be an address with http:// or https://")
            return None
        return value

    def boolean(self, key: str) -> bool | None:
        return self._get(key, bool, "true or false")

    def time_of_day(self, key: str) -> time | None:
        return self._get(key, time, "a time of day without quotes, like 22:00:00")

    def moment(self, key: str) -> datetime | None:
        hint = "a date and time with its offset, without quotes, like 2030-01-31T00:00:00Z"
        value: datetime | None = self._get(key, datetime, hint)
        if value is not None and value.tzinfo is None:
            self.wrong(key, f"must be {hint}")
            return None
        return value

    def number(self, key: str, kind: type[T], least: int, most: int) -> T | None:
        hint = f"a {'whole ' if kind is int else ''}number from {least} to {most}"
        value = self._get(key, (int, float) if kind is float else int, hint)
        if value is None or isinstance(value, bool) or not least <= value <= most:
            if value is not None:
                self.wrong(key, f"must be {hint}")
            return None
        return kind(value)  # type: ignore[call-arg]

    def words(self, key: str, allowed: Callable[[str], Any], hint: str, *, required: bool = False) -> list[str] | None:
        value = self._get(key, list, "a list of strings", required)
        if value is None:
            return None
        for word in value:
            if not isinstance(word, str) or not allowed(word):
                self.wrong(key, f"each must be {hint}")
                return None
        return list(dict.fromkeys(value))

    def numbers(self, key: str, least: int, most: int, *, longest: int) -> list[int] | None:
        hint = f"one to {longest} whole numbers from {least} to {most}"
        value = self._get(key, list, hint)
        if value is None:
            return None
        good = [number for number in value if type(number) is int and least <= number <= most]
        if len(good) != len(value) or not 1 <= len(value) <= longest:
            self.wrong(key, f"must be {hint}")
            return None
        return good

    def table(self, key: str) -> "Table":
        return self._child(self._get(key, dict, "a table") or {}, key)

    def tables(self, key: str) -> list["Table"]:
        value = self._get(key, list, "a list of tables") or []
        found = []
        for number, data in enumerate(value, start=1):
            if not isinstance(data, dict):
                self.wrong(f"{key}[{number}]", "must be a table")
                continue
            slug = data.get("slug")
            name = slug if isinstance(slug, str) and SLUG.fullmatch(slug) else number
            found.append(self._child(data, f"{key}[{name}]"))
        return found

    def _child(self, data: dict[str, Any], key: str) -> "Table":
        place = f"{self.place}.{key}" if self.place else key
        return Table(data, place, self._problems, self._environ)

    def _get(self, key: str, kind: Any, hint: str, required: bool = False) -> Any:
        self._known.add(key)
        value = self.data.get(key)
        if value is None:
            if required:
                self.wrong(key, "is missing")
        elif not isinstance(value, kind):
            self.wrong(key, f"must be {hint}")
        else:
            return value
        return None


def _storable(value: str) -> bool:
    try:
        return b"\x00" not in value.encode()
    except UnicodeEncodeError:
        return False
