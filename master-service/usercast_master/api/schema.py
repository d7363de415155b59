"""OpenAPI: what drf-spectacular cannot read off the views: tokens, problems, and headers."""

import inspect
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

from usercast_master.api.problems import CONTENT_TYPE

_ALWAYS = {
    HTTPStatus.UNAUTHORIZED: "No token, or one that is unknown, revoked or expired.",
    HTTPStatus.FORBIDDEN: "The token lacks a scope, or its user a permission.",
    HTTPStatus.NOT_ACCEPTABLE: "Another media type was asked for.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests: `Retry-After` says when to come again.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database does not answer; nothing was written.",
}
_WITH_BODY = {
    HTTPStatus.BAD_REQUEST: "Not valid: `errors` says where and why.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is no JSON by its media type.",
}
_BAD_QUERY = {HTTPStatus.BAD_REQUEST: "Not understood: `errors` says which parameter and why."}
_GONE = {HTTPStatus.NOT_FOUND: "There is none with this id."}
_TAKEN = {HTTPStatus.CONFLICT: "What is stored does not allow it."}
#: What an operation may answer besides, by its name on the view set.
_PROBLEMS: dict[str, dict[HTTPStatus, str]] = {
    "list": _BAD_QUERY,
    "retrieve": _GONE,
    "create": _WITH_BODY
    | _TAKEN
    | {HTTPStatus.UNPROCESSABLE_ENTITY: "The `Idempotency-Key` was sent with another body."},
    "update": _WITH_BODY | _GONE | _TAKEN,
    "partial_update": _WITH_BODY | _GONE | _TAKEN,
    "destroy": _GONE | _TAKEN,
    "users": _BAD_QUERY,
    "report": _WITH_BODY | {HTTPStatus.NOT_FOUND: "No client of this name is registered."},
}
_BAD_ETAG = {HTTPStatus.BAD_REQUEST: "Not valid: `detail` and `errors` say what and where."}
_STALE = _BAD_ETAG | {
    HTTPStatus.PRECONDITION_FAILED: "The user has changed since: `ETag` is the version now."
}
#: The same for what has versions.
_VERSION_PROBLEMS: dict[str, dict[HTTPStatus, str]] = {
    "retrieve": _BAD_ETAG,
    "update": _STALE | {HTTPStatus.PRECONDITION_REQUIRED: "`If-Match` is missing."},
    "partial_update": _STALE,
    "destroy": _STALE,
}


def _header(name: str, description: str, **options: Any) -> OpenApiParameter:
    kind = OpenApiTypes.STR
    return OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=description, **options)


_IF_MATCH = 'The `ETag` that was read, such as `"7"`: refused with 412 if it has changed since.'
_HEADERS: dict[str, list[OpenApiParameter]] = {
    "create": [
        _header(
            "Idempotency-Key",
            "1 to 255 printable ASCII characters of the caller's choice. Sent again within 24 hours"
            " with the same body, the first answer is given again and nothing more is created.",
        ),
        _header("Idempotent-Replayed", "`true` if it was given before.", response=[201]),
    ],
}
#: The same for what has versions.
_VERSION_HEADERS: dict[str, list[OpenApiParameter]] = {
    "retrieve": [_header("If-None-Match", "A known `ETag`: 304 if it is still the user's.")],
    "update": [_header("If-Match", _IF_MATCH, required=True)],
    "partial_update": [_header("If-Match", _IF_MATCH)],
    "destroy": [_header("If-Match", _IF_MATCH)],
}

_ERROR = inline_serializer(
    "ProblemError",
    {
        "pointer": serializers.CharField(
            required=False, help_text="JSON pointer to the place in the body."
        ),
        "parameter": serializers.CharField(required=False, help_text="Of the query."),
        "detail": serializers.CharField(),
        "code": serializers.CharField(help_text="Short, for programs."),
    },
    many=True,
    required=False,
)
PROBLEM = inline_serializer(
    "Problem",
    {
        "type": serializers.CharField(help_text="`urn:usercast:problem:` and a short name."),
        "title": serializers.CharField(),
        "status": serializers.IntegerField(),
        "detail": serializers.CharField(help_text="What happened and what to do."),
        "errors": _ERROR,
    },
)


class ApiSchema(AutoSchema):
    """The schema of one operation.

    A view names its ``tag``. A view set says by ``has_versions`` that versions are ETags, and by
    ``page_serializer_class`` how its list is paged.
    """

    def get_tags(self) -> list[str]:
        return [self._tag]

    def get_operation_id(self) -> str:
        return f"{self._tag}_{self._action}"

    def get_summary(self) -> str:
        return self._text[0].removesuffix(".")

    def get_description(self) -> str:  # type: ignore[override]
        return self._text[1]

    def get_override_parameters(self) -> list[Any]:
        found = _HEADERS.get(self._action, [])
        if not self._has_versions or self._action == "list":
            return found
        etag = _header("ETag", "The user's version, in quotes.", response=[self._success])
        return [*found, *_VERSION_HEADERS.get(self._action, []), etag]

    def get_response_serializers(self) -> Any:
        answers: dict[Any, Any] = {self._success: self._answer()}
        if self._has_versions and self._action == "retrieve":
            answers[304] = OpenApiResponse(description="`If-None-Match` names the user's version.")
        return answers | dict(self._problems())

    def _answer(self) -> Any:
        if self._action == "destroy":
            return OpenApiResponse(description="Deleted.")
        if self._action == "report":
            return OpenApiResponse(description="Noted.")
        if self._action == "list" and hasattr(self.view, "page_serializer_class"):
            return self.view.page_serializer_class
        return super().get_response_serializers()

    @property
    def _tag(self) -> str:
        return str(getattr(self.view, "tag", ""))

    @property
    def _text(self) -> tuple[str, str]:
        """The docstring's first paragraph, and the rest."""
        method = getattr(self.view, getattr(self.view, "action", None) or self.method.lower())
        first, _, rest = (inspect.getdoc(method) or "").partition("\n\n")
        return first, rest

    @property
    def _action(self) -> str:
        return str(getattr(self.view, "action", None) or "show")

    @property
    def _has_versions(self) -> bool:
        return bool(getattr(self.view, "has_versions", False))

    @property
    def _success(self) -> int:
        return {"create": 201, "destroy": 204, "report": 204}.get(self._action, 200)

    def _problems(self) -> Iterator[tuple[tuple[int, str], OpenApiResponse]]:
        found = _ALWAYS | _PROBLEMS.get(self._action, {})
        if self._has_versions:
            found |= _VERSION_PROBLEMS.get(self._action, {})
        for status, description in sorted(found.items()):
            answer = OpenApiResponse(PROBLEM, description=description)
            yield (status.value, CONTENT_TYPE), answer


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "usercast_master.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> Any:
        return build_bearer_security_scheme_object(
            header_name="Authorization",
            token_prefix="Token",  # noqa: S106 - the word before it
        )
