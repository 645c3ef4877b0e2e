"""An attempt as an adapter needs it: the same row always gives the same submission, so the same bytes."""

import uuid
from datetime import datetime

from django.conf import settings

from providers.types import Submission
from routing.snapshot import Route


def build(
    route: Route,
    *,
    our_reference: uuid.UUID,
    to: str,
    text: str,
    sender: str,
    encoding: str,
    segments: int,
    started_at: datetime,
    expires_at: datetime,
) -> Submission:
    return Submission(
        our_reference=our_reference.hex,
        to=to,
        text=text,
        sender=sender,
        encoding=encoding,
        segments=segments,
        validity=max(1, int((expires_at - started_at).total_seconds())),
        receipt_url=f"{settings.PUBLIC_URL}/receipts/{route.slug}/{our_reference.hex}",
        submitted_at=started_at,
    )
