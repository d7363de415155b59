"""HTTPS by the environment, and whose address a request comes from."""

import pytest
from django.test import RequestFactory
from environs import EnvError

from usercast.env import Environment
from usercast.https import client_address, https_settings

VARIABLES = ("HTTPS", "HSTS_SECONDS", "TRUSTED_PROXIES")


@pytest.fixture
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_unset")
def test_https_is_demanded_unless_switched_off() -> None:
    found = https_settings(Environment())
    demands = (
        "SECURE_SSL_REDIRECT",
        "SESSION_COOKIE_SECURE",
        "CSRF_COOKIE_SECURE",
        "SECURE_HSTS_INCLUDE_SUBDOMAINS",
        "SECURE_HSTS_PRELOAD",
    )
    assert all(found[name] is True for name in demands)
    assert found["SECURE_HSTS_SECONDS"] == 31_536_000
    assert found["SECURE_PROXY_SSL_HEADER"] is None, "no proxy, so nobody's header is believed"


@pytest.mark.usefixtures("_unset")
def test_switched_off_nothing_ties_browsers_to_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS", "false")
    monkeypatch.setenv("HSTS_SECONDS", "3600")
    found = https_settings(Environment())
    assert found["SECURE_HSTS_SECONDS"] == 0
    assert not found["SECURE_SSL_REDIRECT"]
    assert not found["SESSION_COOKIE_SECURE"]
    assert found["SESSION_COOKIE_HTTPONLY"] is found["CSRF_COOKIE_HTTPONLY"] is True


@pytest.mark.usefixtures("_unset")
def test_behind_a_proxy_its_word_on_https_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "1")
    monkeypatch.setenv("HSTS_SECONDS", "60")
    found = https_settings(Environment())
    assert found["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")
    assert found["SECURE_HSTS_SECONDS"] == 60


@pytest.mark.usefixtures("_unset")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS", "maybe"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "*"),
        ("HSTS_SECONDS", "-1"),
    ],
)
def test_wrong_values_name_their_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvError, match=name):
        https_settings(Environment())


@pytest.mark.parametrize(
    ("proxies", "connection", "forwarded", "address"),
    [
        pytest.param(0, "192.0.2.1", "10.6.6.6", "192.0.2.1", id="header of a stranger"),
        pytest.param(1, "10.0.0.1", "10.6.6.6, 192.0.2.1", "192.0.2.1", id="one proxy"),
        pytest.param(2, "10.0.0.1", "6.6.6.6, 192.0.2.1, 10.0.0.2", "192.0.2.1", id="two proxies"),
        pytest.param(2, "10.0.0.1", "192.0.2.1", "192.0.2.1", id="fewer hops than proxies"),
        pytest.param(1, "10.0.0.1", "", "10.0.0.1", id="called past the proxy"),
        pytest.param(1, "10.0.0.1", "192.0.2.1, nonsense", None, id="no address"),
        pytest.param(0, "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::", id="IPv6 network"),
        pytest.param(0, "::ffff:192.0.2.1", "", "192.0.2.1", id="IPv4 in IPv6"),
        pytest.param(0, "", "", None, id="a local socket"),
    ],
)
def test_address_is_what_the_outermost_proxy_saw(
    settings: object, proxies: int, connection: str, forwarded: str, address: str | None
) -> None:
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR=connection, HTTP_X_FORWARDED_FOR=forwarded)
    assert client_address(request) == address
