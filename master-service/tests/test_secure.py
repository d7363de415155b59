"""What browsers are told: HTTPS only, cookies that scripts cannot read, nothing from elsewhere."""

import pytest
from django.conf import settings as django_settings
from django.test import Client, RequestFactory
from rest_framework.throttling import BaseThrottle

from usercast.env import Environment
from usercast.https import https_settings
from usercast_master.accounts.models import User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture
def _production(settings: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS", "true")
    for name, value in https_settings(Environment()).items():
        setattr(settings, name, value)


@pytest.mark.usefixtures("_production")
def test_http_is_led_to_https() -> None:
    answer = Client().get("/admin/login/?next=/admin/")
    assert (answer.status_code, answer.url) == (301, "https://testserver/admin/login/?next=/admin/")
    assert not answer.cookies


@pytest.mark.usefixtures("_production")
def test_cookies_are_for_https_and_not_for_scripts() -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    answer = Client().post("/admin/login/", {"username": "root", "password": PASSWORD}, secure=True)
    assert answer.status_code == 302
    assert {
        name: (c["secure"], c["httponly"], c["samesite"]) for name, c in answer.cookies.items()
    } == {
        "usercast_master_session": (True, True, "Lax"),
        "usercast_master_csrf": (True, True, "Lax"),
    }


@pytest.mark.usefixtures("_production")
@pytest.mark.parametrize("page", ["/admin/login/", "/api/v1/users/"])
def test_browsers_remember_https_and_load_nothing_from_elsewhere(page: str) -> None:
    answer = Client().get(page, secure=True)
    assert answer["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    policy = answer["Content-Security-Policy"].split("; ")
    assert {"default-src 'self'", "frame-ancestors 'none'", "object-src 'none'"} <= set(policy)
    assert "http" not in answer["Content-Security-Policy"]


def test_only_the_desk_may_have_what_its_theme_needs() -> None:
    assert "'unsafe-eval'" in Client().get("/admin/login/")["Content-Security-Policy"]
    for page in ("/api/v1/users/", "/administrator"):
        assert "unsafe" not in Client().get(page)["Content-Security-Policy"]


def test_scripts_within_a_page_are_forbidden_everywhere() -> None:
    policy = Client().get("/admin/login/")["Content-Security-Policy"].split("; ")
    [scripts] = [part for part in policy if part.startswith("script-src")]
    assert "unsafe-inline" not in scripts


@pytest.mark.parametrize(
    ("proxies", "address"), [(0, "192.0.2.1"), (1, "198.51.100.9"), (2, "203.0.113.5")]
)
def test_api_believes_as_many_proxies_as_there_are(
    settings: object, monkeypatch: pytest.MonkeyPatch, proxies: int, address: str
) -> None:
    import runpy

    import usercast_master.settings as module

    monkeypatch.setenv("TRUSTED_PROXIES", str(proxies))
    loaded = runpy.run_path(module.__file__)
    settings.REST_FRAMEWORK = {
        **django_settings.REST_FRAMEWORK,
        "NUM_PROXIES": loaded["REST_FRAMEWORK"]["NUM_PROXIES"],
    }
    request = RequestFactory().get(
        "/api/v1/users/",
        REMOTE_ADDR="192.0.2.1",
        HTTP_X_FORWARDED_FOR="10.6.6.6, 203.0.113.5, 198.51.100.9",
    )
    assert BaseThrottle().get_ident(request) == address
