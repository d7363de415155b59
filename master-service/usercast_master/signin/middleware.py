"""The middleware that leaves staff anonymous until their session has had the second factor."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import SimpleLazyObject

from usercast_master.signin import second_factor


def require_second_factor(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Make ``request.user`` anonymous while a code is missing; whose it is, is ``claimed_user``.

    So no view has to think of it: the desk, the API's sessions and its documentation refuse
    whoever is anonymous. Comes after django-otp's own, and is nothing with the setting off.
    """

    def answer(request: HttpRequest) -> HttpResponseBase:
        if settings.USERCAST_SECOND_FACTOR:
            claimed = request.user
            request.claimed_user = claimed  # type: ignore[attr-defined]
            request.user = SimpleLazyObject(  # type: ignore[assignment]
                lambda: AnonymousUser() if second_factor.is_missing(claimed) else claimed
            )
        return get_response(request)

    return answer
