"""The desk: the admin's site, where admins look after users and see changes on their way."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.sites import UnfoldAdminSite


class Desk(UnfoldAdminSite):
    """Django's admin in Unfold's theme."""

    site_header = site_title = "Usercast master"
    index_title = "At a glance"

    def extra_urls(self) -> list[URLPattern]:
        from usercast_master.signin import views  # The site is made before there are models.

        return [path("glance/", self.admin_view(self.glance), name="glance"), *views.urls()]

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's; who has given the password already is led on to the second factor."""
        from usercast_master.signin import second_factor, views

        if request.method == "GET" and second_factor.half_signed_in(request):
            return views.lead(request, "admin:second-factor")
        return super().login(request, extra_context)  # type: ignore[no-any-return]

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """The start page."""
        from usercast_master.desk import glance  # The site is made before there are models.

        context = {"glance": glance.look(), **(extra_context or {})}
        return super().index(request, context)  # type: ignore[no-any-return]

    def glance(self, request: HttpRequest) -> HttpResponse:
        """What of the start page changes, for the page to renew itself."""
        from usercast_master.desk import glance

        return TemplateResponse(request, "desk/glance.html", {"glance": glance.look()})
