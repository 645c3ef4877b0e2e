import threading

import dramatiq
import requests
from django.conf import settings
from django.utils import timezone

from benchmarks.naive.models import Message

_local = threading.local()


def session() -> requests.Session:
    """One per thread: a session is not safe to share."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.headers["Authorization"] = f"Bearer {settings.CARRIER_TOKEN}"
    return _local.session


@dramatiq.actor(queue_name="naive")
def send(message_id: str) -> None:
    message = Message.objects.get(pk=message_id)
    body = {
        "to": message.to,
        "text": message.text,
        "sender": message.sender,
        "reference": message.id.hex,
        "validity": 3600,
        "receipt_url": "",
    }
    answer = session().post(f"{settings.CARRIER_URL}/v1/messages", json=body, timeout=(2, 8))
    answer.raise_for_status()
    message.status = "sent"
    message.provider_reference = answer.json()["id"]
    message.sent_at = timezone.now()
    message.save()
