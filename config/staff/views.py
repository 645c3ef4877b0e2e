"""The pages of the second step, and the one for who is locked out."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, cast
from urllib.parse import urlencode

import django_otp
import segno
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.cache import never_cache
from django_otp.middleware import is_verified

from config.staff import second_step, sessions
from config.staff.forms import CodeForm
from config.staff.models import Authenticator, RecoveryCodes
from config.staff.sessions import DRAFT, REPLACES

REPLACES_FOR = 600  # seconds

View = Callable[[HttpRequest], HttpResponse]


def of_staff(view: View) -> View:
    """For whoever has presented the password of a member of staff; nobody else has a second step."""

    @wraps(view)
    def wrapped(request: HttpRequest) -> HttpResponse:
        if not settings.STAFF_TOTP or not admin.site.has_permission(request):
            return redirect("admin:index")
        return view(request)

    return never_cache(wrapped)


@of_staff
def code(request: HttpRequest) -> HttpResponse:
    """After the password: a code of the authenticator, or a recovery code."""
    user = _user(request)
    if is_verified(user):
        return HttpResponseRedirect(_next(request))
    if not second_step.is_set_up(user):
        return HttpResponseRedirect(f"{reverse('staff:set_up')}?{urlencode({'next': _next(request)})}")
    form = CodeForm(request.POST or None)
    device = _presented(request, form)
    if device is None:
        return _page(request, "code", title="Two-step sign-in", form=form)
    _let_in(request, device)
    if isinstance(device, RecoveryCodes):
        request.session[REPLACES] = time.time() + REPLACES_FOR  # the phone may be gone, and with it the next code
        left = second_step.codes_left(user)
        messages.warning(
            request,
            f"That was a recovery code, {left} are left. If your phone is lost, set up another authenticator now: "
            "account menu, Two-step sign-in.",
        )
    return HttpResponseRedirect(_next(request))


@of_staff
def set_up(request: HttpRequest) -> HttpResponse:
    """The first authenticator of whoever has none, and another one for who has just presented a code."""
    user = _user(request)
    replace = request.session.get(REPLACES, 0) > time.time()
    if not replace and second_step.is_set_up(user):
        return redirect("staff:account" if is_verified(user) else "staff:code")
    draft = second_step.draft(user, request.session.get(DRAFT))
    request.session[DRAFT] = draft.pk
    form = CodeForm(request.POST or None, recovery=False)
    if request.method == "POST" and form.is_valid():
        try:
            codes = second_step.confirm(user, draft.pk, form.cleaned_data["code"], replace=replace)
        except second_step.Refused as error:
            form.add_error("code", str(error))
        else:
            del request.session[DRAFT]
            request.session.pop(REPLACES, None)
            draft.refresh_from_db()
            _let_in(request, draft)
            sessions.end(user, but=request.session.session_key)
            return _page(request, "codes", title="Recovery codes", codes=codes)
    return _page(request, "set_up", title="Set up two-step sign-in", form=form, key=draft.key_text, qr=_qr(draft))


@of_staff
def account(request: HttpRequest) -> HttpResponse:
    """Another authenticator or new recovery codes, for who presents a code."""
    user = _user(request)
    form = CodeForm(request.POST or None)
    if request.session.get(REPLACES, 0) > time.time():
        return redirect("staff:set_up")
    if _presented(request, form):
        if request.POST.get("what") == "codes":
            return _page(request, "codes", title="Recovery codes", codes=second_step.renew_codes(user))
        request.session[REPLACES] = time.time() + REPLACES_FOR
        return redirect("staff:set_up")
    left = second_step.codes_left(user)
    context = {**admin.site.each_context(request), "title": "Two-step sign-in", "form": form, "left": left}
    return HttpResponse(render_to_string("admin/staff/account.html", context, request))


def locked(request: HttpRequest) -> HttpResponse:
    """Instead of the sign-in form, after too many wrong passwords."""
    wait = settings.AXES_COOLOFF_TIME
    answer = _page(request, "locked", status=429, title="Locked", minutes=int(wait.total_seconds() // 60))
    answer.headers["Retry-After"] = str(int(wait.total_seconds()))
    return answer


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """The account menu; empty where the admin's own is right."""
    if not settings.STAFF_TOTP:
        return []
    return [
        {"title": "Change password", "link": reverse("admin:password_change")},
        {"title": "Two-step sign-in", "link": reverse("staff:account")},
    ]


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


def _presented(request: HttpRequest, form: CodeForm) -> Authenticator | RecoveryCodes | None:
    """What accepted the code; None while there is none, or a wrong one, which the form then says."""
    if request.method != "POST" or not form.is_valid():
        return None
    try:
        return second_step.present(_user(request), form.cleaned_data["code"])
    except second_step.Refused as error:
        form.add_error("code", str(error))
        return None


def _let_in(request: HttpRequest, device: Authenticator | RecoveryCodes) -> None:
    django_otp.login(request, device)
    request.session.cycle_key()  # nobody who knew the session of the password has this one


def _next(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()):
        return wanted
    return reverse("admin:index")


def _page(request: HttpRequest, name: str, *, status: int = 200, **context: Any) -> HttpResponse:
    """A page without the frame of the admin, which is not open yet. What it shows is kept by no cache."""
    found = {**admin.site.each_context(request), **context, "next": _next(request)}
    return HttpResponse(render_to_string(f"admin/staff/{name}.html", found, request), status=status)


def _qr(device: Authenticator) -> SafeString:
    """Drawn dark on white also in dark mode: cameras want it so."""
    drawn = segno.make(device.config_url, micro=False).svg_inline(scale=4, border=4, light="#fff", dark="#000")
    return mark_safe(drawn)  # noqa: S308  numbers and fixed words alone
