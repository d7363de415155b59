from pathlib import Path

import pytest
from environs import EnvError

from usercast.env import Environment
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
