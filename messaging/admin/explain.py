"""The page that explains a route: for any number, and beside the decision that a message was sent by."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from messaging.admin.logs import as_uuid
from messaging.drafts import SENDER, parse_moment
from messaging.explain import Explained, explain, reason
from messaging.models import Client, Message
from messaging.states import MessageClass
from routing import numbers
from routing.lcr import REASONS, Candidate
from routing.prices import plain

MODELS = ("messaging.view_message", "routing.view_price")  # one of them is enough
NOBODY = Client(slug="", transliteration="typographic")


class ExplainForm(forms.Form):
    to = forms.CharField(label="Number", max_length=32, widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}))
    client = forms.ModelChoiceField(
        Client.objects.all(), required=False, empty_label="nobody in particular", widget=UnfoldAdminSelectWidget
    )
    message_class = forms.ChoiceField(
        label="Class",
        choices=[(word, word) for word in MessageClass],
        initial="transactional",
        widget=UnfoldAdminSelectWidget,
    )
    sender = forms.CharField(
        required=False, max_length=20, widget=UnfoldAdminTextInputWidget, help_text="The client's when empty."
    )
    at = forms.CharField(
        label="At",
        required=False,
        max_length=40,
        widget=UnfoldAdminTextInputWidget({"placeholder": "2026-12-01T08:00:00Z"}),
        help_text="Another moment, past or to come. Now when empty.",
    )
    text = forms.CharField(
        max_length=1530, initial="Your transfer has arrived.", widget=UnfoldAdminTextareaWidget({"rows": 2})
    )

    def clean_to(self) -> numbers.Number:
        try:
            return numbers.parse(self.cleaned_data["to"].strip())
        except numbers.InvalidNumber:
            raise forms.ValidationError("Not a phone number that can be reached: E.164 with the plus.") from None

    def clean_sender(self) -> str:
        sender: str = self.cleaned_data["sender"]
        if sender and not SENDER.fullmatch(sender):
            raise forms.ValidationError("At most 11 letters and digits with a letter among them, or 3 to 15 digits.")
        return sender

    def clean_at(self) -> Any:
        try:
            return parse_moment(self.cleaned_data["at"]) if self.cleaned_data["at"] else None
        except ValueError:
            raise forms.ValidationError("A date and time with its offset, like 2026-12-01T08:00:00Z.") from None


def explain_view(request: HttpRequest) -> HttpResponse:
    if not any(map(request.user.has_perm, MODELS)):
        raise PermissionDenied
    message = _message(request)
    form = ExplainForm(request.POST or None)
    found = None
    if message is not None:
        found = _of_message(message)
    elif request.method == "POST" and form.is_valid():
        found = _of_form(form.cleaned_data)
    context = {
        **admin.site.each_context(request),
        "title": "Explain a route",
        "form": form,
        "found": found,
        "rows": [_row(found, candidate) for candidate in found.candidates] if found else [],
        "sentence": _sentence(found) if found else "",
        "message": message,
        "stored": message.decision if message else [],
        "back": reverse("admin:messaging_explain"),
    }
    return TemplateResponse(request, "admin/messaging/explain.html", context)


def link(message: Message) -> tuple[str, str]:
    return "Explain", f"{reverse('admin:messaging_explain')}?message={message.pk}"


def _message(request: HttpRequest) -> Message | None:
    given = request.GET.get("message", "")
    if not given:
        return None
    if not request.user.has_perm("messaging.view_message"):
        raise PermissionDenied
    wanted = as_uuid(given)
    found = Message.objects.select_related("client").filter(pk=wanted).first() if wanted else None
    if found is None:
        raise Http404
    return found


def _of_message(message: Message) -> Explained:
    """As it would go now: its number and its text are used and not shown."""
    return explain(
        msisdn=message.to,
        country=message.country,
        text=message.text,
        segments=message.segments,
        message_class=message.message_class,
        client=message.client.slug,
        sender=message.sender,
        level="",
        max_price=message.max_price,
    )


def _of_form(given: dict[str, Any]) -> Explained:
    client = given["client"] or NOBODY
    return explain(
        msisdn=given["to"].msisdn,
        country=given["to"].country,
        text=given["text"].replace("\r\n", "\n"),
        message_class=given["message_class"],
        client=client.slug,
        sender=given["sender"] or client.sender,
        level=client.transliteration,
        at=given["at"],
    )


def _row(found: Explained, candidate: Candidate) -> dict[str, Any]:
    why = reason(candidate)
    marks = ["preferred"] * candidate.preferred + [f"weight {candidate.weight}"] * bool(candidate.weight)
    return {
        "slug": candidate.slug,
        "chosen": candidate is found.chosen,
        "price": "" if candidate.price is None else f"{plain(candidate.price)} {candidate.currency}",
        "total": "" if candidate.total is None else f"{plain(candidate.total)} {candidate.currency}",
        "cost": "" if candidate.cost is None else f"{plain(round(candidate.cost, 6))} {found.currency}",
        "by": candidate.by if candidate.quote else "",
        "marks": ", ".join(marks),
        "reason": why,
        "tells": REASONS.get(why, candidate.blocked.replace("_", " ")),
    }


def _sentence(found: Explained) -> str:
    chosen = found.chosen
    if chosen is None:
        return "Nobody may carry it."
    assert chosen.total is not None  # noqa: S101  a usable candidate has a price
    others = [candidate for candidate in found.candidates if candidate.usable and candidate is not chosen]
    cheaper = [candidate for candidate in others if candidate.units < chosen.units]
    why = "it is the cheapest that may" if not cheaper else "a rule or an open breaker puts it before cheaper ones"
    if not others:
        why = "nobody else may"
    return f"{chosen.slug} would carry it for {plain(chosen.total)} {chosen.currency}: {why}."
