"""A client's web and clock processes: several side by side, restarted, and as in development."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from getpass import getuser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from conftest import SOON_SECONDS, Api, System
from embedded.ports import LOOPBACK, free_port, http_answers
from embedded.process import Process
from embedded.servers import REPOSITORY
from sockets import cookie_of, socket
from usercast.testing import eventually

NGINX = REPOSITORY / "infra" / "nginx"


@contextmanager
def running(
    system: System, name: str, command: str, *, port: int = 0, **variables: str
) -> Iterator[Process]:
    """One more process of the client billing, stopped after the block."""
    spec = system.processes["billing-web"]
    process = Process(
        command, env={**spec.env, **variables}, cwd=spec.cwd, log=system.log(f"billing-{name}")
    )
    process.start()
    try:
        if port:
            url = f"http://{LOOPBACK}:{port}"
            eventually(lambda: http_answers(url), within=SOON_SECONDS, what=f"an answer at {url}")
        yield process
    finally:
        process.stop()


@contextmanager
def nginx(
    system: System, port: int, servers: list[int], directory: Path, **variables: str
) -> Iterator[Process]:
    """Our image's nginx, but for where it listens, keeps its files and finds the web processes."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.fail("This test needs nginx: apt-get install nginx-light", pytrace=False)
    upstream = "".join(f"server {LOOPBACK}:{server}; " for server in servers)
    other = {
        # First: what is put in by the others may lie there, too.
        "/tmp/": f"{directory}/",
        # In the image it is nobody's servant; here it must read what only this user may.
        "worker_processes 2;": f"user {getuser()}; worker_processes 1;",
        "listen 8080;": f"listen {LOOPBACK}:{port};",
        "http://web:8000": "http://web",
        "http {": f"http {{ upstream web {{ {upstream} }}",
        "include proxy": f"include {NGINX}/proxy",
        "exec nginx": f"exec {program} -c {directory}/nginx.conf -e {directory}/error.log",
    }
    for name in ("nginx.conf", "start"):
        text = (NGINX / name).read_text()
        for ours, here in other.items():
            text = text.replace(ours, here)
        (directory / name).write_text(text)
    command = f"exec sh {directory}/start"
    with running(system, "nginx", command, port=port, **variables) as process:
        yield process


def sockets_of(process: Process, port: int) -> int:
    connections = psutil.Process(process.pid).net_connections(kind="tcp")
    return sum(c.status == "ESTABLISHED" and c.laddr.port == port for c in connections)


@pytest.mark.embedded
def test_web_processes_behind_nginx_work_alike(
    system: System, master: Api, clients: dict[str, Api], tmp_path: Path
) -> None:
    """Two of them; each has a page's socket, a change reaches both, and one may be restarted."""
    login = clients["billing"].login
    front, one, two = free_port(), free_port(), free_port()
    url = f"http://{LOOPBACK}:{front}"
    web = system.processes["billing-web"].command
    origins = {"ALLOWED_ORIGINS": url}
    with (
        running(system, "web-1", web, port=one, PORT=str(one), **origins) as first,
        running(system, "web-2", web, port=two, PORT=str(two), **origins) as second,
        nginx(system, front, [one, two], tmp_path),
    ):
        cookie = cookie_of(url, login)
        with socket(url, cookie) as left, socket(url, cookie) as right:
            hello = left.until("hello")
            right.until("hello")
            assert (sockets_of(first, one), sockets_of(second, two)) == (1, 1)
            user = master.create()
            for each in (left, right):
                frame = each.until("changes", cursor=hello["cursor"] + 1)
                assert [change["user_id"] for change in frame["changes"]] == [user["id"]]
            first.stop()
            # The page of that one is told to come back; the other's goes on.
            codes = [each.closes(within=3) for each in (left, right)]
            assert sorted(codes, key=bool) == [None, 1012]
            # Its page comes back to the process that is left.
            with socket(url, cookie) as again:
                master.delete(user["id"])
                again.until("changes", cursor=frame["cursor"] + 1)


@pytest.mark.embedded
def test_nginx_ends_although_a_page_is_open(
    system: System, clients: dict[str, Api], tmp_path: Path
) -> None:
    """The next one waits for its port. The page is told, and comes again."""
    front, server = free_port(), free_port()
    url = f"http://{LOOPBACK}:{front}"
    web = system.processes["billing-web"].command
    with (
        running(system, "web-1", web, port=server, PORT=str(server), ALLOWED_ORIGINS=url),
        nginx(system, front, [server], tmp_path) as process,
        socket(url, cookie_of(url, clients["billing"].login)) as page,
    ):
        page.until("hello")
        os.kill(process.pid, signal.SIGQUIT)
        assert page.closes(within=SOON_SECONDS)
        eventually(lambda: not process.running, within=SOON_SECONDS, what="nginx ended")


class Mirror(BaseHTTPRequestHandler):
    """Answers with what it was asked, headers and all."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def mirror() -> Iterator[int]:
    """The port of a server in a web process's place."""
    server = ThreadingHTTPServer((LOOPBACK, 0), Mirror)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


FORGED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=203.0.113.9",
}


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("hop", "address", "scheme"),
    [
        ("", LOOPBACK, "http"),
        ("198.51.100.0/24", LOOPBACK, "http"),
        (f"198.51.100.0/24 {LOOPBACK}", "203.0.113.7", "https"),
    ],
    ids=["none", "another", "this one"],
)
def test_nginx_believes_its_trusted_hop_alone(
    system: System, mirror: int, tmp_path: Path, hop: str, address: str, scheme: str
) -> None:
    """The service sees one address and one scheme, whatever else the caller has written."""
    front = free_port()
    with nginx(system, front, [mirror], tmp_path, TRUSTED_HOP=hop):
        seen = httpx.get(f"http://{LOOPBACK}:{front}/", headers=FORGED).json()
    assert (seen["X-Forwarded-For"], seen["X-Forwarded-Proto"]) == (address, scheme)
    assert "Forwarded" not in seen
    assert seen["Host"] == f"{LOOPBACK}:{front}"


@pytest.mark.embedded
def test_nginx_keeps_to_itself_what_is_not_for_the_outside(
    system: System, mirror: int, tmp_path: Path
) -> None:
    front = free_port()
    with nginx(system, front, [mirror], tmp_path), httpx.Client() as http:
        url = f"http://{LOOPBACK}:{front}"
        for path in ("/metrics", "/readyz"):
            assert http.get(url + path).status_code == 404, path
        assert http.get(f"{url}/livez").status_code == 200
        # Said by nginx, of its own answers too; and by it alone.
        for path in ("/", "/metrics", "/static/none"):
            said = http.get(url + path).headers.get_list("X-Content-Type-Options")
            assert said == ["nosniff"], path
        # The largest import, and no more.
        assert http.post(f"{url}/", content=b"x" * 50 * 1024**2).status_code == 200
        assert http.post(f"{url}/", content=b"x" * 52 * 1024**2).status_code == 413
        assert "nginx/" not in http.get(f"{url}/").headers["Server"]


@pytest.mark.embedded
def test_nginx_asks_another_process_when_one_is_gone(
    system: System, mirror: int, tmp_path: Path
) -> None:
    front, gone = free_port(), free_port()
    with nginx(system, front, [gone, mirror], tmp_path), httpx.Client() as http:
        for _ in range(10):
            assert http.post(f"http://{LOOPBACK}:{front}/", content=b"x").status_code == 200


def test_restarted_server_says_so(
    system: System, clients: dict[str, Api], everything_runs: None
) -> None:
    client = clients["billing"]
    cookie = cookie_of(client.login["url"], client.login)
    with socket(client.login["url"], cookie) as open_page:
        open_page.until("hello")
        system.stop("billing-web")
        assert open_page.closes(within=SOON_SECONDS) == 1012


@pytest.mark.embedded
def test_development_server_is_live_too(
    system: System, master: Api, clients: dict[str, Api]
) -> None:
    """``manage.py runserver``, which is daphne's."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    command = f"exec python manage.py runserver --noreload {LOOPBACK}:{port}"
    with running(system, "runserver", command, port=port, ALLOWED_ORIGINS=url):
        login = clients["billing"].login
        with socket(url, cookie_of(url, login)) as page:
            cursor = page.until("hello")["cursor"]
            user = master.create()
            page.until("changes", cursor=cursor + 1)
            page.until("tick")
        master.delete(user["id"])
        assert "daphne" in system.log("billing-runserver").read_text().lower()


@pytest.mark.embedded
def test_two_clocks_never_tick_twice(
    system: System, clients: dict[str, Api], tmp_path: Path
) -> None:
    client = clients["billing"]
    cookie = cookie_of(client.login["url"], client.login)
    clock = system.processes["billing-clock"].command
    log = system.log("billing-clock-2")
    with (
        running(system, "clock-2", clock, STATE_DIR=str(tmp_path)),
        socket(client.login["url"], cookie) as page,
    ):
        eventually(lambda: "ready" in log.read_text(), within=SOON_SECONDS)
        ticks = [
            datetime.fromisoformat(frame["time"])
            for frame in page.during(5)
            if frame["type"] == "tick"
        ]
    assert len(ticks) >= 5
    # Two beats of half a second each would tick four times a second.
    assert min(later - earlier for earlier, later in pairwise(ticks)) > timedelta(seconds=0.3)


def test_tick_waits_behind_no_work(
    system: System, clients: dict[str, Api], everything_runs: None
) -> None:
    """The worker is stopped and its queue full of work; the clock goes on."""
    client = clients["billing"]
    cookie = cookie_of(client.login["url"], client.login)
    system.stop("billing-worker")
    system.manage(
        "billing",
        "shell",
        "-c",
        "from usercast_client.live.tasks import trim_feed; [trim_feed.delay() for _ in range(500)]",
    )
    with socket(client.login["url"], cookie) as page:
        assert len([f for f in page.during(3) if f["type"] == "tick"]) >= 3


@pytest.mark.parametrize("path", ["/ws/live/", "/ws/me/"])
def test_foreign_page_gets_no_socket(clients: dict[str, Api], path: str) -> None:
    client = clients["billing"]
    url = client.login["url"]
    cookie = cookie_of(url, client.login)
    for origin in ("https://evil.example", ""):
        answer = httpx.get(
            url + path,
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                "Cookie": cookie,
                **({"Origin": origin} if origin else {}),
            },
            trust_env=False,
        )
        assert answer.status_code == 403
