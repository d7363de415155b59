"""Who calls: a token's user, or a signed-in admin. The token is found by its hash."""

from typing import Any

from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from rest_framework.exceptions import AuthenticationFailed

from usercast_master.api.models import ApiToken


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]
    """``Authorization: Token <token>``.

    Unlike knox's, an expired token is not deleted as it is used: the list goes on showing it.
    """

    def authenticate_credentials(self, token: bytes) -> tuple[Any, ApiToken]:
        """The user and the token.

        Raises:
            AuthenticationFailed: unknown, revoked or expired, or the user is inactive.
        """
        try:
            digest = hash_token(token.decode())
        except UnicodeDecodeError:
            raise AuthenticationFailed("This is no token.") from None
        found = ApiToken.objects.select_related("user").filter(digest=digest).first()
        if found is None:
            raise AuthenticationFailed("This token is not known: it may have been revoked.")
        if found.is_expired:
            raise AuthenticationFailed(f"This token expired on {found.expiry:%Y-%m-%d %H:%M} UTC.")
        if not found.user.is_active:
            raise AuthenticationFailed("The user of this token is inactive.")
        found.note_use()
        return found.user, found
