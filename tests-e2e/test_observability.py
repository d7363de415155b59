"""The running system, observed: its logs in Elasticsearch's terms, one trace, real alerts."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page
from prometheus_client.parser import text_string_to_metric_families

from collector import Collector, Span
from conftest import CLIENTS, SOON_SECONDS, Api, System, address
from embedded.observing import CONFIGURATION, metrics_token, prometheus
from embedded.ports import LOOPBACK, free_port, http_answers
from embedded.process import Process
from observability import index_template, metrics_used
from pages import live
from shipper import ship
from usercast.testing import eventually

#: Words that only these tests write, and that no log may hold.
SECRET_NAME = "Zebedäus"
SECRET_SURNAME = "O'Quuxley"
SECRET_PASSWORD = "correct-horse-zebra-staple-9"
SECRET_E_MAIL = "zebedaeus.quuxley@private.example.org"


def log_lines(system: System) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line that a process of ours has logged in this session, and whose it is."""
    for name in system.processes:
        for line in system.log(name).read_text().splitlines():
            if line.startswith("{"):
                yield name, json.loads(line)


def of_trace(system: System, trace_id: str) -> dict[str, set[str]]:
    """What each process has logged of a trace."""
    found: dict[str, set[str]] = {}
    for name, line in log_lines(system):
        named = line.get("trace", {}).get("id", ())
        if trace_id == named or (isinstance(named, list) and trace_id in named):
            found.setdefault(name, set()).add(line["message"])
    return found


def traceparent() -> str:
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"


def test_one_correlation_id_follows_a_change_from_the_request_to_the_push(
    system: System,
    master: Api,
    arrives: Callable[..., None],
    visit: Callable[..., Page],
) -> None:
    """The dashboards are open: without a page there is nobody to push to."""
    for client in CLIENTS:
        live(visit("/", client=client))
    ours = traceparent()
    answer = master.http.post(
        "/api/v1/users/",
        json={"username": f"traced{os.urandom(4).hex()}"},
        headers={"traceparent": ours, "X-Request-ID": "from-the-test"},
    )
    assert answer.headers["X-Request-ID"] == "from-the-test"
    user = answer.raise_for_status().json()
    arrives(user["id"], user)

    def told() -> dict[str, set[str]]:
        return of_trace(system, ours[3:35])

    def everywhere() -> bool:
        found = told()
        publisher = {"published"} <= found.get("master-worker", set()) | found.get(
            "master-relay", set()
        )
        return (
            publisher
            and "request" in found.get("master-web", ())
            and all(
                "applied" in found.get(f"{name}-poller", ())
                and "pushed" in found.get(f"{name}-web", ())
                for name in CLIENTS
            )
        )

    eventually(everywhere, within=SOON_SECONDS, what="every step having logged the trace")


def test_lines_have_the_types_of_the_index(system: System, master: Api) -> None:
    """Every line of every process so far, by a strict mapping, as Elasticsearch would apply it."""
    master.http.get("/api/v1/users/not-an-id/")
    paths = [system.log(name) for name in system.processes]
    refusals = ship(paths, index_template())
    assert not refusals, refusals[:5]
    lines = list(log_lines(system))
    assert {line["service"]["name"] for _, line in lines} == {
        "usercast-master",
        "usercast-billing",
        "usercast-support",
    }
    for name, line in lines:
        assert line["process"]["name"] == name.partition("-")[2], line
    assert not [line for _, line in lines if "labels" in line], "a field without a type"


def test_nobodys_data_is_in_any_log(
    system: System, master: Api, clients: dict[str, Api], arrives: Callable[..., None]
) -> None:
    """Such values everywhere they can be given, well and badly; then every log is searched."""
    state = {
        "username": f"zebedaeus{os.urandom(4).hex()}",
        "email": SECRET_E_MAIL,
        "first_name": SECRET_NAME,
        "last_name": SECRET_SURNAME,
        "password": SECRET_PASSWORD,
    }
    created = master.http.post("/api/v1/users/", json=state)
    state.pop("password")
    if created.status_code == 400:
        created = master.http.post("/api/v1/users/", json=state)
    user = created.raise_for_status().json()
    arrives(user["id"], user)
    # Refused: a name that is taken, values that are no such values, bodies that are no JSON.
    for body in (state, {**state, "is_active": SECRET_NAME}, {**state, "email": SECRET_SURNAME}):
        assert master.http.post("/api/v1/users/", json=body).status_code == 400
    master.http.post(
        "/api/v1/users/",
        content=f'{{"username": "{SECRET_NAME}',
        headers={"Content-Type": "application/json"},
    )
    for path in (
        f"/api/v1/users/?search={SECRET_E_MAIL}",
        f"/api/v1/users/{SECRET_NAME}/",
        f"/admin/accounts/user/?q={SECRET_SURNAME}",
        f"/nowhere/{SECRET_NAME}/{SECRET_E_MAIL}",
    ):
        for api in (master, *clients.values()):
            api.http.get(path)
    for api in (master, *clients.values()):
        login = "/admin/login/" if api is master else "/login/"
        page = api.http.get(login)
        api.http.post(
            login,
            data={
                "username": state["username"],
                "password": SECRET_PASSWORD,
                "csrfmiddlewaretoken": page.cookies[next(iter(page.cookies))],
            },
            headers={"Referer": api.login["url"] + login},
        )
        api.http.get("/api/v1/users/", headers={"Authorization": f"Token {SECRET_PASSWORD}"})
        api.http.get("/api/v1/users/", headers={"Host": SECRET_E_MAIL})
        # Without the token against forgery, to a path that somebody made up.
        forged = api.http.post(f"/admin/auth/group/{SECRET_NAME}/change/")
        assert forged.status_code == 403
    changed = master.change(user["id"], first_name=SECRET_SURNAME, last_name=SECRET_NAME)
    arrives(user["id"], changed)
    ours = traceparent()
    deleted = master.http.delete(f"/api/v1/users/{user['id']}/", headers={"traceparent": ours})
    deleted.raise_for_status()
    arrives(user["id"], None)
    pollers = {f"{client}-poller" for client in clients}
    eventually(
        lambda: pollers <= of_trace(system, ours[3:35]).keys(),
        within=SOON_SECONDS,
        what="the last line of the deletion",
    )
    tokens = [login["api_token"] for login in (master.login, *(c.login for c in clients.values()))]
    passwords = [master.login["password"], *(api.login["password"] for api in clients.values())]
    secrets = [
        state["username"],
        SECRET_NAME,
        SECRET_SURNAME,
        SECRET_PASSWORD,
        SECRET_E_MAIL,
        *tokens,
        *passwords,
        metrics_token(system.state_dir),
    ]
    for name in system.processes:
        text = system.log(name).read_text()
        for secret in secrets:
            for written in (secret, json.dumps(secret)[1:-1], quote(secret)):
                assert written not in text, f"{name}: {written}"


# Traces


@pytest.fixture
def collector(system: System, everything_runs: None) -> Iterator[Collector]:
    """Has what a change passes through send its spans here; afterwards all is as it was."""
    names = ["master-web", "master-relay", "master-worker", "billing-poller", "billing-web"]
    with Collector() as collecting:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collecting.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        traced = []
        for name in names:
            system.stop(name)
            spec = system.processes[name]
            log = system.log(name)
            traced.append(
                Process(spec.command, env={**spec.env, **variables}, cwd=spec.cwd, log=log)
            )
            traced[-1].start()
        yield collecting
        for process in traced:
            process.stop()


@pytest.mark.embedded
def test_change_is_one_trace_over_all_services(
    collector: Collector,
    master: Api,
    arrives: Callable[..., None],
    system: System,
    visit: Callable[..., Page],
) -> None:
    for name in ("master", "billing"):
        eventually(lambda url=system.services[name].url: http_answers(url), within=SOON_SECONDS)
    live(visit("/"))
    user = master.create()
    arrives(user["id"], user)

    def whole() -> dict[str, Span]:
        for spans in collector.traces().values():
            found = {span.name.partition(" ")[0]: span for span in spans}
            if {"POST", "mark", "publish", "receive", "apply", "push"} <= found.keys():
                return found
        return {}

    spans = eventually(whole, within=SOON_SECONDS, what="one trace with every span")
    chain = ["POST", "mark", "publish", "receive", "apply"]
    for parent, child in pairwise(chain):
        assert spans[child].parent == spans[parent].id, f"{child} is no child of {parent}"
    assert [spans[name].service for name in chain] == [
        "usercast-master",
        "usercast-master",
        "usercast-master",
        "usercast-billing",
        "usercast-billing",
    ]


# Metrics

#: How the series of a family are called.
ENDS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


def scrape(system: System, name: str) -> set[str]:
    """The names of all series that a process tells, or would once there is something to count."""
    headers = {}
    if name.endswith("-web"):
        headers = {"Authorization": f"Bearer {metrics_token(system.state_dir)}"}
    url = address(system, name) + "/metrics"
    answer = httpx.get(url, headers=headers, trust_env=False, timeout=10)
    families = text_string_to_metric_families(answer.raise_for_status().text)
    return {one.name + end for one in families for end in ENDS.get(one.type, ("",))}


def test_every_metric_in_a_rule_or_dashboard_is_told_by_some_process(
    system: System,
    master: Api,
    arrives: Callable[..., None],
    visit: Callable[..., Page],
) -> None:
    live(visit("/"))
    user = master.create()
    arrives(user["id"], user)

    def missing() -> set[str]:
        return metrics_used() - set().union(*(scrape(system, name) for name in system.processes))

    # The clients count what their queues hold every half minute.
    eventually(lambda: not missing(), within=SOON_SECONDS, what="nothing missing")


def test_metrics_of_the_web_are_for_who_has_the_token(apis: dict[str, Api]) -> None:
    for api in apis.values():
        assert api.http.get("/metrics").status_code == 404, "with the API's token"


@pytest.mark.embedded
def test_workers_of_one_process_answer_for_all(system: System, tmp_path: Path) -> None:
    spec = system.processes["master-web"]
    port, shared = free_port(), tmp_path / "shared"
    shared.mkdir()
    command = spec.command.replace("--workers 1", "--workers 3")
    assert command != spec.command
    process = Process(
        command,
        env={**spec.env, "PORT": str(port), "PROMETHEUS_MULTIPROC_DIR": str(shared)},
        cwd=spec.cwd,
        log=system.log("master-web"),
    )
    process.start()
    url = f"http://{LOOPBACK}:{port}"
    headers = {"Authorization": f"Bearer {metrics_token(system.state_dir)}"}
    try:
        eventually(lambda: http_answers(f"{url}/livez"), within=SOON_SECONDS)
        # A connection each, so that each may meet another worker.
        for _ in range(30):
            httpx.get(f"{url}/admin/login/", trust_env=False)
        for _ in range(5):
            text = httpx.get(f"{url}/metrics", headers=headers, trust_env=False).text
            seen = {
                sample.labels["view"]: sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "django_http_responses_total_by_status_view_method_total"
            }
            assert seen["admin:login"] == 30
        # The one that loaded the application, and each that has counted something.
        assert len({one.stem.rpartition("_")[2] for one in shared.glob("counter_*.db")}) > 2
    finally:
        process.stop()


class Prometheus:
    """A Prometheus of its own over the running system, and a blackbox exporter beside it."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=10)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        answer = self._http.get("/api/v1/query", params={"query": query}).raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def firing(self, alert: str) -> list[dict[str, str]]:
        """The labels of each instance of an alert that fires now."""
        found = self.ask(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
        return [one["metric"] for one in found]

    def close(self) -> None:
        self._http.close()

    def is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[int]:
    """A port that shows a certificate that ends within a fortnight."""
    port = free_port()
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = "openssl req -x509 -newkey rsa:2048 -nodes -days 14 -subj /CN=desk.example.org"
    subprocess.run(
        [*new.split(), "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    accept = f"openssl s_server -quiet -accept {LOOPBACK}:{port} -www"
    process = subprocess.Popen(
        [*accept.split(), "-key", str(key), "-cert", str(certificate)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield port
    process.terminate()
    process.wait()


@pytest.fixture
def watched(system: System, tmp_path: Path, tls: int) -> Iterator[Prometheus]:
    blackbox = free_port()
    certificate = {
        "targets": [f"{LOOPBACK}:{blackbox}"],
        "labels": {
            "__param_target": f"{LOOPBACK}:{tls}",
            "service": "master",
            "process": "https",
        },
    }
    directory = tmp_path / "prometheus"
    directory.mkdir()
    exporter = subprocess.Popen(
        [
            "prometheus-blackbox-exporter",
            f"--config.file={CONFIGURATION / 'blackbox.yml'}",
            f"--web.listen-address={LOOPBACK}:{blackbox}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        with (
            prometheus(system, directory, certificates=[certificate]) as url,
            closing(Prometheus(url)) as asked,
        ):
            eventually(asked.is_ready, within=SOON_SECONDS, what="Prometheus being ready")
            yield asked
    finally:
        exporter.terminate()
        exporter.wait()


@pytest.mark.embedded
@pytest.mark.timeout(400)
def test_alert_fires_when_a_poller_stops_and_ends_when_it_is_back(
    watched: Prometheus, system: System, everything_runs: None
) -> None:
    """A real Prometheus with the configuration that is deployed, over the real processes."""
    eventually(
        lambda: len(watched.ask('up{job!="certificates"} == 1')) == len(system.processes),
        within=SOON_SECONDS,
        what="all targets up",
    )
    eventually(
        lambda: len(watched.ask("usercast_client_lane_age_seconds < 20")) >= 2,
        within=SOON_SECONDS,
        what="the canary coming down the lanes of both clients",
    )
    assert watched.firing("UsercastPollerSilent") == []
    stopped_at = time.monotonic()
    system.stop("billing-poller")
    [alert] = eventually(
        lambda: watched.firing("UsercastPollerSilent"), within=120, what="the alert firing"
    )
    print(f"\nalert: poller silent {time.monotonic() - stopped_at:.0f} s after it stopped")
    assert (alert["client"], alert["severity"]) == ("billing", "page")
    system.start("billing-poller")
    eventually(
        lambda: not watched.firing("UsercastPollerSilent"), within=120, what="the alert ending"
    )
    # Of the certificate, from the blackbox exporter, once a minute; its alert waits for five.
    pending = eventually(
        lambda: watched.ask('ALERTS{alertname="UsercastCertificateNearExpiry"}'), within=120
    )
    assert [one["metric"]["service"] for one in pending] == ["master"]
    [expiry] = watched.ask("(probe_ssl_earliest_cert_expiry - time()) / 86400")
    assert 13 < float(expiry["value"][1]) <= 14
