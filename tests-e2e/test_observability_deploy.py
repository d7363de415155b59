"""The observability stack for compose, swarm and Kubernetes: valid, whole, the same three times."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from observability import DIRECTORY, ELASTICSEARCH, PROMETHEUS

pytestmark = pytest.mark.static
ROOT = DIRECTORY.parents[1]
COMPOSE = ROOT / "compose" / "observability.yaml"
SWARM = ROOT / "infra" / "swarm" / "observability.yaml"
KUBERNETES = ROOT / "infra" / "k8s" / "observability"
ACCOUNTS = ROOT / "infra" / "swarm" / "elasticsearch-accounts"
#: How Prometheus finds the processes, of each way but compose, which has the repository's own.
FINDING = {
    "swarm": ROOT / "infra" / "swarm" / "prometheus.yml",
    "kubernetes": KUBERNETES / "metrics" / "prometheus.yml",
}
#: What reads the logs of containers, which Docker and Kubernetes show to root alone.
AS_ROOT = {"filebeat"}


def run(*command: str | Path, **options: Any) -> str:
    """What a program says that has to be content; what it says otherwise is the failure."""
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not installed: see requirements/dev.in and .ci/run")
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@pytest.fixture(scope="module")
def resources() -> list[dict[str, Any]]:
    """All that `kubectl apply --kustomize` would put into a cluster."""
    return list(yaml.safe_load_all(run("kubectl", "kustomize", KUBERNETES)))


def pods(resources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The specifications of pods, by the names of their workloads."""
    return {
        resource["metadata"]["name"]: resource["spec"]["template"]["spec"]
        for resource in resources
        if "template" in resource.get("spec", {})
    }


def images(resources: list[dict[str, Any]]) -> set[str]:
    """Every image of all three ways."""
    services = [*read(COMPOSE)["services"].values(), *read(SWARM)["services"].values()]
    containers = [one for pod in pods(resources).values() for one in pod["containers"]]
    return {one["image"] for one in [*services, *containers]}


# All three.


@pytest.mark.parametrize("path", [COMPOSE, SWARM], ids=["compose", "swarm"])
def test_the_file_is_what_docker_takes(path: Path) -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def test_an_image_has_one_exact_version_everywhere(resources: list[dict[str, Any]]) -> None:
    tags = [image.rpartition(":")[::2] for image in images(resources)]
    assert all(re.fullmatch(r"v?\d+\.\d+\.\d+", tag) for _, tag in tags), tags
    assert len({name for name, _ in tags}) == len(tags) == 6
    assert len({tag for name, tag in tags if name.startswith("docker.elastic.co/")}) == 1


@pytest.mark.parametrize("path", [COMPOSE, SWARM], ids=["compose", "swarm"])
def test_a_container_may_do_only_what_it_has_to(path: Path) -> None:
    for name, service in read(path)["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["user"].startswith("0:") == (name in AS_ROOT), name
        assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}, name
        assert ("healthcheck" in service) == (name != "elasticsearch-setup"), name


@pytest.mark.parametrize("way", FINDING)
def test_prometheus_differs_only_in_how_it_finds_the_processes(way: str, tmp_path: Path) -> None:
    def rest(configuration: dict[str, Any]) -> dict[str, Any]:
        for job in configuration["scrape_configs"]:
            for key in [key for key in job if key.endswith("_sd_configs")]:
                del job[key]
            if job["job_name"] != "certificates":
                job.pop("relabel_configs", None)
            job.setdefault("metrics_path", "/metrics")
        return configuration

    assert rest(read(FINDING[way])) == rest(read(PROMETHEUS / "prometheus.yml"))

    # Debian builds promtool without Kubernetes; all else in that file it can check.
    text = re.sub(
        r"kubernetes_sd_configs:( &pods\n.*\n.*\n.*| \*pods)",
        "static_configs: []",
        FINDING[way].read_text(),
    )
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "metrics.token").write_text("t")
    (tmp_path / "rules").symlink_to(PROMETHEUS / "rules")
    (tmp_path / "targets").symlink_to(PROMETHEUS / "targets")
    run("promtool", "check", "config", tmp_path / "prometheus.yml")


# Compose and swarm.


def test_every_file_that_compose_mounts_is_there_and_cannot_be_written() -> None:
    mounted = 0
    for service in read(COMPOSE)["services"].values():
        for volume in service.get("volumes", []):
            source, _, *options = volume.split(":")
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists(), source
                assert options == ["ro"], volume
                mounted += 1
    assert mounted > 8


def test_every_file_of_the_swarm_is_there_under_a_name_of_its_version() -> None:
    stack = read(SWARM)
    for name, config in stack["configs"].items():
        assert (SWARM.parent / config["file"]).is_file(), config["file"]
        assert config["name"] == f"usercast-{name}-${{CONFIG_VERSION}}"
    for name, secret in stack["secrets"].items():
        version = name.upper().replace("-", "_") + "_VERSION"
        assert secret == {"external": True, "name": f"usercast-{name}-${{{version}:-v1}}"}
    for kind in ("configs", "secrets"):
        used = {
            one["source"] for service in stack["services"].values() for one in service.get(kind, [])
        }
        assert used == set(stack[kind])


def test_the_swarm_carries_every_file_of_its_directories() -> None:
    taken = {
        (SWARM.parent / config["file"]).resolve() for config in read(SWARM)["configs"].values()
    }
    for pattern in (
        "elasticsearch/*",
        "grafana/provisioning/*/*",
        "grafana/dashboards/*",
        "prometheus/rules/*",
    ):
        assert set(DIRECTORY.glob(pattern)) <= taken, pattern


def test_compose_publishes_to_its_own_machine_only() -> None:
    published = {
        name: service["ports"]
        for name, service in read(COMPOSE)["services"].items()
        if "ports" in service
    }
    assert set(published) == {"prometheus", "grafana", "kibana"}
    assert all(port.startswith("127.0.0.1:") for [port] in published.values())


def test_the_swarm_publishes_only_what_asks_for_a_password() -> None:
    services = read(SWARM)["services"]
    assert {name for name in services if "ports" in services[name]} == {"grafana", "kibana"}
    assert "GF_SECURITY_ADMIN_PASSWORD__FILE" in services["grafana"]["environment"]
    assert services["elasticsearch"]["environment"]["xpack.security.enabled"] == "true"


@pytest.mark.parametrize("path", [COMPOSE, SWARM], ids=["compose", "swarm"])
def test_the_logs_are_in_a_network_that_leads_nowhere(path: Path) -> None:
    file = read(path)
    inside = {name for name, one in file["services"].items() if "logs" in one["networks"]}
    assert file["networks"]["logs"]["internal"]
    assert inside == {"elasticsearch", "elasticsearch-setup", "kibana", "filebeat"}
    assert file["services"]["elasticsearch"]["networks"] == ["logs"]


def test_the_swarm_is_asked_only_for_what_it_does() -> None:
    """Of what compose knows, `docker stack deploy` leaves out these without a failure."""
    for name, service in read(SWARM)["services"].items():
        left_out = {"depends_on", "profiles", "restart", "security_opt", "tmpfs"}
        assert not left_out & service.keys(), name


def test_compose_starts_nothing_of_it_without_the_profile() -> None:
    for name, service in read(COMPOSE)["services"].items():
        assert service["profiles"] == ["observability"], name


@pytest.mark.parametrize(("file", "job"), [("web", "usercast-web"), ("processes", "usercast")])
def test_the_swarm_looks_for_the_same_processes_as_compose(file: str, job: str) -> None:
    [found] = [one for one in read(FINDING["swarm"])["scrape_configs"] if one["job_name"] == job]
    [dns] = found["dns_sd_configs"]
    labels = {one["target_label"]: re.compile(one["regex"]) for one in found["relabel_configs"]}
    in_swarm = {
        tuple(labels[label].fullmatch(name)[1] for label in ("service", "process"))  # type: ignore[index]
        for name in dns["names"]
    }
    targets = json.loads((PROMETHEUS / "targets" / f"{file}.json").read_text())
    assert in_swarm == {(one["labels"]["service"], one["labels"]["process"]) for one in targets}
    assert {one["targets"][0].partition(":")[2] for one in targets} == {str(dns["port"])}


# The accounts of the swarm's Elasticsearch.


@contextmanager
def asked() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    """A server that gives a key when asked; its URL, and each request's path, account and body."""
    requests: list[tuple[str, str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers["Authorization"], json.loads(body)))
            answer = b'{"id":"an-id","name":"usercast-setup","api_key":"a-key","encoded":"x"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: Any) -> None:
            """A test's output is its own."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def test_the_swarm_gives_kibana_and_filebeat_their_accounts_and_sets_up(tmp_path: Path) -> None:
    for name in ("elastic", "kibana", "filebeat"):
        (tmp_path / f"{name}.password").write_text(f"of{name}")
    with asked() as (url, requests):
        environment = {
            "PATH": os.environ["PATH"],
            "ELASTICSEARCH_URL": url,
            "SECRETS": str(tmp_path),
            "SETUP": str(ELASTICSEARCH / "setup"),
        }
        run("/bin/sh", ACCOUNTS, env=environment)
    by_path = {path: body for path, _, body in requests}
    assert by_path["/_security/user/kibana_system/_password"] == {"password": "ofkibana"}
    filebeat = by_path["/_security/user/usercast-filebeat"]
    assert filebeat == {"password": "offilebeat", "roles": ["usercast-filebeat"]}
    [indices] = by_path["/_security/role/usercast-filebeat"]["indices"]
    assert indices["names"] == ["logs-usercast-default"]
    assert "/_index_template/usercast-logs" in by_path
    # Base64 of elastic:ofelastic and of an-id:a-key.
    accounts = {path: account for path, account, _ in requests}
    assert {accounts[path] for path in accounts if path.startswith("/_security/")} == {
        "Basic ZWxhc3RpYzpvZmVsYXN0aWM="
    }
    assert {accounts[path] for path in accounts if not path.startswith("/_security/")} == {
        "ApiKey YW4taWQ6YS1rZXk="
    }


# Kubernetes.


@pytest.mark.parametrize("version", ["1.32", "1.35", "1.37"])
def test_kubernetes_takes_every_resource(version: str, resources: list[dict[str, Any]]) -> None:
    assert len(resources) > 20
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)


def test_only_filebeat_needs_more_than_restricted(resources: list[dict[str, Any]]) -> None:
    levels = {
        one["metadata"]["name"]: one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for one in resources
        if one["kind"] == "Namespace"
    }
    assert levels == {"usercast-observability": "restricted", "usercast-logs": "privileged"}
    for name, pod in pods(resources).items():
        assert (pod["securityContext"].get("runAsNonRoot", False)) == (name not in AS_ROOT), name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert any("hostPath" in volume for volume in pod["volumes"]) == (name in AS_ROOT), name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_only_prometheus_may_ask_kubernetes_and_only_for_pods(
    resources: list[dict[str, Any]],
) -> None:
    asking = {
        name
        for name, pod in pods(resources).items()
        if pod.get("automountServiceAccountToken", True)
    }
    assert asking == {"prometheus"}
    [role] = [one for one in resources if one["kind"].endswith("Role")]
    assert role["metadata"]["namespace"] == "usercast"
    [rule] = role["rules"]
    assert rule["resources"] == ["pods"]
    assert set(rule["verbs"]) == {"get", "list", "watch"}
    [binding] = [one for one in resources if one["kind"].endswith("RoleBinding")]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "prometheus", "namespace": "usercast-observability"}
    ]


def test_prometheus_reaches_the_ports_with_metrics_only(resources: list[dict[str, Any]]) -> None:
    policies = [one for one in resources if one["kind"] == "NetworkPolicy"]
    [out] = [one["spec"] for one in policies if one["metadata"]["name"] == "prometheus"]
    to_us = {
        port["port"]
        for rule in out["egress"]
        for port in rule["ports"]
        if any("namespaceSelector" in peer for peer in rule.get("to", []))
    }
    let_in = {
        port["port"]
        for one in policies
        if one["metadata"]["namespace"] == "usercast"
        for rule in one["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert to_us == let_in == {8000, 9464}


def test_secrets_are_only_named(resources: list[dict[str, Any]]) -> None:
    assert "Secret" not in {one["kind"] for one in resources}
