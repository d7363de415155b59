"""Health of a web process: ``/livez`` and ``/readyz``, and whether what it depends on answers."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing

import redis
import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from redis.backoff import NoBackoff
from redis.retry import Retry

from usercast import postgres
from usercast.errors import reason

log = structlog.get_logger(__name__)

OK = "ok"
#: A dependency that has not answered by then is away. PostgreSQL's library takes no less than 2 s.
ANSWER_SECONDS = 2
_ASK_SECONDS = 1.0
_REDIS_SECONDS = 0.5


class Dependency:
    """Something a process depends on, asked in a thread of its own: who wants to know never hangs.

    However many want to know, it is asked once at a time, and no sooner than ``every_seconds``
    after the last time.

    Args:
        ask: returns if it answers, and raises if not; by itself within some seconds.
    """

    def __init__(
        self, name: str, ask: Callable[[], object], *, every_seconds: float = _ASK_SECONDS
    ) -> None:
        self.name = name
        self._event = f"{name}_unreachable"
        self._ask_it = ask
        self._every_seconds = every_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"ask-{name}")
        self._asked_at = 0.0
        self._latest: Future[str] | None = None
        self._lock = threading.Lock()

    def asked(self) -> Future[str]:
        """``ok`` or what is wrong, in words that name no server; may be under way still."""
        with self._lock:
            now = time.monotonic()
            is_due = now - self._asked_at >= self._every_seconds
            if self._latest is None or (self._latest.done() and is_due):
                self._asked_at = now
                self._latest = self._thread.submit(self._ask)
            return self._latest

    def answer(self, question: Future[str]) -> str:
        """What came of asking; one that is still under way is overdue."""
        if question.done():
            return question.result()
        return f"{self.name} does not answer within {ANSWER_SECONDS} s"

    def is_overdue(self) -> bool:
        """Whether whoever has asked last should have had an answer by now."""
        return time.monotonic() - self._asked_at > ANSWER_SECONDS

    def _ask(self) -> str:
        try:
            self._ask_it()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is away
            log.warning(self._event, reason=reason(error))
            return f"{self.name} unreachable"
        return OK


def ask_database() -> None:
    """Connect anew, as a request might have to: this alone shows that the server takes work."""
    postgres.connect(connect_timeout=ANSWER_SECONDS).close()


def ask_redis() -> None:
    """Connect anew, and have it answer."""
    client = redis.Redis.from_url(
        settings.CELERY_BROKER_URL,
        socket_timeout=_REDIS_SECONDS,
        socket_connect_timeout=_REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    with closing(client):
        client.ping()


class HealthMiddleware:
    """Answers ``/livez`` and ``/readyz`` before anything else looks at the request.

    Probes come by plain HTTP, with an address as their host, without a session; so this stands
    first. Under ASGI Django runs it in the request's own thread, not in the event loop.

    ``/livez`` is 200 whenever the process answers at all. ``/readyz`` is 503 while the database is
    away, 200 otherwise, within 2 s. Redis, too, is told of, but without it the master works, and a
    client's pages work and fetch instead of being told, so it makes neither unready. Whether
    migrations are applied is for the deployment to see to, before it starts the process.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._database = Dependency("database", ask_database)
        self._redis = Dependency("redis", ask_redis)
        self._answers = {"/livez": self._livez, "/readyz": self._readyz}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answers = self._answers.get(request.path_info)
        if answers is None:
            return self._get_response(request)
        response = answers()
        response["Cache-Control"] = "no-store"
        return response

    def _livez(self) -> HttpResponse:
        return HttpResponse("ok", content_type="text/plain")

    def _readyz(self) -> HttpResponse:
        questions = {each: each.asked() for each in (self._database, self._redis)}
        wait(questions.values(), timeout=ANSWER_SECONDS)
        checks = {each.name: each.answer(asked) for each, asked in questions.items()}
        is_ready = checks[self._database.name] == OK
        return JsonResponse({"ready": is_ready, "checks": checks}, status=200 if is_ready else 503)
