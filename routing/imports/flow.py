"""What people do with an import: upload, map, ask for approval, decide, roll back. The work between is work.py's.

Each verb is guarded by the state; raises Refused with what to do instead. Permissions are the pages' matter,
but for one rule that is held here: nobody approves what they had a hand in.
"""

import logging
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from providers.models import Provider
from providers.sql import now
from routing import books
from routing.import_models import PriceFile, PriceImport
from routing.imports import work, writing
from routing.imports.errors import Refused
from routing.imports.mapping import Mapping, problems
from routing.imports.sheets import Form

log = logging.getLogger(__name__)

Status = PriceImport.Status
#: What must be said to be right before others are asked, and how a page puts it.
ACCEPTED = {
    "error": "Bad rows are left out",
    "outlier": "Prices that look wrong are right",
    "removed": "Places lose their price",
}


def upload(
    *,
    provider: Provider,
    name: str,
    content: bytes,
    user: Any,
    partial: bool = False,
    mapping: Mapping | None = None,
    effective_at: datetime | None = None,
    outlier_percent: int | None = None,
) -> PriceImport:
    """Stores the file; the import process goes on. With a mapping it is read at once. Raises Refused."""
    if not content:
        raise Refused("The file is empty.")
    if len(content) > settings.PRICE_IMPORT_MB * 2**20:
        raise Refused(f"The file is larger than {settings.PRICE_IMPORT_MB} MB (PRICE_IMPORT_MB): cut it.")
    with transaction.atomic():
        found = PriceImport.objects.create(
            provider=provider,
            file_name=name[-120:],
            size=len(content),
            partial=partial,
            mapping=mapping.to_json() if mapping else {},
            effective_at=effective_at,
            outlier_percent=outlier_percent or settings.PRICE_OUTLIER_PERCENT,
            uploaded_by=user,
            editors=[user.pk] if user else [],
        )
        PriceFile.objects.create(price_import=found, content=content)
    return found


def choose_mapping(
    import_id: int,
    mapping: Mapping,
    *,
    user: Any,
    partial: bool,
    effective_at: datetime | None,
    outlier_percent: int,
) -> PriceImport:
    """mapping, ready or failed -> reading. Raises Refused."""
    with transaction.atomic():
        found = _locked(import_id, Status.MAPPING, Status.READY, Status.FAILED)
        if not found.head:
            raise Refused("Its columns are not known: upload it again.")
        if wrong := problems(mapping, found.head["columns"]):
            raise Refused(" ".join(wrong))
        found.mapping, found.partial = mapping.to_json(), partial
        found.effective_at, found.outlier_percent = effective_at, outlier_percent
        _touch(found, user)
        return _move(found, Status.READING, fault="", counts={}, done=0, total=0, tries=0)


def look_again(import_id: int, form: Form, *, user: Any) -> PriceImport:
    """Reads the columns once more, with another encoding, separator or header; they are mapped anew. Raises Refused."""
    with transaction.atomic():
        found = _locked(import_id, Status.MAPPING, Status.READY, Status.FAILED)
        _touch(found, user)
        return _move(found, Status.UPLOADED, head={"form": asdict(form)}, mapping={}, fault="", tries=0)


def compare_again(import_id: int) -> PriceImport:
    """With the book in force now: nobody has a hand in that. Raises Refused."""
    with transaction.atomic():
        found = _locked(import_id, Status.READY, Status.SUBMITTED, Status.FAILED)
        if not found.mapping:
            raise Refused("Its columns are not known: upload it again.")
        _discard(found)
        return _move(found, Status.READING, fault="", counts={}, done=0, total=0, tries=0)


def submit(import_id: int, *, user: Any, accepted: set[str]) -> PriceImport:
    """ready -> writing, then submitted: what looks wrong has been looked at. Raises Refused."""
    with transaction.atomic():
        found = _locked(import_id, Status.READY)
        if not found.counts.get("prices"):
            raise Refused("There is no price in it.")
        for kind, words in ACCEPTED.items():
            if found.counts.get(kind) and kind not in accepted:
                raise Refused(f"Confirm first: {words} ({found.counts[kind]:,}).")
        if found.effective_at and books.begins_at(found.provider_id, found.effective_at):
            raise Refused(books.SAME_START)
        _touch(found, user)
        return _move(found, Status.WRITING, submitted_at=now(), done=0, total=0, tries=0)


def approve(import_id: int, *, user: Any, book: int) -> PriceImport:
    """submitted -> applied: the list that was written is in force from its start on. Raises Refused.

    `book` is the list that this person has looked at. Written for an earlier moment it holds as well: a price that was
    kept until another one begins is over then.
    """
    with transaction.atomic():
        found = _locked(import_id, Status.SUBMITTED)
        if book != found.book_id:
            raise Refused("It was written anew since you looked at it: look at it again.")
        books.hold(found.provider_id)
        begin = work.starts(found)
        if fault := stale(found, begin):
            raise Refused(fault)
        try:
            books.four_eyes(user, found.editors)
            books.activate(book, proposed_from=begin)
        except books.Refused as error:
            raise Refused(str(error)) from None
        log.info("price import approved", extra={"import": found.pk})
        return _move(found, Status.APPLIED, decided_by=user, decided_at=begin, closed_at=now())


def stale(found: PriceImport, begin: datetime) -> str:
    """Why what was looked at is not what would be in force from then on; empty where it is."""
    if books.in_force(found.provider_id, begin) != found.base_id:
        return "Another price list came in force since this one was compared: compare it again."
    if found.book_id and writing.lapses(found.book_id, begin):
        return "Some of its prices are over by now: compare it again."
    return ""


def reject(import_id: int, *, user: Any, reason: str) -> PriceImport:
    """submitted -> ready: its uploader may put it right, or cancel it. Raises Refused."""
    with transaction.atomic():
        found = _locked(import_id, Status.SUBMITTED)
        _discard(found)
        return _move(found, Status.READY, decided_by=user, decided_at=now(), reason=reason[:200])


def cancel(import_id: int, *, user: Any) -> PriceImport:
    """Whatever is not in force yet and not being written at this moment. Raises Refused."""
    open_states = (Status.UPLOADED, Status.READING, Status.WRITING, *PriceImport.WAITING, Status.FAILED)
    with transaction.atomic():
        found = _locked(import_id, *open_states)
        if found.status == Status.WRITING and not work.is_free(found.pk):
            raise Refused("The list is being written: wait a moment.")
        _touch(found, user)
        _discard(found)
        return _move(found, Status.CANCELLED, closed_at=now(), step="")


def roll_back(import_id: int, *, user: Any) -> PriceImport:
    """applied -> rolled back: the list before it is in force again, at once. Raises Refused."""
    with transaction.atomic():
        found = _locked(import_id, Status.APPLIED)
        assert found.book  # noqa: S101  an applied import has one
        books.hold(found.provider_id)
        at = now()
        begun = found.book.status == books.Status.ACTIVE and found.book.valid_from <= at
        if begun and books.in_force(found.provider_id, at) != found.book_id:
            raise Refused("A later list is in force: roll that one back instead.")
        try:
            books.retire(found.book.pk)
        except books.Refused as error:
            raise Refused(str(error)) from None
        log.info("price import rolled back", extra={"import": found.pk})
        return _move(found, Status.ROLLED_BACK, decided_by=user, decided_at=at)


def _discard(found: PriceImport) -> None:
    """Nobody takes a list for good of which its import has thought better."""
    proposed, found.book = found.book_id, None
    if proposed:
        PriceImport.objects.filter(pk=found.pk).update(book=None)  # the list is protected
        books.discard(proposed)


def _locked(import_id: int, *states: Status) -> PriceImport:
    found = PriceImport.objects.select_for_update(of=("self",)).select_related("provider").get(pk=import_id)
    if found.status not in states:
        raise Refused(f"It is {found.get_status_display().lower()} now: look at it again.")
    return found


def _touch(found: PriceImport, user: Any) -> None:
    if user and user.pk not in found.editors:
        found.editors = [*found.editors, user.pk]


def _move(found: PriceImport, to: Status, **fields: Any) -> PriceImport:
    found.status = to
    for name, value in fields.items():
        setattr(found, name, value)
    found.save()
    return found
