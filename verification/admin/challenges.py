"""Challenges: found fast, never changed, told as a story without the code. An open one can be cancelled."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RelatedDropdownFilter

from messaging.admin.filters import Country, Since
from messaging.admin.logs import as_uuid
from messaging.admin.messages import FOUND, LINKS
from messaging.models import Message
from providers.pages import LongList, ReadOnly, badge, change_url, confirmed
from routing import numbers
from verification import limits
from verification.admin import page, timeline
from verification.fraud_models import Block, BlockKind
from verification.guard import holding
from verification.models import Challenge, CodeMessage, Profile
from verification.profiles import DEFAULTS
from verification.records import close
from verification.rules import Start
from verification.states import ChallengeStatus

CANCEL = "verification.cancel_challenge"
BLOCK = "verification.add_block"
FULL = "messaging.view_full_number"
SECRETS = ("seed", "token_salt", "checked_by")  # not even read


class Purpose(DropdownFilter):
    """The purposes that profiles know: asking the challenges would read all of them."""

    title = "purpose"
    parameter_name = "purpose"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Iterable[tuple[str, str]]:
        known = {*DEFAULTS, *Profile.objects.values_list("purpose", flat=True).distinct()}
        return [(purpose, purpose) for purpose in sorted(known)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(purpose=self.value()) if self.value() else queryset


@admin.register(Challenge)
class ChallengeAdmin(ReadOnly, LongList):
    list_filter = (
        Since,
        ("status", ChoicesDropdownFilter),
        Purpose,
        Country,
        ("client", RelatedDropdownFilter),
    )
    list_select_related = ("client",)
    search_fields = ("pk",)  # without it there is no search box
    search_help_text = "Reference, id, or the whole number in E.164 form"

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        number = "to" if request.user.has_perm(FULL) else "masked"
        return ("created", number, "state", "purpose", "country", "client", "guesses", "sent", "reference")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Challenge]:
        return super().get_queryset(request).defer(*SECRETS)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Challenge], search_term: str
    ) -> tuple[QuerySet[Challenge], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        # One look-up after the other: joined by OR the planner may prefer to walk the whole table.
        ids = list(Challenge.objects.filter(reference=term).values_list("pk", flat=True))
        if wanted := as_uuid(term):
            ids.append(wanted)
        try:
            number = numbers.parse(term)
        except numbers.InvalidNumber:
            pass
        else:
            ids += Challenge.objects.filter(to=number.msisdn).order_by("-pk").values_list("pk", flat=True)[:FOUND]
        return queryset.filter(pk__in=ids), False

    def get_urls(self) -> list[URLPattern]:
        return [
            path(
                "<uuid:challenge_id>/cancel/",
                self.admin_site.admin_view(self.cancel_view),
                name="verification_challenge_cancel",
            ),
            path(
                "<uuid:challenge_id>/block/",
                self.admin_site.admin_view(self.block_view),
                name="verification_challenge_block",
            ),
            path("figures/", self.admin_site.admin_view(self.figures_view), name="verification_figures"),
            *super().get_urls(),
        ]

    def figures_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        title = {"title": "Verification figures", "content_title": "Verification figures"}
        context = {**self.admin_site.each_context(request), **title}
        return TemplateResponse(
            request, "admin/verification/figures.html", {**context, **page.figures_context(request)}
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        challenge = self._get(request, as_uuid(object_id))
        full = request.user.has_perm(FULL)
        number = challenge.to if full else numbers.mask(challenge.to)
        attempts = timeline.attempts_of(challenge)
        cancels = challenge.status == ChallengeStatus.PENDING and request.user.has_perm(CANCEL)
        held = list(_blocks(challenge))
        blocks = request.user.has_perm(BLOCK) and not _number_block(held) and challenge.to[-1].isdigit()
        context = {
            **self.admin_site.each_context(request),
            "title": f"Verification of {number}",
            "opts": self.opts,
            "original": challenge,
            "number": number,
            "status": badge(challenge.status),
            "person": _person(challenge, full),
            "shows_context": request.user.has_perm("messaging.view_text"),
            "entries": timeline.build(challenge, attempts),
            "cost": timeline.total(attempts),
            "messages_of": self._messages(request, challenge),
            "cancel_url": reverse("admin:verification_challenge_cancel", args=[challenge.pk]) if cancels else "",
            "block_url": reverse("admin:verification_challenge_block", args=[challenge.pk]) if blocks else "",
            "blocks": _shown(request, held),
            "history_url": reverse("admin:verification_challenge_history", args=[challenge.pk]),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/verification/challenge.html", context)

    def cancel_view(self, request: HttpRequest, challenge_id: UUID) -> HttpResponse:
        challenge = self._get(request, challenge_id)
        if not request.user.has_perm(CANCEL):
            raise PermissionDenied
        back = HttpResponseRedirect(change_url(self, challenge))
        if challenge.status != ChallengeStatus.PENDING:
            messages.error(request, f"It is {challenge.status} already.")
            return back
        text = "Its code is not accepted any more, and its client is told. This cannot be undone."
        asked = confirmed(
            request, self, challenge, title="Cancel it?", text=text, button="Cancel the verification", danger=True
        )
        if asked:
            return asked
        with transaction.atomic():
            where = "id = %(id)s AND expires_at > clock_timestamp()"
            closed = close(where, {"id": challenge.pk}, ChallengeStatus.CANCELLED, "staff")
            if closed:
                self.log_change(request, challenge, "Cancelled.")
        if closed:
            messages.success(request, "It is cancelled.")
        else:
            messages.error(request, "Nothing was changed: it was closed meanwhile.")
        return back

    def block_view(self, request: HttpRequest, challenge_id: UUID) -> HttpResponse:
        """Of a number that one may not see whole: here it need not be typed."""
        challenge = self._get(request, challenge_id)
        if not request.user.has_perm(BLOCK):
            raise PermissionDenied
        if _number_block(_blocks(challenge)) or not challenge.to[-1].isdigit():
            messages.error(request, "It is blocked already, or erased.")
            return HttpResponseRedirect(change_url(self, challenge))
        number = numbers.mask(challenge.to)
        text = (
            f"No client can have a code sent to {number} until somebody lifts the block. A code that is out stays good."
        )
        asked = confirmed(
            request, self, challenge, title="Block the number?", text=text, button="Block the number", danger=True
        )
        if asked:
            return asked
        block = Block.objects.create(
            kind=BlockKind.NUMBER,
            value=challenge.to,
            reason=f"At verification {challenge.reference}",
            created_by_id=request.user.pk,
        )
        self.log_change(request, challenge, f"Number blocked: block {block.pk}.")
        messages.success(request, "The number is blocked.")
        return HttpResponseRedirect(change_url(self, challenge))

    def _get(self, request: HttpRequest, challenge_id: UUID | None) -> Challenge:
        rows = self.get_queryset(request).select_related("client", "redeemed_by")
        found = rows.filter(pk=challenge_id).first() if challenge_id else None
        if found is None:
            raise Http404
        if not self.has_view_permission(request, found):
            raise PermissionDenied
        return found

    def _messages(self, request: HttpRequest, challenge: Challenge) -> list[tuple[int, str]]:
        if not request.user.has_perm("messaging.view_message"):
            return []
        found = challenge.messages.order_by("seq").values_list("seq", "message_id")
        return [(seq, reverse("admin:messaging_message_change", args=[message])) for seq, message in found]

    @admin.display(description="Started (UTC)", ordering="pk")
    def created(self, challenge: Challenge) -> str:
        return f"{challenge.created_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="To")
    def masked(self, challenge: Challenge) -> str:
        return numbers.mask(challenge.to)

    @admin.display(description="Status")
    def state(self, challenge: Challenge) -> SafeString:
        return badge(challenge.status)

    @admin.display(description="Wrong guesses")
    def guesses(self, challenge: Challenge) -> str:
        return f"{challenge.checks} of {challenge.max_checks}"

    @admin.display(description="Sent")
    def sent(self, challenge: Challenge) -> str:
        return f"{challenge.sends} of {challenge.max_sends}"


def _person(challenge: Challenge, full: bool) -> list[tuple[str, str]]:
    """Where the person was, as the client said: to the network only, unless numbers are shown too."""
    found = []
    if challenge.ip:
        found.append(("address", challenge.ip if full else limits.network(challenge.ip)))
    if challenge.device and full:
        found.append(("device", challenge.device))
    return found


def _blocks(challenge: Challenge) -> Iterable[Block]:
    """Those that hold now for whoever asked for this challenge."""
    start = Start(
        challenge.client_id,
        challenge.client.slug,
        challenge.purpose,
        challenge.to,
        challenge.country,
        challenge.ip or "",
        challenge.device,
    )
    named = Q(pk__in=[])
    for kind, value in start.names.items():
        named |= Q(kind=kind, value=value)
    return Block.objects.filter(named, holding(), Q(client=None) | Q(client=challenge.client_id)).order_by("-pk")


def _number_block(blocks: Iterable[Block]) -> bool:
    return any(block.kind == BlockKind.NUMBER and block.client_id is None for block in blocks)


def _shown(request: HttpRequest, blocks: Iterable[Block]) -> list[dict[str, str]]:
    """With the page that lifts each, for those who may."""
    if not request.user.has_perm("verification.view_block"):
        return []
    name = "lift" if request.user.has_perm("verification.change_block") else "change"
    return [
        {
            "kind": block.kind,
            "reason": block.reason,
            "until": f"{block.expires_at:%Y-%m-%d %H:%M}" if block.expires_at else "it is lifted",
            "url": reverse(f"admin:verification_block_{name}", args=[block.pk]),
            "action": "Lift" if name == "lift" else "Open",
        }
        for block in blocks
    ]


def challenge_link(message: Message) -> tuple[str, str] | None:
    """From the page of a message that carries a code."""
    found = CodeMessage.objects.filter(message=message).values_list("challenge_id", flat=True).first()
    return ("Verification", reverse("admin:verification_challenge_change", args=[found])) if found else None


LINKS.append(challenge_link)
