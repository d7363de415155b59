"""/livez and /readyz through all of a client, as its event loop answers them."""

import asyncio
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.test import AsyncClient


@pytest.fixture
def hanging_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setitem(connections.settings["default"], "HOST", "127.0.0.1")
        monkeypatch.setitem(connections.settings["default"], "PORT", str(server.getsockname()[1]))
        yield


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probe_comes_by_plain_http_with_an_address_as_its_host(settings, path: str) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["usercast.example"]
    client = AsyncClient(headers={"host": "10.1.2.3:8000"})
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert not answer.cookies
    assert (await client.get("/")).status_code == 400, "only the probes may"


async def test_readyz_tells_of_each_dependency() -> None:
    assert (await AsyncClient().get("/readyz")).json() == {
        "ready": True,
        "checks": {"database": "ok", "redis": "ok"},
    }


async def test_redis_away_is_told_and_does_not_make_unready(settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        answer = await AsyncClient().get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert answer.json()["checks"]["redis"] == "redis unreachable"


async def test_database_that_hangs_is_unready_and_holds_nobody_up(hanging_database: None) -> None:
    # As a server calls it: Django's own client would have all requests share a thread.
    transport = httpx.ASGITransport(ASGIHandler())
    longest_alive = 0.0
    async with httpx.AsyncClient(transport=transport, base_url="http://10.1.2.3") as client:
        began = time.monotonic()
        asked = [asyncio.create_task(client.get("/readyz")) for _ in range(20)]
        while not all(task.done() for task in asked):
            asking = time.monotonic()
            assert (await client.get("/livez")).content == b"ok"
            longest_alive = max(longest_alive, time.monotonic() - asking)
            await asyncio.sleep(0.05)
    assert time.monotonic() - began < 4
    assert {(await task).status_code for task in asked} == {503}
    assert longest_alive < 1, "livez waited for the database"
