"""Preconditions: a user's version as ETag, so that two editors do not overwrite each other."""

from http import HTTPStatus

from django.utils.http import parse_etags
from rest_framework.exceptions import APIException, ParseError
from rest_framework.request import Request


class Stale(APIException):
    """Somebody has changed the user since the caller read them."""

    status_code = HTTPStatus.PRECONDITION_FAILED
    default_code = "stale"

    def __init__(self, version: int | None) -> None:
        super().__init__(f"The user is at version {version or 0} by now: read again, then change.")
        self.headers = {"ETag": etag(version)}


class PreconditionRequired(APIException):
    """A replacement in full must say what it replaces."""

    status_code = HTTPStatus.PRECONDITION_REQUIRED
    default_code = "precondition_required"
    default_detail = (
        "PUT replaces the user in full: send If-Match with the ETag that you have read, "
        "or PATCH the fields that you mean."
    )


def etag(version: int | None) -> str:
    """A version as a strong ETag; ``"0"`` for a user not yet counted by the outbox."""
    return f'"{version or 0}"'


def check_match(request: Request, version: int | None) -> None:
    """Return if the request's ``If-Match``, where it has one, names this version.

    Only as safe as the lock that the caller holds on the user.

    Raises:
        Stale: it names others.
        ParseError: it is no ETag.
    """
    given = _etags(request, "If-Match")
    if given and given != ["*"] and etag(version) not in given:
        raise Stale(version)


def require_match(request: Request) -> None:
    """Return if the request has an ``If-Match``.

    Raises:
        PreconditionRequired: it has none.
    """
    if "If-Match" not in request.headers:
        raise PreconditionRequired


def is_known(request: Request, version: int | None) -> bool:
    """Whether the caller has this version already (``If-None-Match``)."""
    given = _etags(request, "If-None-Match")
    return given == ["*"] or etag(version) in [name.removeprefix("W/") for name in given]


def _etags(request: Request, header: str) -> list[str]:
    value = request.headers.get(header)
    if value is None:
        return []
    found = parse_etags(value)
    if not found:
        raise ParseError(f'{header} wants an ETag in quotes, such as "7", or *.')
    return found
