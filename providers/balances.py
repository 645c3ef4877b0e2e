"""What is left on the accounts: asked every BALANCE_PAUSE seconds where an adapter can ask. Nobody waits for it.

The sweeper's leader calls `watch` every few seconds: it writes the answers that have come since and sends the
questions that are due. What it finds closes a provider below its floor (routing) and warns before.
"""

import logging
from collections import deque

from django.conf import settings
from django.utils import timezone

from providers.adapters.base import UNREADABLE, Adapter
from providers.models import Provider, ProviderBalance
from providers.sql import now
from providers.transport import Call, Result, boottime, transport
from providers.types import Balance, HttpResponse

log = logging.getLogger(__name__)

Key = tuple[int, Adapter]
_answers: deque[tuple[Key, Result]] = deque()


def watch() -> None:
    while _answers:
        (provider_id, adapter), result = _answers.popleft()
        record(provider_id, read(adapter, result))
    calls = [((provider.pk, adapter), call) for provider in _due() for adapter, call in _question(provider)]
    if calls:
        transport().offer(calls, lambda key, result: _answers.append((key, result)))


def read(adapter: Adapter, result: Result) -> Balance | str:
    """The balance, or a word for why it could not be had."""
    if not isinstance(result, HttpResponse):
        return getattr(result, "code", "not_sent")
    if not 200 <= result.status < 300:
        return f"http_{result.status}"
    try:
        return adapter.read_balance(result)
    except UNREADABLE:
        return "unreadable_answer"


def record(provider_id: int, found: Balance | str) -> None:
    """Writes it down; says so once when it falls below what staff have set."""
    provider = Provider.objects.get(pk=provider_id)
    before = ProviderBalance.objects.select_related("provider").get(provider=provider)
    if isinstance(found, str):
        ProviderBalance.objects.filter(provider=provider).update(fault=found[:80])
        log.warning("a balance could not be read", extra={"provider": provider.slug, "code": found})
        return
    after = ProviderBalance(provider=provider, amount=found.amount, currency=found.currency)
    changed = {"amount": found.amount} if (before.amount, before.currency) != (found.amount, found.currency) else {}
    ProviderBalance.objects.filter(provider=provider).update(
        currency=found.currency, fetched_at=timezone.now(), fault="", **changed
    )
    facts = {"provider": provider.slug}
    if after.closes and not before.closes:
        log.error("balance below its floor: nothing is sent by this provider", extra=facts)
    elif after.warns and not before.warns:
        log.warning("balance is low", extra=facts)
    elif before.closes and not after.closes:
        log.info("balance is above its floor again", extra=facts)


def _due() -> list[Provider]:
    """Providers that were not asked for long; from now on they have been."""
    at = now()
    found = []
    for provider in Provider.objects.filter(enabled=True).select_related("balance"):
        balance = getattr(provider, "balance", None)
        if balance is None or balance.asked_at is None:
            age = settings.BALANCE_PAUSE
        else:
            age = (at - balance.asked_at).total_seconds()
        if age >= settings.BALANCE_PAUSE:
            found.append(provider)
            ProviderBalance.objects.update_or_create(provider=provider, defaults={"asked_at": at})
    return found


def _question(provider: Provider) -> list[tuple[Adapter, Call]]:
    try:
        adapter = provider.build_adapter()
        if not adapter.supports_balance:
            return []
        return [(adapter, Call(adapter.build_balance(), boottime() + settings.GATE))]
    except Exception as error:  # one row that makes no sense must not stop the others
        log.error("a balance could not be asked for", exc_info=error, extra={"provider": provider.slug})
        return []
