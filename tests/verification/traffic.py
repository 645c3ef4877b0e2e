"""Many starts, one after the other or at once, and what has come of them before."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.models import F

from messaging.errors import Refusal
from verification import challenges
from verification.fraud_models import StartCount
from verification.limits import DAY, HOUR

WIDE = {
    "number_hour": 10_000,
    "number_day": 10_000,
    "ip_hour": 10_000,
    "ip_day": 10_000,
    "prefix_hour": 10_000,
    "failed_hour": 10,
    "failed_day": 30,
    "failed_row": 100,
}
LAX = {
    "unverified_percent": 100,
    "unverified_day": 10_000,
    "unverified_hour": 10_000,
    "unverified_ip": 10_000,
    "ip_countries": 300,
}


def same_hour(seconds=30):
    """Waits for the next hour where this one is about to end: its counts begin anew."""
    left = HOUR - time.time() % HOUR
    if left < seconds:
        time.sleep(left + 0.1)


def number(n, prefix="+38067123"):
    return f"{prefix}{n:04d}"


def attempt(caller, to, **fields):
    """The refusal's code, or "" for a start that went through."""
    try:
        challenges.start(caller, {"to": to, "purpose": "login", **fields})
    except Refusal as refusal:
        return refusal.code
    return ""


def at_once(work, arguments, threads=8):
    """Results of `work` for each of the arguments, by threads that begin together."""
    arguments, ready = list(arguments), threading.Barrier(threads)

    def run(part):
        try:
            ready.wait(10)
            return [work(one) for one in part]
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        found = [pool.submit(run, arguments[first::threads]) for first in range(threads)]
        return Counter(result for future in found for result in future.result())


def happened(kind, starts, verified, *, value="", country="UA", span=None, ago=timedelta()):
    """So many have started, and so many of those were verified."""
    span = span or (HOUR if kind == "prefix" else DAY)
    at = (datetime.now(UTC) - ago).replace(minute=0, second=0, microsecond=0)
    if span == DAY:
        at = at.replace(hour=0)
    window = {"kind": kind, "value": value, "country": country, "span": span, "at": at, "shard": 0}
    row, _ = StartCount.objects.get_or_create(**window, defaults={"starts": 0, "verified": 0})
    StartCount.objects.filter(pk=row.pk).update(starts=F("starts") + starts, verified=F("verified") + verified)
