"""What a profile would send, while it is being edited: measured in every language, and its odds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from messaging import texts as templates
from messaging.errors import InvalidRequest
from messaging.models import Client
from routing.encoding import measure
from verification import codes, texts
from verification.admin import odds
from verification.challenges import template_of
from verification.profiles import Policy

# As long as they usually are: what a preview counts with.
SAMPLES = {"amount": "1250.00", "currency": "EUR", "payee": "Payee of 20 letters."}


@dataclass(frozen=True, slots=True)
class Preview:
    """One language: the text with zeros in place of the code, or why there is none."""

    locale: str
    text: str = ""
    encoding: str = ""
    units: int = 0
    segments: int = 0
    problems: tuple[str, ...] = ()
    fault: str = ""


def policy_from(cleaned: Mapping[str, Any]) -> Policy:
    """What is right in the form so far; the default for the rest."""
    known = {field.name: cleaned[field.name] for field in fields(Policy) if cleaned.get(field.name) is not None}
    for name in ("cooldowns", "context_fields"):
        if name in known:
            known[name] = tuple(known[name])
    if not known.get("cooldowns"):
        known.pop("cooldowns", None)
    return Policy(**known)


def sample_context(policy: Policy) -> dict[str, str]:
    return {name: SAMPLES[name] for name in policy.context_fields}


def locales(client: Client | None, policy: Policy) -> list[str]:
    slug = client.slug if client else ""
    return templates.locales(client=slug, name=template_of(policy, sample_context(policy)))


def previews(client: Client | None, policy: Policy) -> list[Preview]:
    """In every locale that the template has; one with a fault where there is no such template."""
    slug = client.slug if client else ""
    return [_preview(slug, policy, locale) for locale in locales(client, policy) or [templates.DEFAULT_LOCALE]]


def _preview(client: str, policy: Policy, locale: str) -> Preview:
    try:
        text = texts.compose(
            client=client,
            template=template_of(policy, sample_context(policy)),
            locale=locale,
            minutes=-(-policy.ttl_seconds // 60),
            context=sample_context(policy),
            app_hash=policy.app_hash,
            webotp_host=policy.webotp_host,
        )
    except InvalidRequest as refusal:
        return Preview(locale, fault=" ".join(f"{error.field}: {error.message}" for error in refusal.errors))
    sample = texts.sample(text, policy.code_length)
    encoding = measure(sample)
    return Preview(
        locale=locale,
        text=sample,
        encoding={"gsm7": "GSM-7", "ucs2": "UCS-2"}[encoding.name],
        units=encoding.units,
        segments=encoding.segments,
        problems=tuple(texts.problems(sample, policy.app_hash)),
    )


def context(client: Client | None, policy: Policy) -> dict[str, Any]:
    return {
        "odds": odds.words(policy),
        "risky": policy.odds > codes.ODDS_LIMIT and not policy.accept_risk,
        "sampled": bool(policy.context_fields),
        "limit": codes.ODDS_LIMIT,
        "previews": previews(client, policy),
    }
