"""One whole system for the session: servers, master, billing and support, as real processes."""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from embedded.deployment import Deployment
from embedded.ports import free_port, http_answers
from usercast.testing import eventually

#: Generous: a slow machine must not fail a test of what happens, only of whether it does.
SOON_SECONDS = 60.0
CLIENTS = ("billing", "support")
expect.set_options(timeout=SOON_SECONDS * 1000)


@dataclass
class Api:
    """One service's REST API, as its operator."""

    http: httpx.Client
    login: dict[str, str]

    def user(self, user_id: str) -> dict[str, Any] | None:
        answer = self.http.get(f"/api/v1/users/{user_id}/")
        return answer.json() if answer.status_code == 200 else None

    def create(self, **fields: Any) -> dict[str, Any]:
        fields = {"username": f"u{uuid.uuid4().hex[:12]}", **fields}
        return self.http.post("/api/v1/users/", json=fields).raise_for_status().json()

    def change(self, user_id: str, **fields: Any) -> dict[str, Any]:
        return self.http.patch(f"/api/v1/users/{user_id}/", json=fields).raise_for_status().json()

    def delete(self, user_id: str) -> None:
        self.http.delete(f"/api/v1/users/{user_id}/").raise_for_status()


@pytest.fixture(scope="session")
def system() -> Iterator[Deployment]:
    state_dir = Path(tempfile.mkdtemp(prefix="usercast-e2e-"))
    deployment = Deployment(
        state_dir,
        master_port=free_port(),
        client_ports={name: free_port() for name in CLIENTS},
        durable=False,
    )
    try:
        deployment.set_up()
        deployment.start_all()
        for service in deployment.services.values():
            eventually(
                lambda service=service: http_answers(service.url),
                within=60,
                what=f"{service.name} answering",
            )
        yield deployment
    finally:
        deployment.close()
        keep = os.environ.get("KEEP_LOGS")
        if keep:
            shutil.copytree(state_dir / "logs", keep, dirs_exist_ok=True)
        shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture
def everything_runs(
    system: Deployment, master: Api, arrives: Callable[..., None]
) -> Iterator[None]:
    """For a test that kills something: what does not run afterwards is started, until it works."""
    yield
    for name in system.processes:
        if not system.process(name).running:
            system.start(name)
    for service in system.services.values():
        eventually(lambda service=service: http_answers(service.url), within=60)
    # A process that runs may still be loading: the next test shall not wait for it.
    user = master.create()
    arrives(user["id"], user)


@pytest.fixture(scope="session")
def apis(system: Deployment) -> Iterator[dict[str, Api]]:
    logins = json.loads((system.state_dir / "credentials.json").read_text())
    found = {"master": logins["master"], **logins["clients"]}
    apis = {
        name: Api(
            httpx.Client(
                base_url=login["url"],
                headers={"Authorization": f"Token {login['api_token']}"},
                timeout=20,
                trust_env=False,
            ),
            login,
        )
        for name, login in found.items()
    }
    yield apis
    for api in apis.values():
        api.http.close()


@pytest.fixture(scope="session")
def master(apis: dict[str, Api]) -> Api:
    return apis["master"]


@pytest.fixture(scope="session")
def clients(apis: dict[str, Api]) -> dict[str, Api]:
    return {name: apis[name] for name in CLIENTS}


@pytest.fixture
def arrives(clients: dict[str, Api]) -> Callable[..., None]:
    """Wait until every client has the user as the master gave them (None: until they are gone)."""

    def wait(user_id: str, expected: dict[str, Any] | None) -> None:
        for name, client in clients.items():
            eventually(
                lambda client=client: client.user(user_id) == expected or None,
                within=SOON_SECONDS,
                what=f"{name} having {expected}",
            )

    return wait


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.fail("The browser tests need Chromium: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )
        yield browser
        browser.close()


@pytest.fixture
def contexts(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Browser contexts, as many as asked for; an error that no script caught fails the test."""
    opened: list[BrowserContext] = []
    errors: list[str] = []

    def new(**options: Any) -> BrowserContext:
        context = browser.new_context(**options)
        context.set_default_timeout(SOON_SECONDS * 1000)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        opened.append(context)
        return context

    yield new
    for context in opened:
        context.close()
    assert not errors


def sign_in(page: Page, login: dict[str, str], path: str) -> None:
    """Open a page that needs a sign-in, and sign in."""
    page.goto(login["url"] + path)
    page.get_by_label("Username").fill(login["username"])
    page.get_by_label("Password").fill(login["password"])
    page.get_by_role("button", name="Sign in").or_(
        page.get_by_role("button", name="Log in")
    ).click()
    page.wait_for_url(lambda url: "/login/" not in url)
