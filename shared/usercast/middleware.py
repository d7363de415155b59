"""The request log: a line for each request, and a trace for all its lines and changes."""

import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import structlog
from asgiref.sync import iscoroutinefunction
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import LazyObject, empty

from usercast import tracing

log = structlog.get_logger(__name__)

REQUEST_ID = "X-Request-ID"
_TAKEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

Handler = Callable[[HttpRequest], HttpResponseBase]
AsyncHandler = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def request_log(get_response: Any) -> Handler | AsyncHandler:
    """Log each request once it is answered: method, route, status, duration, user and request id.

    The route is the pattern (``users/<uuid:user_id>/``): a path, and what follows its question
    mark, may hold what somebody wrote. A request continues the trace that its ``traceparent`` names
    and keeps a proxy's ``X-Request-ID`` (8 to 64 letters, digits, ``._-``); the answer tells it.
    """
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            with _told(request) as told:
                told.append(await get_response(request))
            return told[0]

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        with _told(request) as told:
            told.append(get_response(request))
        return told[0]

    return answer


@contextmanager
def _told(request: HttpRequest) -> Iterator[list[HttpResponseBase]]:
    """Takes the response, and logs what became of the request."""
    began = time.perf_counter_ns()
    request_id = request.headers.get(REQUEST_ID, "")
    if not _TAKEN_ID.fullmatch(request_id):
        request_id = uuid4().hex
    told: list[HttpResponseBase] = []
    of = [request.headers.get("traceparent")]
    with (
        structlog.contextvars.bound_contextvars(request_id=request_id),
        tracing.span("request", kind=tracing.SpanKind.SERVER, of=of) as span,
    ):
        yield told
        response = told[0]
        response.headers[REQUEST_ID] = request_id
        route = _route(request)
        span.update_name(f"{request.method} {route}")
        span.set_attribute("http.response.status_code", response.status_code)
        tell = log.error if response.status_code >= 500 else log.info
        tell(
            "request",
            method=request.method,
            route=route,
            status=response.status_code,
            duration_ns=time.perf_counter_ns() - began,
            user_id=_user_id(request),
        )


def _route(request: HttpRequest) -> str:
    match = request.resolver_match
    return match.route if match else "none"


def _user_id(request: HttpRequest) -> str | None:
    """Who asked, if that has been found out: the log asks nobody."""
    user = request.__dict__.get("user")
    if isinstance(user, LazyObject):
        user = getattr(request, "_cached_user", None) if _is_empty(user) else user
    pk = getattr(user, "pk", None)
    return str(pk) if isinstance(pk, UUID) else None


def _is_empty(lazy: Any) -> bool:
    return lazy.__dict__.get("_wrapped", empty) is empty


def _log_failure(**_signal: Any) -> None:
    log.error("request_failed", exc_info=True)  # noqa: LOG014 - Django sends it while handling


# Django's own line for it names the path.
got_request_exception.connect(_log_failure, dispatch_uid="usercast.middleware")
