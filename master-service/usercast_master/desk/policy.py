"""What browsers may load: nothing but our own files, with an exception for the admin's theme."""

from typing import Any

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse

#: Alpine.js, which Unfold's pages are made with, compiles the expressions in their attributes, and
#: Unfold writes its colours into the page. Scripts within a page stay forbidden there too.
THEME: dict[str, Any] = {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
}


class PolicyMiddleware(CSPMiddleware):
    """Django-csp's, which lets the admin's pages, and only these, have what their theme needs."""

    def get_policy_parts(
        self,
        request: HttpRequest,
        response: HttpResponseBase,
        report_only: bool = False,  # noqa: FBT002 - django-csp's signature
    ) -> PolicyParts:
        parts: PolicyParts = super().get_policy_parts(request, response, report_only)
        if request.path_info.startswith(reverse("admin:index")):
            parts.update = THEME
        return parts
