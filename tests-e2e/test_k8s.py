"""The services on Kubernetes: valid, whole, with least rights, and the same in each overlay."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from test_observability_deploy import run

pytestmark = pytest.mark.static
Resource = dict[str, Any]
Resources = list[Resource]

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "infra" / "k8s"
OVERLAYS = ["staging", "production"]
#: Of operators, not of Kubernetes itself: held against schemas of our own.
FOREIGN = {path.stem: json.loads(path.read_text()) for path in KUBERNETES.glob("schemas/*.json")}
CLIENTS = {path.name for path in (KUBERNETES / "clients").iterdir()}
PROCESSES = {
    "master": {"web", "relay", "worker", "beat"},
    **{client: {"web", "poller", "worker", "clock"} for client in CLIENTS},
}
ONCE = {"beat", "clock"}
SCALED_BY = {"web": "HorizontalPodAutoscaler", "worker": "ScaledObject", "poller": "ScaledObject"}
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
#: A peer of a NetworkPolicy (as JSON), a port and a protocol.
Way = tuple[str, int, str]


def namespace(name: str) -> Resource:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def block(cidr: str) -> Resource:
    return {"ipBlock": {"cidr": cidr}}


def ways(peers: Resources, ports: Iterable[int], protocols: Iterable[str] = ("TCP",)) -> set[Way]:
    """Each of the peers at each of the ports."""
    who = [json.dumps(peer, sort_keys=True) for peer in peers]
    return set(product(who, ports, protocols))


def allowed(rules: Resources) -> set[Way]:
    """What the rules of one direction let through."""
    found: set[Way] = set()
    for rule in rules:
        peers = rule.get("to") or rule.get("from") or [ANYWHERE]
        for port in rule["ports"]:
            assert port.keys() <= {"port", "protocol"}
            found |= ways(peers, [port["port"]], [port.get("protocol", "TCP")])
    return found


#: A rule that names nobody.
ANYWHERE: Resource = {}
TRAEFIK = namespace("traefik")
#: CoreDNS, and NodeLocal DNSCache.
DNS = ways([namespace("kube-system"), block("169.254.20.10/32")], [53], ["UDP", "TCP"])
#: PostgreSQL and Redis, at private addresses.
DATA = ways([*map(block, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))], [5432, 6379])
AWS = ways([ANYWHERE], [443])
#: Where each process has to get to, by what it does; and it may get nowhere else.
NEEDS: dict[tuple[str, str], set[Way]] = {
    ("master", "web"): set(),
    ("master", "relay"): AWS,
    ("master", "worker"): AWS,
    ("master", "beat"): set(),
    ("master", "migrate"): set(),
    ("client", "web"): set(),
    ("client", "poller"): AWS,
    ("client", "worker"): AWS | ways([TRAEFIK], [8443]),
    ("client", "clock"): set(),
    ("client", "migrate"): set(),
}
#: A client's name is no longer than this, of the 63 characters of its Job's.
LONGEST = 38
#: What somebody else than the settings reads.
NOT_OURS = {"AWS_DEFAULT_REGION"}


def render(directory: Path) -> Resources:
    # The parser in C: a thousand lines take the one in Python half a second.
    return list(yaml.load_all(run("kubectl", "kustomize", directory), Loader=yaml.CSafeLoader))


_rendered: dict[str, Resources] = {}


@pytest.fixture(params=OVERLAYS)
def resources(request: pytest.FixtureRequest) -> Resources:
    """All that `kubectl apply --kustomize` would put into a cluster."""
    return overlay(request.param)


def overlay(name: str) -> Resources:
    if name not in _rendered:
        _rendered[name] = render(KUBERNETES / "overlays" / name)
    return deepcopy(_rendered[name])


@pytest.fixture(scope="module")
def with_secrets(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    """Production with the component for External Secrets turned on, as its head says."""
    copy = shutil.copytree(KUBERNETES, tmp_path_factory.mktemp("secrets") / "k8s")
    file = copy / "overlays" / "production" / "kustomization.yaml"
    on = "components: [../../components/external-secrets, ../../components/environment]"
    file.write_text(file.read_text().replace("components: [../../components/environment]", on))
    return render(file.parent)


def of(resources: Resources, *kinds: str) -> dict[str, Resource]:
    """The resources of these kinds by their names."""
    found = [one for one in resources if one["kind"] in kinds]
    named = {one["metadata"]["name"]: one for one in found}
    assert len(named) == len(found) > 0, kinds
    return named


def pods(resources: Resources, *kinds: str) -> dict[str, Resource]:
    """The pods' templates of Deployments and Jobs, by the names of these."""
    found = of(resources, *(kinds or ("Deployment", "Job")))
    return {name: one["spec"]["template"] for name, one in found.items()}


def labels(template: Resource) -> dict[str, str]:
    found: dict[str, str] = template["metadata"]["labels"]
    return found


def main(template: Resource) -> Resource:
    [container] = template["spec"]["containers"]
    found: Resource = container
    return found


def containers(template: Resource) -> list[Resource]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def selects(selector: Resource, given: dict[str, str]) -> bool:
    """Whether a selector takes something with these labels."""
    for one in selector.get("matchExpressions", []):
        within = given.get(one["key"]) in one["values"]
        if within != {"In": True, "NotIn": False}[one["operator"]]:
            return False
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= given.items()


def scalers(resources: Resources) -> Iterator[tuple[str, str, int]]:
    """What says how many there are: its kind, of which Deployment, and how many at least."""
    for one in of(resources, "HorizontalPodAutoscaler", "ScaledObject").values():
        spec = one["spec"]
        least = spec.get("minReplicas") or spec.get("minReplicaCount")
        # Kubernetes and KEDA both ask for this, and no schema can.
        assert least <= (spec.get("maxReplicas") or spec.get("maxReplicaCount"))
        yield one["kind"], spec["scaleTargetRef"]["name"], least


def settings(resources: Resources, template: Resource) -> dict[str, str]:
    """The environment that a pod's containers have."""
    for container in containers(template):
        assert "env" not in container
    [name] = {
        source["configMapRef"]["name"]
        for container in containers(template)
        for source in container["envFrom"]
    }
    found: dict[str, str] = of(resources, "ConfigMap")[name]["data"]
    return found


# Valid.


@pytest.mark.parametrize("version", ["1.32", "1.35", "1.37"])
def test_kubernetes_takes_every_resource(version: str, resources: Resources) -> None:
    ours = [one for one in resources if one["kind"] not in FOREIGN]
    assert len(ours) > 40
    for resource in ours:
        kubernetes_validate.validate(resource, version, strict=True)


def test_the_operators_take_their_objects(resources: Resources, with_secrets: Resources) -> None:
    seen = set()
    for resource in [*resources, *with_secrets]:
        if schema := FOREIGN.get(resource["kind"]):
            Draft202012Validator(schema).validate(resource)
            seen.add(resource["kind"])
    assert seen == set(FOREIGN)


def parts(found: Any) -> Iterator[dict[str, Any]]:
    """A resource and all objects in it, but those whose keys are anybody's."""
    inner = found if isinstance(found, list) else []
    if isinstance(found, dict):
        yield found
        inner = [found[key] for key in found if key not in ("labels", "annotations")]
    for one in inner:
        yield from parts(one)


def test_a_field_that_an_operator_does_not_know_is_found(with_secrets: Resources) -> None:
    for resource in with_secrets:
        if schema := FOREIGN.get(resource["kind"]):
            Draft202012Validator.check_schema(schema)
            for part in parts(resource):
                part["misspelt"] = "x"
                with pytest.raises(ValidationError):
                    Draft202012Validator(schema).validate(resource)
                del part["misspelt"]


def test_nothing_is_left_to_be_filled_in(resources: Resources, with_secrets: Resources) -> None:
    left = r"\b(CLIENT|DOMAIN|REGION|ACCOUNT|SERVICE)\b"
    assert not re.findall(left, yaml.safe_dump([*resources, *with_secrets]))


def test_everything_is_in_the_one_namespace(resources: Resources) -> None:
    assert of(resources, "Namespace").keys() == {"usercast"}
    for one in resources:
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == "usercast", one["metadata"]["name"]


# Processes.


def test_every_process_is_there_and_prometheus_finds_it(resources: Resources) -> None:
    found: dict[str, set[str]] = {}
    for name, template in pods(resources, "Deployment").items():
        service, process = labels(template)[NAME], labels(template)[COMPONENT]
        found.setdefault(service, set()).add(process)
        assert name == f"{service}-{process}"
        assert main(template)["args"] == [process]
        image = "usercast-master" if service == "master" else "usercast-client"
        for container in containers(template):
            assert container["image"].rpartition("/")[2].partition(":")[0] == image
        port = ("http", 8000) if process == "web" else ("metrics", 9464)
        assert [(one["name"], one["containerPort"]) for one in main(template)["ports"]] == [port]
    assert found == PROCESSES


def test_a_process_is_watched_by_its_own_health(resources: Resources) -> None:
    for name, template in pods(resources, "Deployment").items():
        process, container = labels(template)[COMPONENT], main(template)
        live: Resource
        ready: Resource
        probes = {
            kind: container[f"{kind}Probe"].get("httpGet") or container[f"{kind}Probe"]["exec"]
            for kind in ("startup", "liveness", "readiness")
        }
        if process == "web":
            live, ready = ({"path": path, "port": "http"} for path in ("/livez", "/readyz"))
            assert container["readinessProbe"]["timeoutSeconds"] > 2, name
        else:
            healthy = ["python", "manage.py", "healthy", process]
            live, ready = {"command": healthy}, {"command": [*healthy, "--ready"]}
        assert probes == {"startup": live, "liveness": live, "readiness": ready}, name
        if process != "web":
            # An interpreter has to start each time.
            assert {container[f"{kind}Probe"]["timeoutSeconds"] for kind in probes} == {5}, name


def test_a_process_has_more_time_to_end_than_its_messages_are_hidden(resources: Resources) -> None:
    queues = (ROOT / "infra" / "aws" / "client.yaml").read_text()
    hidden = {int(one) for one in re.findall(r"VisibilityTimeout: (\d+)", queues)}
    assert hidden
    for name, template in pods(resources, "Deployment").items():
        grace = template["spec"]["terminationGracePeriodSeconds"]
        drain = main(template).get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        assert grace - drain.get("seconds", 0) > max(hidden), name
        assert bool(drain) == (labels(template)[COMPONENT] == "web"), name


def test_what_must_run_once_never_runs_twice(resources: Resources) -> None:
    scaled = {target for _, target, _ in scalers(resources)}
    for name, one in of(resources, "Deployment").items():
        once = labels(one["spec"]["template"])[COMPONENT] in ONCE
        assert (one["spec"].get("strategy", {}).get("type") == "Recreate") == once, name
        if once:
            assert one["spec"]["replicas"] == 1, name
            assert name not in scaled, name


def test_each_process_waits_for_the_migrations_of_its_own_image(resources: Resources) -> None:
    jobs = pods(resources, "Job")
    for name, template in pods(resources, "Deployment").items():
        [waiting] = template["spec"]["initContainers"]
        image = main(template)["image"]
        assert (waiting["args"], waiting["image"]) == (["migrated"], image), name
        tag = image.rpartition(":")[2]
        job = jobs[f"{labels(template)[NAME]}-migrate-{tag}"]
        assert (main(job)["args"], main(job)["image"]) == (["migrate"], image)
        assert "initContainers" not in job["spec"]
        assert settings(resources, job) == settings(resources, template)
    assert len(jobs) == len(PROCESSES)
    for job in of(resources, "Job").values():
        # Retries wait for 10 s, 20 s, 40 s and so on, up to 6 minutes; meanwhile nobody gives up.
        retries = sum(min(10 * 2**one, 360) for one in range(job["spec"]["backoffLimit"]))
        for one in of(resources, "Deployment").values():
            assert one["spec"]["progressDeadlineSeconds"] > retries + 300
        # Argo CD must not miss what goes by itself.
        assert "ttlSecondsAfterFinished" in job["spec"]
        assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "Sync"
        assert len(job["metadata"]["name"]) <= 63


# Selectors, and how many there are.


def test_every_selector_finds_the_pods_of_one_deployment(resources: Resources) -> None:
    templates = pods(resources)

    def found(selector: Resource) -> list[str]:
        return [name for name, one in templates.items() if selects(selector, labels(one))]

    for name, one in of(resources, "Deployment").items():
        assert found(one["spec"]["selector"]) == [name]
        for spread in one["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            assert found(spread["labelSelector"]) == [name]
    for name, one in of(resources, "PodDisruptionBudget").items():
        assert found(one["spec"]["selector"]) == [name]
    for name, one in of(resources, "Service").items():
        assert found({"matchLabels": one["spec"]["selector"]}) == [name]
        [port] = one["spec"]["ports"]
        ports = {each["name"] for each in main(templates[name])["ports"]}
        assert port["targetPort"] in ports


def test_one_alone_says_how_many_there_are(resources: Resources) -> None:
    deployments = of(resources, "Deployment")
    targets = [target for _, target, _ in scalers(resources)]
    assert len(targets) == len(set(targets))
    for name, one in deployments.items():
        assert ("replicas" in one["spec"]) != (name in targets), name
    kinds = {target: kind for kind, target, _ in scalers(resources)}
    assert kinds.keys() <= deployments.keys()
    for name, template in pods(resources, "Deployment").items():
        process = labels(template)[COMPONENT]
        kind = {
            "web": "HorizontalPodAutoscaler",
            "worker": "ScaledObject",
            "poller": "ScaledObject",
        }
        assert kinds.get(name) == kind.get(process), name
        # A share of what is requested is what it goes by.
        assert main(template)["resources"]["requests"].keys() == {"cpu", "memory"}


def test_no_budget_keeps_a_node_from_being_emptied(resources: Resources) -> None:
    for name, one in of(resources, "PodDisruptionBudget").items():
        assert one["spec"].keys() == {"maxUnavailable", "selector"}, name
        assert one["spec"]["maxUnavailable"] >= 1, name


def test_keda_looks_at_what_there_is(resources: Resources) -> None:
    scaled = of(resources, "ScaledObject")
    known = of(resources, "TriggerAuthentication")
    [outbox] = scaled["master-worker"]["spec"]["triggers"]
    gauges = (ROOT / "master-service/usercast_master/outbox/gauges.py").read_text()
    [metric] = re.findall(r"usercast_\w+", outbox["metadata"]["query"])
    assert f'"{metric}"' in gauges
    for client in CLIENTS:
        lanes = scaled[f"{client}-poller"]["spec"]["triggers"]
        queues = {one["metadata"]["queueURL"].rpartition("/")[2] for one in lanes}
        assert queues == {f"usercast-{client}-live", f"usercast-{client}-bulk"}
        [celery] = scaled[f"{client}-worker"]["spec"]["triggers"]
        assert celery["metadata"]["listName"] == "celery"
        for one in [*lanes, celery]:
            assert one["authenticationRef"]["name"] in known
            assert one["authenticationRef"]["name"].startswith(f"{client}-")
        redis = known[f"{client}-redis"]["spec"]["secretTargetRef"]
        assert {one["name"] for one in redis} == {f"{client}-secrets"}
    indexes = [
        one["spec"]["triggers"][0]["metadata"].get("databaseIndex", "0")
        for one in scaled.values()
        if one["metadata"]["name"].endswith("-worker")
    ]
    assert len(indexes) == len(set(indexes)) == len(PROCESSES)


def test_keda_gets_to_the_prometheus_that_it_asks(resources: Resources) -> None:
    [outbox] = of(resources, "ScaledObject")["master-worker"]["spec"]["triggers"]
    address = outbox["metadata"]["serverAddress"]
    found = re.fullmatch(r"http://(.+)\.(.+)\.svc:(\d+)", address)
    assert found is not None
    name, space, port = found.groups()
    there = [
        one
        for one in render(KUBERNETES / "observability")
        if one["metadata"].get("namespace") == space
    ]
    assert {"port": int(port)}.items() <= of(there, "Service")[name]["spec"]["ports"][0].items()
    rules = policies(there, "ingress", {NAME: name})
    assert allowed(rules) >= ways([namespace("keda")], [int(port)])


# Rights.


def test_pods_are_restricted(resources: Resources) -> None:
    given = of(resources, "Namespace")["usercast"]["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert given[f"pod-security.kubernetes.io/{mode}"] == "restricted"
    for name, template in pods(resources).items():
        spec = template["spec"]
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in container["resources"]["limits"], name
            mounts = container["volumeMounts"]
            writable = [one["mountPath"] for one in mounts if not one.get("readOnly")]
            assert writable == ["/tmp"], name
        assert {key for one in spec["volumes"] for key in one} == {"name", "secret", "emptyDir"}


def test_there_is_room_for_as_many_uploads_as_are_taken_at_once(resources: Resources) -> None:
    procfile = (ROOT / "master-service/Procfile").read_text()
    tables = (ROOT / "master-service/usercast_master/transfer/tables.py").read_text()
    [threads] = re.findall(r"^web: .* --threads (\d+)", procfile, re.MULTILINE)
    [size] = re.findall(r"^MAX_BYTES = (\d+) \* 1024 \* 1024$", tables, re.MULTILINE)
    for name, template in pods(resources).items():
        [tmp] = [one["emptyDir"] for one in template["spec"]["volumes"] if "emptyDir" in one]
        # On the node's disk: in memory, it would be the container's own.
        assert tmp.keys() == {"sizeLimit"}, name
        if name == "master-web":
            assert int(tmp["sizeLimit"].removesuffix("Mi")) > int(threads) * int(size)


def test_no_process_has_rights_in_the_cluster(resources: Resources) -> None:
    assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & {
        one["kind"] for one in resources
    }
    for name, template in pods(resources).items():
        assert template["spec"]["automountServiceAccountToken"] is False, name


def test_only_what_reaches_aws_has_a_role_there_and_its_own(resources: Resources) -> None:
    accounts = of(resources, "ServiceAccount")
    annotation = "eks.amazonaws.com/role-arn"
    used = set()
    for template in pods(resources).values():
        service, process = labels(template)[NAME], labels(template)[COMPONENT]
        account = template["spec"]["serviceAccountName"]
        used.add(account)
        role = accounts[account]["metadata"].get("annotations", {}).get(annotation, "")
        needs = NEEDS["master" if service == "master" else "client", process]
        right = "publisher" if service == "master" else process
        name = f"usercast-{service}-{right}" if needs >= AWS else ""
        assert role.partition(":role/")[2] == name
    assert used == accounts.keys()


# The network.


def policies(resources: Resources, direction: str, given: dict[str, str]) -> Resources:
    """The rules of one direction that hold for a pod with these labels."""
    specs = [one["spec"] for one in of(resources, "NetworkPolicy").values()]
    taken = [one for one in specs if selects(one["podSelector"], given)]
    assert any(direction.title() in one["policyTypes"] for one in taken), given
    return [rule for one in taken for rule in one.get(direction, [])]


def test_everything_is_denied_that_is_not_allowed(resources: Resources) -> None:
    assert of(resources, "NetworkPolicy")["default-deny"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    for one in of(resources, "NetworkPolicy").values():
        for rule in [*one["spec"].get("ingress", []), *one["spec"].get("egress", [])]:
            assert rule["ports"], one["metadata"]["name"]


def test_each_process_gets_where_it_has_to_and_nowhere_else(resources: Resources) -> None:
    for name, template in pods(resources).items():
        given = labels(template)
        needs = NEEDS["master" if given[NAME] == "master" else "client", given[COMPONENT]]
        assert allowed(policies(resources, "egress", given)) == needs | DNS | DATA, name


def test_the_ingress_controller_gets_to_the_pages_and_nobody_else(resources: Resources) -> None:
    for name, template in pods(resources).items():
        web = labels(template)[COMPONENT] == "web"
        ports = [main(template)["ports"][0]["containerPort"]] if web else []
        found = allowed(policies(resources, "ingress", labels(template)))
        assert found == ways([TRAEFIK], ports), name


def test_the_ingress_controller_gets_to_what_answers_for_a_certificate(
    resources: Resources,
) -> None:
    # As cert-manager labels the pod that it makes for HTTP-01.
    given = {"acme.cert-manager.io/http01-solver": "true", "acme.cert-manager.io/http-domain": "1"}
    assert allowed(policies(resources, "ingress", given)) == ways([TRAEFIK], [8089])
    assert allowed(policies(resources, "egress", given)) == DNS


def test_observability_asks_for_names_where_the_services_do() -> None:
    there = render(KUBERNETES / "observability")
    for space in ("usercast-observability", "usercast-logs"):
        within = [one for one in there if one["metadata"].get("namespace") == space]
        for name, template in pods(within, "Deployment", "StatefulSet", "DaemonSet").items():
            found = allowed(policies(within, "egress", labels(template)))
            assert {way for way in found if way[1] == 53} == DNS, name


def test_each_service_is_at_its_own_name_over_tls(resources: Resources) -> None:
    services = of(resources, "Service")
    hosts = set()
    for name, one in of(resources, "Ingress").items():
        [rule], [tls] = one["spec"]["rules"], one["spec"]["tls"]
        [path] = rule["http"]["paths"]
        assert tls["hosts"] == [rule["host"]]
        assert path["backend"]["service"]["name"] in services
        template = pods(resources, "Deployment")[name]
        given = settings(resources, template)
        assert given["ALLOWED_HOSTS"] == rule["host"]
        # Traefik alone stands in front.
        assert given["TRUSTED_PROXIES"] == "1"
        if labels(template)[NAME] != "master":
            assert given["ALLOWED_ORIGINS"] == f"https://{rule['host']}"
        hosts.add(rule["host"])
    assert len(hosts) == len(services) == len(PROCESSES)
    urls = {one["data"]["USERCAST_MASTER_URL"] for one in of(resources, "ConfigMap").values()}
    assert urls == {f"https://{of(resources, 'Ingress')['master-web']['spec']['rules'][0]['host']}"}


# Settings and secrets.

_LOAD = """
import json
from importlib import import_module
from django.conf import settings
from usercast import startup
startup.configure("{module}")
settings = import_module("{module}")
print(json.dumps({{"read": sorted(settings.env.given), "debug": settings.DEBUG}}))
"""


@pytest.mark.parametrize("service", sorted(PROCESSES))
def test_the_settings_read_all_that_is_given_and_lack_nothing(
    service: str, resources: Resources, tmp_path: Path
) -> None:
    side = "master" if service == "master" else "client"
    given = settings(resources, pods(resources, "Deployment")[f"{service}-web"])
    values = {"DATABASE_URL": "postgres://u:p@d/n", "REDIS_URL": "rediss://:p@r:6379/0"}
    for name in given:
        if name.endswith("_FILE"):
            file = tmp_path / name.removesuffix("_FILE")
            assert given[name] == f"/run/secrets/usercast/{file.name}"
            file.write_text(values.get(file.name, "a-secret"))
            given = {**given, name: str(file)}
    module = f"usercast_{side}.settings"
    answer = run(
        sys.executable,
        "-c",
        _LOAD.format(module=module),
        env={"PATH": os.environ["PATH"], **given},
        cwd=ROOT / f"{side}-service",
    )
    loaded = json.loads(answer)
    assert loaded["debug"] is False
    assert {name.removesuffix("_FILE") for name in given} - NOT_OURS <= set(loaded["read"])
    # What is optional to the settings, and not to a service in a cluster.
    wanted = {"METRICS_TOKEN", "USERCAST_MASTER_URL", "ALLOWED_HOSTS"}
    if side == "client":
        wanted |= {"USERCAST_MASTER_TOKEN"}
        assert given["USERCAST_CLIENT"] == service
    assert wanted <= {name.removesuffix("_FILE") for name in given}


def test_secrets_are_files_and_only_named(resources: Resources, with_secrets: Resources) -> None:
    assert "Secret" not in {one["kind"] for one in [*resources, *with_secrets]}
    named = set()
    for name, template in pods(resources).items():
        [volume] = [one for one in template["spec"]["volumes"] if "secret" in one]
        secret = volume["secret"]
        assert secret["secretName"] == f"{labels(template)[NAME]}-secrets", name
        assert secret["defaultMode"] == 0o440, name
        named.add(secret["secretName"])
        for container in containers(template):
            mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
            assert mounts[volume["name"]] == "/run/secrets/usercast", name
    for one in of(resources, "ConfigMap").values():
        plain = {name for name in one["data"] if re.search("(SECRET_KEY|_URL|TOKEN)$", name)}
        assert plain == {"USERCAST_MASTER_URL"}
    made = {one["spec"]["target"]["name"] for one in of(with_secrets, "ExternalSecret").values()}
    assert made == named
    [store] = of(with_secrets, "SecretStore")
    for one in of(with_secrets, "ExternalSecret").values():
        assert one["spec"]["secretStoreRef"]["name"] == store
    account = of(with_secrets, "SecretStore")[store]["spec"]["provider"]["aws"]["auth"]["jwt"]
    assert account["serviceAccountRef"]["name"] in of(with_secrets, "ServiceAccount")


# Overlays and clients.


def test_staging_and_production_differ_in_place_and_number_only() -> None:
    def same(name: str) -> Resources:
        text = yaml.safe_dump(overlay(name))
        file = KUBERNETES / "overlays" / name / "environment.yaml"
        for key, value in yaml.safe_load(file.read_text())["data"].items():
            text = text.replace(value, key.upper())
        text = re.sub(r"(-settings)-[a-z0-9]{10}\b", r"\1", text)
        found: Resources = yaml.safe_load(text)
        for one in found:
            if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
                for key in ("minReplicas", "minReplicaCount"):
                    one["spec"].pop(key, None)
        return sorted(found, key=lambda one: (one["kind"], one["metadata"]["name"]))

    def tagless(found: Resources) -> str:
        tags = {main(one)["image"].rpartition(":")[2] for one in pods(found).values()}
        text = yaml.safe_dump(found)
        for tag in tags:
            text = text.replace(tag, "TAG")
        return text

    staging, production = (same(name) for name in OVERLAYS)
    assert tagless(staging) == tagless(production)


def test_production_bears_the_loss_of_a_node() -> None:
    least = {target: number for _, target, number in scalers(overlay("production"))}
    assert {least[f"{service}-web"] for service in PROCESSES} == {2}


def test_an_overlay_says_every_image_once_and_exactly(resources: Resources) -> None:
    images = {one["image"] for template in pods(resources).values() for one in containers(template)}
    registry = r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com"
    pattern = registry + r"/usercast-(master|client):\d+\.\d+-[0-9a-f]{12}"
    assert all(re.fullmatch(pattern, image) for image in images), images
    assert len(images) == 2


def test_a_changed_setting_makes_new_pods(tmp_path: Path) -> None:
    copy = shutil.copytree(KUBERNETES, tmp_path / "k8s")
    file = copy / "base" / "master" / "settings.env"
    file.write_text(file.read_text() + "LOG_LEVEL=DEBUG\n")
    before, after = overlay("production"), render(copy / "overlays" / "production")
    were, are = pods(before), pods(after)
    changed = {name for name in were if are[name] != were[name]}
    assert changed == {name for name in were if name.startswith("master-")}


def with_clients(directory: Path, *names: str) -> Resources:
    """Production with these clients; one that there is not is a copy of billing."""
    copy = shutil.copytree(KUBERNETES, directory / "k8s")
    for name in {*names} - CLIENTS:
        for source in (copy / "clients" / "billing").iterdir():
            target = copy / "clients" / name / source.name
            target.parent.mkdir(exist_ok=True)
            target.write_text(source.read_text().replace("billing", name))
    file = copy / "overlays" / "production" / "kustomization.yaml"
    before, *_, after = re.split(r"  - \.\./\.\./clients/.+\n", file.read_text())
    lines = [f"  - ../../clients/{name}\n" for name in names]
    file.write_text(before + "".join(lines) + after)
    return render(file.parent)


@pytest.mark.parametrize(
    "name", ["warehouse-2", "a-b-c-d-e-f-g-h-i-j-k", "w" * LONGEST], ids=["short", "parts", "long"]
)
def test_a_further_client_is_a_directory_and_a_line(name: str, tmp_path: Path) -> None:
    before, after = overlay("production"), with_clients(tmp_path, *CLIENTS, name)
    added = [one for one in after if one not in before]
    assert [one for one in before if one not in after] == []
    theirs = [one for one in before if one["metadata"]["name"].startswith("billing-")]

    def without_hash(found: Resources) -> str:
        ordered = sorted(found, key=lambda one: (one["kind"], one["metadata"]["name"]))
        return re.sub(r"(-settings)-[a-z0-9]{10}\b", r"\1", yaml.safe_dump(ordered))

    assert without_hash(added) == without_hash(theirs).replace("billing", name)
    for one in added:
        # A Job's name is a label of its pods, and a Service's a part of a host's name.
        assert len(one["metadata"]["name"]) <= 63


@pytest.mark.parametrize("names", [["support"], []], ids=["another", "none"])
def test_an_overlay_can_do_without_a_client(names: list[str], tmp_path: Path) -> None:
    without = [f"{name}-" for name in CLIENTS - {*names}]
    rest = [
        one
        for one in overlay("production")
        if not one["metadata"]["name"].startswith(tuple(without))
    ]
    assert with_clients(tmp_path, *names) == rest


def test_the_longest_name_of_a_client_is_told() -> None:
    images = [main(one)["image"] for one in pods(overlay("production"), "Job").values()]
    assert {len(f"-migrate-{one.rpartition(':')[2]}") for one in images} == {63 - LONGEST}
    for file in ("README.md", "clients/billing/kustomization.yaml"):
        assert f"at most {LONGEST} characters" in (KUBERNETES / file).read_text(), file


def test_the_master_can_be_there_alone_first(resources: Resources, with_secrets: Resources) -> None:
    """The README applies what has its label, after the namespace and before the clients."""
    shared = render(KUBERNETES / "base" / "namespace")
    found = set()
    for one in resources:
        if one not in shared:
            name = one["metadata"]["labels"][NAME]
            assert one["metadata"]["name"].startswith(f"{name}-"), one["metadata"]["name"]
            found.add(name)
    assert found == PROCESSES.keys()
    for name, one in of(with_secrets, "ExternalSecret").items():
        assert one["metadata"]["labels"][NAME] == name
    for one in [
        *of(with_secrets, "SecretStore").values(),
        of(with_secrets, "ServiceAccount")["external-secrets"],
    ]:
        assert one["metadata"]["labels"][NAME] == "external-secrets"


# The README.

README = (KUBERNETES / "README.md").read_text()


def test_each_command_says_where_and_none_waits_for_half_a_minute_only() -> None:
    commands = re.findall(r"kubectl [^`\n]+", README.replace("\\\n", " "))
    assert len(commands) > 8
    for command in commands:
        where = ("--namespace usercast ", "apply --kustomize infra/k8s/")
        assert command.removeprefix("kubectl ").startswith(where), command
        assert " wait " not in command or "--timeout=30m" in command, command


def test_there_is_memory_for_the_commands_that_are_run_beside_a_process() -> None:
    named = set(re.findall(r"exec (?:-it )?deployment/([a-z-]+)", README))
    assert named == {"master-web", "master-worker", "billing-worker"}
    templates = pods(overlay("production"), "Deployment")
    for name in named:
        # A process has 130 MB, and `bootstrap` beside it 164 MB at most.
        assert main(templates[name])["resources"]["limits"] == {"memory": "512Mi"}, name
