"""What a deployment asks of the service: is the database ready, and what was it configured with."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from usercast.env import Environment, Given
from usercast.management.commands import migrated
from usercast_master import settings as settings_module

PASSWORD = "a-long-enough-password"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrated, "_LOOK_SECONDS", 0.05)


@pytest.mark.django_db
def test_migrated_returns_at_once_when_nothing_is_missing() -> None:
    said = StringIO()
    call_command("migrated", within=0, stderr=said)
    assert said.getvalue() == ""


@contextmanager
def one_missing() -> Iterator[Any]:
    """The newest migration of the outbox, as if it had yet to be applied; within the block."""
    newest = MigrationRecorder.Migration.objects.filter(app="outbox").latest("id")
    MigrationRecorder.Migration.objects.filter(id=newest.id).delete()
    try:
        yield newest
    finally:
        newest.save()


@pytest.mark.django_db(transaction=True)
def test_migrated_fails_and_names_what_is_missing() -> None:
    with (
        one_missing() as missing,
        pytest.raises(CommandError, match=rf"1 migrations, the first is outbox\.{missing.name}"),
    ):
        call_command("migrated", within=0.2, stderr=StringIO())


@pytest.mark.django_db(transaction=True)
def test_migrated_waits_until_it_is_done() -> None:
    ended = threading.Event()

    def wait() -> None:
        try:
            call_command("migrated", within=30, stderr=StringIO())
            ended.set()
        finally:
            connection.close()

    waiting = threading.Thread(target=wait)
    with one_missing():
        waiting.start()
        assert not ended.wait(0.5)
    waiting.join(timeout=30)
    assert ended.is_set()


@pytest.mark.django_db(transaction=True)
def test_migrated_bears_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    for name, value in {"HOST": "127.0.0.1", "PORT": "1"}.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    with pytest.raises(CommandError, match=r"still not migrated .* the database does not answer"):
        call_command("migrated", within=0.2, stderr=StringIO())


def test_configuration_shows_where_from_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Environment()
    env.given = {
        "SECRET_KEY": Given("s3cret-key", "/run/secrets/secret-key"),
        "ALLOWED_HOSTS": Given("desk.example.org"),
        "TZ": Given(None),
    }
    monkeypatch.setattr(settings_module, "env", env)
    printed = StringIO()
    call_command("configuration", stdout=printed)
    fingerprint = sha256(b"s3cret-key").hexdigest()[:8]
    hosts, key, zone = (line.split() for line in printed.getvalue().splitlines())
    assert key == ["SECRET_KEY", fingerprint, "/run/secrets/secret-key"]
    assert hosts[2] == "variable"
    assert zone == ["TZ", "-", "default"]
    assert "s3cret-key" not in printed.getvalue()
    assert "example" not in printed.getvalue()


def test_configuration_knows_every_setting() -> None:
    printed = StringIO()
    call_command("configuration", stdout=printed)
    for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "METRICS_TOKEN", "EC2_SUPERSECRET"):
        assert f"{name} " in printed.getvalue()


@pytest.mark.django_db
def test_session_outlives_the_rotation_of_the_key(client: Client, settings: Any) -> None:
    user = get_user_model().objects.create_superuser(username="admin", password=PASSWORD)
    client.force_login(user)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the-next", [settings.SECRET_KEY]
    assert client.get("/admin/").status_code == 200
    client.force_login(user)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "one-more", []
    assert client.get("/admin/").status_code == 302
