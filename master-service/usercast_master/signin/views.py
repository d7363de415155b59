"""The pages between password and desk: they ask for a code, or have an app set up first.

``Desk.login`` leads here whoever has given a password; ``second_factor`` decides, and these lead on
to the page that was asked for.
"""

import base64
from functools import partial
from typing import Any

import segno
from django.contrib import admin, messages
from django.contrib.auth import REDIRECT_FIELD_NAME, logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django_otp.plugins.otp_totp.models import TOTPDevice

from usercast_master.signin import second_factor
from usercast_master.signin.forms import CodeForm
from usercast_master.signin.models import RecoveryCodes

_KEY = "key_to_enrol"


def urls() -> list[URLPattern]:
    """The pages' addresses below the desk's."""
    return [
        path("second-factor/", code, name="second-factor"),
        path("second-factor/set-up/", set_up, name="second-factor-set-up"),
    ]


def lead(request: HttpRequest, page: str) -> HttpResponseRedirect:
    """To a page of the desk, which leads on to where this request wants to go."""
    return HttpResponseRedirect(reverse(page, query={REDIRECT_FIELD_NAME: _wanted(request)}))


@never_cache
@sensitive_post_parameters("code")
def code(request: HttpRequest) -> HttpResponse:
    """Ask for a code, of the app or a recovery code."""
    user = second_factor.half_signed_in(request)
    if user is None:
        return lead(request, "admin:login")
    if "start_over" in request.POST:
        logout(request)
        return lead(request, "admin:login")
    if not second_factor.is_set_up(user):
        return lead(request, "admin:second-factor-set-up")
    form = CodeForm(request.POST or None, check=partial(second_factor.verify, user))
    if not form.is_valid():
        return _page(request, "code", title="One more step", form=form, who=user)
    second_factor.complete(request, user, form.outcome)
    if isinstance(form.outcome, RecoveryCodes):
        left = len(form.outcome.digests)
        messages.warning(request, f"You have used up a recovery code: {left} left.")
    return HttpResponseRedirect(_wanted(request))


@never_cache
@sensitive_post_parameters("code")
def set_up(request: HttpRequest) -> HttpResponse:
    """Show a key for an app, ask for a code made from it, then show the recovery codes, once."""
    user = second_factor.half_signed_in(request)
    if user is None:
        return lead(request, "admin:login")
    if "start_over" in request.POST or second_factor.is_set_up(user):
        return code(request)
    # The session keeps it until a code shows that an app has it: a key that was seen in a sign-in
    # that was broken off opens nothing.
    device = TOTPDevice(user=user)
    device.key = request.session.setdefault(_KEY, device.key)
    form = CodeForm(request.POST or None, check=partial(second_factor.enrol, user, device.key))
    if not form.is_valid():
        app = {"qr": _as_qr(device.config_url), "key": _as_text(device.bin_key)}
        return _page(request, "set_up", title="Set up a second factor", form=form, who=user, **app)
    enrolled, codes = form.outcome
    del request.session[_KEY]
    second_factor.complete(request, user, enrolled)
    grouped = [_grouped(each) for each in codes]
    return _page(request, "recovery_codes", title="Your recovery codes", codes=grouped)


def _page(request: HttpRequest, name: str, **context: Any) -> HttpResponse:
    context = {**admin.site.each_context(request), **context, "next": _wanted(request)}
    return TemplateResponse(request, f"signin/{name}.html", context)


def _wanted(request: HttpRequest) -> str:
    """The page to go on to: of this site, or the start page."""
    wanted = request.POST.get(REDIRECT_FIELD_NAME) or request.GET.get(REDIRECT_FIELD_NAME, "")
    is_safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_safe else reverse("admin:index")


def _as_qr(address: str) -> str:
    # Light on dark cannot be read by every app, so that it has a ground of its own.
    image = segno.make_qr(address, error="m")
    return mark_safe(image.svg_inline(border=3, dark="#000", light="#fff", omitsize=True))  # noqa: S308


def _as_text(key: bytes) -> str:
    return _grouped(base64.b32encode(key).decode())


def _grouped(text: str) -> str:
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
