"""A message is called back before it leaves."""

import uuid

from django.db import transaction

from messaging.clients import Caller
from messaging.errors import AlreadyClosed, AlreadyLeft, UnknownObject
from messaging.models import Message
from messaging.moves import Move
from messaging.states import Status, allowed

GIVEN_UP = frozenset({Status.FAILED, Status.EXPIRED})


def cancel(caller: Caller, message_id: uuid.UUID) -> None:
    """scheduled or queued -> cancelled: from then on it is surely not sent. A repeat changes nothing.

    Raises UnknownObject, also for another client's; AlreadyLeft, also where an earlier attempt may have
    gone out; AlreadyClosed.
    """
    with transaction.atomic():
        mine = Message.objects.for_client(caller.id).filter(pk=message_id).values_list("pk", flat=True)
        # A claim that holds the row is waited for, and one that comes later skips it: exactly one of the two wins.
        message = Message.objects.lock(mine).get(message_id)
        if message is None:
            raise UnknownObject
        if message.status == Status.CANCELLED:
            return
        status = Status(message.status)
        waits = allowed(status, Status.CANCELLED) and not message.accepted
        if message.possible_duplicate or not (waits or status in GIVEN_UP):
            raise AlreadyLeft(f"It is {status}.")
        if status in GIVEN_UP:
            raise AlreadyClosed(f"It is {status}.")
        Message.objects.transition([Move(message.id, Status.CANCELLED)])
