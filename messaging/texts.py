"""Templates: which text a name stands for, and its {parameters} filled in."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from messaging.errors import FieldError, InvalidRequest
from messaging.models import Template
from providers.snapshots import Snapshot

PARAMETER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
DEFAULT_LOCALE = "en"
STRAY_BRACE = "Braces stand around a parameter only: {name}, in small letters, digits and _."


def _load() -> Mapping[tuple[str, str, str], str]:
    """(client slug or "", name, locale) -> text."""
    found = Template.objects.values_list("client__slug", "name", "locale", "text")
    return {(client or "", name, _tag(locale)): text for client, name, locale, text in found}


edited: Snapshot[Mapping[tuple[str, str, str], str]] = Snapshot(("templates",), _load)


@lru_cache(maxsize=1024)
def shipped(name: str, locale: str) -> str | None:
    """A text that comes with the code: templates/messages/<name>/<locale>.txt, the locale in lower case."""
    path = Path(settings.BASE_DIR) / "templates" / "messages" / name / f"{locale}.txt"
    return path.read_text(encoding="utf-8").rstrip("\n") if path.is_file() else None


def render(*, client: str, name: str, locale: str, params: Mapping[str, str]) -> str:
    """The client's own text wins over everybody's, and both over the shipped one; pt-BR falls back to pt, then to en.

    Raises InvalidRequest for an unknown template, a missing and an unknown parameter.
    """
    text = _find(client, name, locale)[1]
    if text is None:
        raise InvalidRequest(errors=(FieldError("template", "unknown_template", "There is no such template."),))
    needed = set(PARAMETER.findall(text))
    errors = [
        FieldError(f"params.{missing}", "missing_parameter", "The template needs this parameter.")
        for missing in sorted(needed - params.keys())
    ]
    errors += [
        FieldError(f"params.{extra}", "unknown_parameter", "The template has no such parameter.")
        for extra in sorted(params.keys() - needed)
    ]
    if errors:
        raise InvalidRequest(errors=tuple(errors))
    # Values are put in as they are: a brace in a value is never read as a parameter.
    return PARAMETER.sub(lambda match: params[match[1]], text)


def locale_of(*, client: str, name: str, locale: str) -> str:
    """The locale, in lower case, of the text that `render` takes; empty where there is no such template."""
    return _find(client, name, locale)[0]


def locales(*, client: str, name: str) -> list[str]:
    """Every locale that this client has a text of this name in: edited ones, and shipped ones."""
    found = {tag for (owner, template, tag) in edited.get() if template == name and owner in ("", client)}
    folder = Path(settings.BASE_DIR) / "templates" / "messages" / name
    return sorted(found | {path.stem for path in folder.glob("*.txt")})


def has_stray_brace(text: str) -> bool:
    """A mistyped parameter such as {Name} or {name would go out to people as it stands."""
    return not set("{}").isdisjoint(PARAMETER.sub("", text))


def _find(client: str, name: str, locale: str) -> tuple[str, str | None]:
    table = edited.get()
    wanted = _tag(locale)
    for tag in dict.fromkeys((wanted, wanted.partition("-")[0], DEFAULT_LOCALE)):
        if not tag:
            continue
        text = table.get((client, name, tag)) or table.get(("", name, tag)) or shipped(name, tag)
        if text is not None:
            return tag, text
    return "", None


def _tag(locale: str) -> str:
    """Language tags are the same in any case (RFC 5646, section 2.1.1)."""
    return locale.replace("_", "-").lower()
