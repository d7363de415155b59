"""Problems: each refusal under /api/ as ``application/problem+json`` (RFC 9457)."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from django.db import IntegrityError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from usercast.errors import reason

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
#: Followed by a short name that programs can compare.
TYPE_PREFIX = "urn:usercast:problem:"


class InvalidParameters(exceptions.ValidationError):
    """The query is not understood; errors name its parameters, not places in a body."""


class Conflict(exceptions.APIException):
    """What is stored does not allow it."""

    status_code = HTTPStatus.CONFLICT
    default_code = "conflict"
    default_detail = "Somebody else has just written the same: read again, then try again."


class TooLarge(exceptions.APIException):
    """The body is larger than is read."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class Unavailable(exceptions.APIException):
    """The database is away, or gave up on a deadlock; nothing was written."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "The database does not answer; nothing was written. Try again."
    wait = 2  # seconds


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's exception handler: the problem, or None for what is our fault (500)."""
    error = _as_api_error(error)
    answer = exception_handler(error, context)
    if answer is None:
        return None
    codes = error.get_codes() if isinstance(error, exceptions.APIException) else "not_found"
    code = codes if isinstance(codes, str) else "invalid"
    answer.data = problem(answer.status_code, code=code, detail=_detail(error, answer.data))
    if isinstance(error, exceptions.ValidationError):
        answer.data["errors"] = list(_errors(error))
    for name, value in getattr(error, "headers", {}).items():
        answer.headers[name] = value
    if "Retry-After" in answer.headers:
        answer.headers["Retry-After"] = str(max(1, int(answer.headers["Retry-After"])))
    answer.content_type = CONTENT_TYPE
    return answer


def problem(status: int, *, code: str, detail: str) -> dict[str, Any]:
    """The members that every problem has."""
    return {
        "type": TYPE_PREFIX + code.replace("_", "-"),
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
    }


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: what fails before any view, such as an unknown host."""
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return _plain(HTTPStatus.BAD_REQUEST, "bad_request", "The request cannot be read.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500."""
    if not _is_api(request):
        return defaults.server_error(request)
    return _plain(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The error is ours, and has been logged."
    )


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _plain(status: HTTPStatus, code: str, detail: str) -> HttpResponse:
    data = problem(status, code=code, detail=detail)
    return JsonResponse(data, status=status, content_type=CONTENT_TYPE)


def _as_api_error(error: Exception) -> Exception:
    match error:
        case IntegrityError():
            log.info("write_conflicted", reason=reason(error))
            return Conflict()
        case OperationalError():
            log.warning("database_unreachable", reason=reason(error))
            return Unavailable()
        case _:
            return error


def _detail(error: Exception, data: Any) -> str:
    if isinstance(error, InvalidParameters):
        return "The query is not valid: see errors."
    if isinstance(error, exceptions.ValidationError):
        return "The body is not valid: see errors."
    return str(data["detail"])


def _errors(error: exceptions.ValidationError) -> Iterator[dict[str, str]]:
    in_query = isinstance(error, InvalidParameters)
    for path, found in _leaves(error.detail):
        where = {"parameter": path[0]} if in_query else {"pointer": _pointer(path)}
        yield {**where, "detail": str(found), "code": found.code}


def _leaves(detail: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            yield from _leaves(inner, path if name == "non_field_errors" else (*path, str(name)))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _leaves(inner, path)
    else:
        yield path, detail


def _pointer(path: tuple[str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
