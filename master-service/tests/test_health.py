"""/livez and /readyz through all of the master."""

import pytest
from django.db import connections
from django.test import Client

from embedded.ports import free_port


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probe_comes_by_plain_http_with_an_address_as_its_host(settings, path: str) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["usercast.example"]
    client = Client(headers={"host": "10.1.2.3:8000"})
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert not answer.cookies
    assert client.get("/").status_code == 400, "only the probes may"


def test_readyz_tells_of_each_dependency() -> None:
    assert Client().get("/readyz").json() == {
        "ready": True,
        "checks": {"database": "ok", "redis": "ok"},
    }


def test_database_away_is_unready_and_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "HOST", "127.0.0.1")
    monkeypatch.setitem(connections.settings["default"], "PORT", str(free_port()))
    client = Client()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer["Cache-Control"] == "no-store"
    assert client.get("/livez").content == b"ok"
