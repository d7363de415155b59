from pathlib import Path

import pytest
from environs import EnvError

from usercast.env import Environment, Given
from usercast.errors import ConfigurationError


def test_value_comes_from_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING", "7")
    assert Environment().int("THING") == 7


def test_value_comes_from_a_mounted_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "thing").write_text("s3cret\n")
    monkeypatch.setenv("THING_FILE", str(tmp_path / "thing"))
    assert Environment().str("THING") == "s3cret"


def test_both_ways_at_once_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THING", "a")
    monkeypatch.setenv("THING_FILE", str(tmp_path / "thing"))
    with pytest.raises(ConfigurationError, match="THING and THING_FILE"):
        Environment().str("THING")


def test_secret_that_cannot_be_read_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING_FILE", "/no/such/file")
    with pytest.raises(ConfigurationError, match="THING_FILE"):
        Environment().str("THING")


@pytest.mark.parametrize("value", [None, ""])
def test_missing_or_empty_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("THING", raising=False)
    if value is not None:
        monkeypatch.setenv("THING", value)
    with pytest.raises(EnvError, match="THING"):
        Environment().str("THING")
    assert Environment().str("THING", "fallback") == "fallback"


def test_malformed_value_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING", "seven")
    with pytest.raises(EnvError, match="THING"):
        Environment().int("THING")


def test_what_was_given_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "thing").write_text("s3cret\n")
    monkeypatch.setenv("THING_FILE", str(tmp_path / "thing"))
    monkeypatch.setenv("OTHER", "7")
    env = Environment()
    env.str("THING")
    env.int("OTHER")
    env.str("MISSING", None)
    assert env.given == {
        "THING": Given("s3cret", str(tmp_path / "thing")),
        "OTHER": Given("7"),
        "MISSING": Given(None),
    }


def test_empty_list_in_a_mounted_secret_is_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("\n")
    monkeypatch.setenv("KEYS_FILE", str(tmp_path / "keys"))
    assert Environment().list("KEYS", []) == []


@pytest.mark.parametrize("zone", ["Europe/Madrid", "UTC"])
def test_time_zone_is_one_that_exists(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    assert Environment().time_zone("TZ", "UTC") == zone


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../etc/passwd", "Europe", "/etc/localtime"])
def test_any_other_time_zone_is_refused(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    with pytest.raises(ConfigurationError, match=r"TZ: there is no time zone"):
        Environment().time_zone("TZ", "UTC")
