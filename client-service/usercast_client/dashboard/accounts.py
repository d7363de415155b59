"""Signing in and passwords: Django's own views, as this service's pages."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import LoginView, PasswordChangeView, PasswordResetConfirmView
from django.http import HttpResponse
from django.urls import reverse, reverse_lazy

from usercast_client.live.access import View, may

#: The card says which service it is that one signs in to.
CONTEXT = {"client": settings.USERCAST_CLIENT}


class SignIn(LoginView):
    """Leads back to where one came from; else staff to the dashboard, others to their own page."""

    extra_context = CONTEXT
    redirect_authenticated_user = True

    def get_default_redirect_url(self) -> str:
        staff = may(self.request.user, View.DASHBOARD)
        return reverse("dashboard:index" if staff else "dashboard:me")

    def get_success_url(self) -> str:
        """The dashboard's address is what one types: it is no wish of who may not see it.

        Nor is it anybody's wish to sign in and come to the sign-in page.
        """
        asked = self.get_redirect_url()
        is_no_wish = urlsplit(asked).path in ("", reverse("login")) or asked == reverse(
            "dashboard:index"
        )
        return self.get_default_redirect_url() if is_no_wish else asked


class ChangePassword(PasswordChangeView):
    """Changes one's own password on this client; one stays signed in here, and nowhere else."""

    extra_context = CONTEXT
    template_name = "registration/password_change.html"
    success_url = reverse_lazy("dashboard:me")

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, "Your password is changed.")
        return super().form_valid(form)


class ChoosePassword(PasswordResetConfirmView):
    """Sets a password by the one-time link that an administrator of this client has handed over."""

    extra_context = CONTEXT
    template_name = "registration/password_link.html"
    success_url = reverse_lazy("login")

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, "Your password is set. Sign in with it.")
        return super().form_valid(form)
