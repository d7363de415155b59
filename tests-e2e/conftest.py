"""One whole system for the session: servers, master, billing and support, as real processes.

STACK says which: ``embedded``, the one without Docker, or ``compose``, containers (composed.py).
"""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from composed import UP_SECONDS, Composed
from embedded.deployment import Deployment
from embedded.ports import free_port, http_answers, loopback_url
from faults import Faults
from pages import RECORDER
from sockets import cookie_of
from usercast.testing import eventually
from wire import Wire

#: Generous: a slow machine must not fail a test of what happens, only of whether it does.
SOON_SECONDS = 60.0
CLIENTS = ("billing", "support")
STACKS = ("embedded", "compose")
STACK = os.environ.get("STACK") or STACKS[0]
System = Deployment | Composed
expect.set_options(timeout=SOON_SECONDS * 1000)


def pytest_configure() -> None:
    if STACK not in STACKS:
        pytest.exit(f"STACK is {STACK!r}: give it one of {', '.join(STACKS)}.", returncode=2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests that run without a system the outcome is the same for both: ``compose`` has none."""
    if STACK == "embedded":
        return
    without = [item for item in items if "system" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]
    for item in items:
        if item.get_closest_marker("embedded"):
            item.add_marker(pytest.mark.skip(reason="looks into the embedded stack (pytest.ini)"))
    if items:
        # It starts the system.
        items[0].add_marker(pytest.mark.timeout(UP_SECONDS + 180), append=False)


@dataclass
class Api:
    """One service's REST API, as its operator."""

    http: httpx.Client
    login: dict[str, str]

    def user(self, user_id: str) -> dict[str, Any] | None:
        answer = self.http.get(f"/api/v1/users/{user_id}/")
        return answer.json() if answer.status_code == 200 else None

    def search(self, text: str) -> list[dict[str, Any]]:
        answer = self.http.get("/api/v1/users/", params={"search": text, "page_size": 1000})
        return answer.raise_for_status().json()["results"]

    def create(self, **fields: Any) -> dict[str, Any]:
        fields = {"username": f"u{uuid.uuid4().hex[:12]}", **fields}
        return self.http.post("/api/v1/users/", json=fields).raise_for_status().json()

    def change(self, user_id: str, **fields: Any) -> dict[str, Any]:
        return self.http.patch(f"/api/v1/users/{user_id}/", json=fields).raise_for_status().json()

    def delete(self, user_id: str) -> None:
        self.http.delete(f"/api/v1/users/{user_id}/").raise_for_status()


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    state_dir = Path(tempfile.mkdtemp(prefix="usercast-e2e-"))
    system: System
    if STACK == "compose":
        system = Composed(state_dir, clients=CLIENTS)
    else:
        system = Deployment(
            state_dir,
            master_port=free_port(),
            client_ports={name: free_port() for name in CLIENTS},
            durable=False,
        )
    try:
        system.set_up()
        system.start_all()
        for service in system.services.values():
            eventually(
                lambda service=service: http_answers(service.url),
                within=60,
                what=f"{service.name} answering",
            )
        yield system
    finally:
        system.close()
        keep = os.environ.get("KEEP_LOGS")
        if keep:
            shutil.copytree(state_dir / "logs", keep, dirs_exist_ok=True)
        shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture
def everything_runs(system: System, master: Api, arrives: Callable[..., None]) -> Iterator[None]:
    """For a test that kills something: what does not run afterwards is started, until it works."""
    yield
    if not system.servers.valkey.process.running:
        system.servers.valkey.start()
    for name in system.processes:
        if not system.process(name).running:
            system.start(name)
    for service in system.services.values():
        eventually(lambda service=service: http_answers(service.url), within=60)
    # A process that runs may still be loading: the next test shall not wait for it.
    user = master.create()
    arrives(user["id"], user)


@pytest.fixture(scope="session")
def apis(system: System) -> Iterator[dict[str, Api]]:
    logins = json.loads((system.state_dir / "credentials.json").read_text())
    found = {"master": logins["master"], **logins["clients"]}
    apis = {
        name: Api(
            httpx.Client(
                base_url=login["url"],
                headers={"Authorization": f"Token {login['api_token']}"},
                timeout=20,
                trust_env=False,
                # The server may close an idle connection at the moment it is used again.
                limits=httpx.Limits(max_keepalive_connections=0),
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
def faults(request: pytest.FixtureRequest) -> Faults:
    """What pages did amiss in this test."""
    cuts_off = {"everything_runs", "wire"} & {*request.fixturenames}
    return Faults(may_be_cut_off=bool(cuts_off))


@pytest.fixture
def contexts(browser: Browser, faults: Faults) -> Iterator[Callable[..., BrowserContext]]:
    """Browser contexts, as many as asked for; whatever a page does amiss in one fails the test."""
    opened: list[BrowserContext] = []

    def new(**options: Any) -> BrowserContext:
        context = browser.new_context(**options)
        context.set_default_timeout(SOON_SECONDS * 1000)
        faults.watch(context)
        opened.append(context)
        return context

    yield new
    for context in opened:
        context.close()
    assert not faults.found


@pytest.fixture(scope="session")
def staff(clients: dict[str, Api]) -> dict[str, str]:
    """A session of each client's staff, as a Cookie header; no test may end it."""
    return {name: cookie_of(client.login["url"], client.login) for name, client in clients.items()}


@pytest.fixture
def visit(
    contexts: Callable[..., BrowserContext], clients: dict[str, Api], staff: dict[str, str]
) -> Callable[..., Page]:
    """Open a page of a client in a browser of its own.

    By the session of ``cookie``: without it the staff's, empty for nobody's. ``wired`` takes the
    page before it is opened.
    """

    def open_page(
        path: str,
        *,
        client: str = "billing",
        cookie: str | None = None,
        wired: Callable[[Page], object] = lambda page: None,
        **options: Any,
    ) -> Page:
        url = clients[client].login["url"]
        context = contexts(**options)
        context.add_init_script(RECORDER)
        for pair in (staff[client] if cookie is None else cookie).split("; "):
            name, _, value = pair.partition("=")
            context.add_cookies([{"name": name, "value": value, "url": url}] if name else [])
        page = context.new_page()
        wired(page)
        page.goto(url + path)
        return page

    return open_page


@pytest.fixture(scope="session")
def desk_cookies(browser: Browser, master: Api) -> list[Any]:
    """Of a session of the master's operator."""
    context = browser.new_context()
    sign_in(context.new_page(), master.login, "/admin/")
    found = context.cookies()
    context.close()
    return found


@pytest.fixture
def desk(
    contexts: Callable[..., BrowserContext], desk_cookies: list[Any], master: Api
) -> Callable[..., Page]:
    """Open a page of the master as its operator."""

    def visit(path: str, **options: Any) -> Page:
        context = contexts(**options)
        context.add_cookies(desk_cookies)
        page = context.new_page()
        page.goto(master.login["url"] + path)
        return page

    return visit


@pytest.fixture
def wire() -> Callable[..., Wire]:
    """What to put between a page and its service; its requests may fail then."""
    return Wire


@dataclass(frozen=True)
class Member:
    """A replicated user who has a password on a client."""

    user: dict[str, Any]
    login: dict[str, str]
    #: Of a session of theirs.
    cookie: str


@pytest.fixture(scope="session")
def password(system: System, master: Api) -> tuple[str, str]:
    """What all members sign in with, and how Django keeps it."""
    user = master.create()
    login = system.create_member("billing", user["username"])
    ((kept,),) = query(
        system, "billing", "SELECT password FROM replica_user WHERE id = %s", user["id"]
    )
    return login["password"], kept


@pytest.fixture(scope="session")
def new_member(
    system: System, master: Api, clients: dict[str, Api], password: tuple[str, str]
) -> Callable[..., Member]:
    """A new user of the master's who may sign in on billing, if ``is_staff`` as its staff."""

    def new(*, is_staff: bool = False, **fields: Any) -> Member:
        user = master.create(**fields)
        client = clients["billing"]
        eventually(lambda: client.user(user["id"]), within=SOON_SECONDS)
        given, kept = password
        query(
            system,
            "billing",
            "UPDATE replica_user SET password = %s, is_staff = %s WHERE id = %s RETURNING id",
            kept,
            is_staff,
            user["id"],
        )
        login = {"url": client.login["url"], "username": user["username"], "password": given}
        return Member(user, login, cookie_of(login["url"], login))

    return new


def address(system: System, name: str) -> str:
    """Where a process itself answers, past nginx: with its pages, or with its metrics alone."""
    if isinstance(system, Composed):
        return system.address(name)
    variables = system.processes[name].env
    return loopback_url(int(variables["PORT" if name.endswith("-web") else "METRICS_PORT"]))


def query(system: System, name: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask a service's database; what it answers."""
    url = system.services[name].database_url
    with closing(psycopg2.connect(url)) as opened, opened, opened.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def sign_in(page: Page, login: dict[str, str], path: str) -> None:
    """Open a page that needs a sign-in, and sign in."""
    page.goto(login["url"] + path)
    page.get_by_label("Username").fill(login["username"])
    page.get_by_label("Password").fill(login["password"])
    page.get_by_role("button", name="Sign in").or_(
        page.get_by_role("button", name="Log in")
    ).click()
    page.wait_for_url(lambda url: "/login/" not in url)
