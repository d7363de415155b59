"""What infra/observability holds, read for tests: rules, dashboards, the template of the index."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DIRECTORY = Path(__file__).parents[1] / "infra" / "observability"
PROMETHEUS = DIRECTORY / "prometheus"
ELASTICSEARCH = DIRECTORY / "elasticsearch"

#: What Prometheus itself and the blackbox exporter tell, and none of our processes.
NOT_OURS = {"ALERTS", "up", "probe_success", "probe_ssl_earliest_cert_expiry"}

#: Words of PromQL that stand where a metric could.
_WORDS = {"and", "or", "unless", "bool", "offset"}
_STRING = re.compile(r'"[^"]*"')
_BRACES = re.compile(r"\{[^{}]*\}|\[[^\]]*\]")
_LABELS = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w:$.])[a-zA-Z_:][\w:]*\b(?!\s*\()")
_LABEL_VALUES = re.compile(r"label_values\((.*), \w+\)")


class Expression(NamedTuple):
    """A query in PromQL, and where it stands."""

    where: str
    text: str


def rules() -> Iterator[dict[str, Any]]:
    """All recording and alert rules."""
    for path in sorted(PROMETHEUS.glob("rules/*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def dashboards() -> dict[str, dict[str, Any]]:
    """All dashboards, by the names of their files."""
    found = sorted(DIRECTORY.glob("grafana/dashboards/*.json"))
    return {path.name: json.loads(path.read_text()) for path in found}


def expressions() -> Iterator[Expression]:
    """All that rules and dashboards ask, with a value in place of each of Grafana's variables."""
    for rule in rules():
        yield Expression(rule.get("alert") or rule["record"], rule["expr"])
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield Expression(f"{name}: {panel['title']}", _filled_in(target["expr"]))
        for variable in dashboard["templating"]["list"]:
            asked = _LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert asked, (
                f"{name}: ${variable['name']} does not ask for label_values(metric, label)"
            )
            yield Expression(f"{name}: ${variable['name']}", _filled_in(asked[1]))


def _filled_in(expression: str) -> str:
    for variable, value in {
        "$__rate_interval": "1m",
        "$service": "billing",
        "$process": ".*",
    }.items():
        expression = expression.replace(variable, value)
    return expression


def metrics_in(expression: str) -> set[str]:
    """The names of all series that an expression selects, recorded ones among them."""
    for noise in (_STRING, _BRACES, _LABELS):
        expression = noise.sub(" ", expression)
    return set(_NAME.findall(expression)) - _WORDS


def metrics_used() -> set[str]:
    """Every series that a rule or a dashboard takes from our processes, as /metrics names it."""
    used = set(chain.from_iterable(metrics_in(text) for _, text in expressions()))
    return used - {rule.get("record") for rule in rules()} - NOT_OURS


def index_template() -> dict[str, Any]:
    """The index template with its components in it, as Elasticsearch would put them together."""
    template = _json("template.json")
    # setup puts each under this name.
    components = {f"usercast-{name}": _json(f"{name}.json") for name in ("fields", "shipped")}
    return composed(template, components)


def composed(template: dict[str, Any], components: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """An index template without ``composed_of``: the components' content is its own."""
    content: dict[str, Any] = {}
    for name in template["composed_of"]:
        content = _merged(content, components[name]["template"])
    rest = {name: value for name, value in template.items() if name != "composed_of"}
    return {**rest, "template": _merged(content, template["template"])}


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: _merged(one[name], other[name])
        for name in one.keys() & other.keys()
        if isinstance(one[name], dict) and isinstance(other[name], dict)
    }
    return {**one, **other, **both}


def types_of(mapping: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """The fields of a mapping and their types, by dotted names."""
    found: dict[str, str] = {}
    for name, field in mapping.get("properties", {}).items():
        if "properties" in field:
            found |= types_of(field, f"{path}{name}.")
        else:
            found[path + name] = field["type"]
    return found


def _json(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ELASTICSEARCH / name).read_text())
    return found
