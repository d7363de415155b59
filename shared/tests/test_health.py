"""/livez and /readyz as a service has them: a request comes through all of Django."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg2
import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from usercast import health, healthy
from usercast.health import Dependency, HealthMiddleware
from usercast.testing import eventually


@pytest.fixture
def middleware() -> HealthMiddleware:
    return HealthMiddleware(lambda _request: HttpResponse("page"))


def get(middleware: HealthMiddleware, path: str) -> tuple[int, dict]:
    response = middleware(RequestFactory().get(path))
    assert response["Cache-Control"] == "no-store"
    return response.status_code, json.loads(response.content)


@pytest.fixture(autouse=True)
def broker(settings) -> None:
    settings.CELERY_BROKER_URL = os.environ["REDIS_URL"]


@pytest.fixture
def hanging_port() -> Iterator[int]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def database_at(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    url = f"postgresql://someone:secret@127.0.0.1:{port}/none"
    with monkeypatch.context() as patch:
        patch.setattr(
            health.postgres, "connect", lambda **options: psycopg2.connect(url, **options)
        )
        yield


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_other_paths_go_on(middleware: HealthMiddleware) -> None:
    assert middleware(RequestFactory().get("/livez/")).content == b"page"


def test_ready_with_all_there(middleware: HealthMiddleware) -> None:
    checks = {"database": "ok", "redis": "ok"}
    assert get(middleware, "/readyz") == (200, {"ready": True, "checks": checks})


def test_redis_away_is_told_and_does_not_make_unready(
    middleware: HealthMiddleware, settings, hanging_port: int
) -> None:
    settings.CELERY_BROKER_URL = f"redis://:secret@127.0.0.1:{hanging_port}/0"
    status, told = get(middleware, "/readyz")
    assert (status, told["ready"], told["checks"]["database"]) == (200, True, "ok")
    assert told["checks"]["redis"] == "redis unreachable"


def test_database_away_is_unready_until_it_is_back(
    middleware: HealthMiddleware, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_at(closed_port(), monkeypatch):
        status, told = get(middleware, "/readyz")
        assert (status, told["ready"]) == (503, False)
        assert told["checks"]["database"] == "database unreachable"
        assert middleware(RequestFactory().get("/livez")).status_code == 200
    eventually(lambda: get(middleware, "/readyz")[0] == 200, within=5)


def test_database_that_hangs_is_unready_in_time(
    middleware: HealthMiddleware, monkeypatch: pytest.MonkeyPatch, hanging_port: int
) -> None:
    with database_at(hanging_port, monkeypatch):
        for _ in range(2):
            began = time.monotonic()
            status, told = get(middleware, "/readyz")
            assert time.monotonic() - began < 3
            assert (status, told["ready"]) == (503, False)
            assert told["checks"]["database"].startswith("database ")
            assert middleware(RequestFactory().get("/livez")).content == b"ok"
    eventually(lambda: get(middleware, "/readyz")[0] == 200, within=8)


def test_answer_names_no_server(
    middleware: HealthMiddleware, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_at(closed_port(), monkeypatch):
        response = middleware(RequestFactory().get("/readyz"))
    assert b"127.0.0.1" not in response.content
    assert b"secret" not in response.content


def test_many_who_ask_are_one_question() -> None:
    asked, may_answer = [], threading.Event()

    def ask() -> None:
        asked.append(1)
        may_answer.wait(10)

    dependency = Dependency("database", ask, every_seconds=60)
    questions = {dependency.asked() for _ in range(100)}
    may_answer.set()
    assert {question.result() for question in questions} == {"ok"}
    assert dependency.asked().result() == "ok"
    assert len(asked) == 1


# `manage.py healthy web`


@contextmanager
def web(status: int, body: bytes) -> Iterator[list[str]]:
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORT", str(server.server_port))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield paths
        server.shutdown()
        thread.join()


def test_healthy_asks_the_web() -> None:
    with web(200, b"ok") as paths:
        assert healthy.problem("web", ready=False) is None
        assert healthy.problem("web", ready=True) is None
    assert paths == ["/livez", "/readyz"]


def test_healthy_tells_what_the_web_lacks() -> None:
    with web(503, b'{"checks": {"database": "unreachable"}}'):
        assert '503: {"checks": {"database": "unreachable"}}' in str(
            healthy.problem("web", ready=True)
        )


def test_healthy_tells_that_no_web_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(closed_port()))
    assert "does not answer" in (healthy.problem("web", ready=False) or "")
    monkeypatch.delenv("PORT")
    assert "PORT" in (healthy.problem("web", ready=False) or "")


def test_healthy_does_not_wait_for_a_web_that_hangs(
    monkeypatch: pytest.MonkeyPatch, hanging_port: int
) -> None:
    monkeypatch.setattr(healthy, "ANSWER_SECONDS", 0.2)
    monkeypatch.setenv("PORT", str(hanging_port))
    assert "does not answer" in (healthy.problem("web", ready=False) or "")
