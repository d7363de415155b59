"""The files of infra/observability fit together and fit the code; no stack runs for these tests."""

import json
import os
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bulk_stub import Refused, check, elasticsearch
from embedded.observing import write_configuration
from observability import (
    DIRECTORY,
    ELASTICSEARCH,
    PROMETHEUS,
    dashboards,
    expressions,
    index_template,
    metrics_in,
    metrics_used,
    rules,
    types_of,
)
from shipper import ship, shipped
from usercast.logging import FIELDS

pytestmark = pytest.mark.static
OPERATIONS = DIRECTORY.parents[1] / "docs" / "operations.md"

PRIORITIES = ("urgent", "single", "bulk")
LANES = ("live", "bulk")
OUTCOMES = ("inserted", "updated", "deleted", "stale", "duplicate", "conflict", "rejected")
ANY: tuple[str, ...] = ()
#: Our metrics: the labels of each, and their values where these are few.
METRICS: dict[str, dict[str, tuple[str, ...]]] = {
    # The master's.
    "usercast_outbox_entries": {"priority": PRIORITIES},
    "usercast_outbox_oldest_seconds": {"priority": PRIORITIES},
    "usercast_outbox_parked": {},
    "usercast_changes_captured_total": {"priority": PRIORITIES},
    "usercast_changes_published_total": {"priority": PRIORITIES},
    "usercast_changes_refused_total": {},
    "usercast_changes_parked_total": {},
    "usercast_publish_failures_total": {},
    "usercast_publish_seconds": {},
    "usercast_message_changes": {},
    "usercast_client_report_age_seconds": {"client": ANY},
    "usercast_client_lane_age_seconds": {"client": ANY},
    "usercast_client_drift_users": {"client": ANY},
    "usercast_client_dead_letters": {"client": ANY},
    "usercast_dismissals_overdue": {},
    # A client's.
    "usercast_poll_loops_total": {"lane": LANES, "outcome": ("messages", "empty", "failed")},
    "usercast_changes_applied_total": {"outcome": OUTCOMES},
    "usercast_applied_lag_seconds": {"lane": LANES},
    "usercast_pushed_lag_seconds": {},
    "usercast_queue_messages": {"queue": ("live", "bulk", "dead", "undelivered")},
    "usercast_queue_oldest_seconds": {"queue": LANES},
    "usercast_sockets_open": {},
    "usercast_frames_sent_total": {},
    "usercast_feed_gaps_healed_total": {},
    "usercast_heartbeat_age_seconds": {},
    "usercast_drift_users": {},
    "usercast_compared_age_seconds": {},
    # Every process's.
    "usercast_process_info": {"process": ANY, "version": ANY, "contract": ANY},
    "usercast_tasks_total": {"task": ANY, "outcome": ("done", "failed")},
    "usercast_task_seconds": {"task": ANY},
    "usercast_ready": {},
    # django-prometheus's and Python's.
    "django_http_requests_total_by_view_transport_method_total": {"view": ANY, "method": ANY},
    "django_http_responses_total_by_status_view_method_total": {"status": ANY, "view": ANY},
    "django_http_requests_latency_seconds_by_view_method": {"view": ANY, "method": ANY},
    "django_db_execute_total": {"alias": ANY},
    "django_db_errors_total": {"alias": ANY, "type": ANY},
    "django_db_new_connections_total": {"alias": ANY},
    "django_db_query_duration_seconds": {"alias": ANY},
    "django_cache_get_total": {"backend": ANY},
    "django_cache_get_hits_total": {"backend": ANY},
    "process_resident_memory_bytes": {},
    "process_cpu_seconds_total": {},
    "process_open_fds": {},
}
HISTOGRAMS = {name for name in METRICS if re.search(r"(_seconds|_changes|_method)$", name)} - {
    name for name in METRICS if re.search(r"(age|oldest)_seconds$", name)
}
#: What Prometheus adds to every series, by its configuration and its targets.
TARGET_LABELS: dict[str, tuple[str, ...]] = {
    "service": ANY,
    "process": ("web", "relay", "worker", "beat", "poller", "clock"),
    "job": ("usercast-web", "usercast", "certificates"),
    "instance": ANY,
    "alertstate": ("pending", "firing"),
    "le": ANY,
}


def run(*command: str | Path, **options: Any) -> None:
    """A program that has to be content; what it says otherwise is the failure."""
    if shutil.which(command[0]) is None:
        pytest.fail(
            f"{command[0]} is not installed: "
            "apt-get install prometheus prometheus-blackbox-exporter"
        )
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def family(series: str) -> str:
    """The metric that a series of a histogram belongs to; of any other, its own name."""
    whole = re.sub(r"_(bucket|count|sum)$", "", series)
    return whole if whole in HISTOGRAMS else series


# Prometheus.


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    targets = {
        path.stem: json.loads(path.read_text()) for path in PROMETHEUS.glob("targets/*.json")
    }
    assert set(targets) == {"web", "processes", "certificates", "alertmanagers"}
    run("promtool", "check", "config", write_configuration(tmp_path, token="t", targets=targets))


def test_the_blackbox_exporter_takes_its_configuration() -> None:
    file = PROMETHEUS / "blackbox.yml"
    run("prometheus-blackbox-exporter", "--config.check", f"--config.file={file}")


def test_alerts_are_raised_when_they_should_and_only_then() -> None:
    run("promtool", "test", "rules", *sorted(PROMETHEUS.glob("tests/*.yml")))


def test_every_alert_has_been_seen_raised() -> None:
    raised = {
        case["alertname"]
        for path in PROMETHEUS.glob("tests/*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    assert raised == {rule["alert"] for rule in rules() if "alert" in rule}


def test_every_expression_parses(tmp_path: Path) -> None:
    file = tmp_path / "all.yml"
    all_rules = [
        {"record": f"e{number}", "expr": text} for number, (_, text) in enumerate(expressions())
    ]
    assert len(all_rules) > 50
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": all_rules}]}))
    run("promtool", "check", "rules", file)


def test_metrics_are_told_from_what_else_an_expression_says() -> None:
    assert metrics_in(
        'sum by (service) (rate(a_total{lane="live"}[5m])) / 2e3 > 21 * 86400'
        ' and on (client) label_replace(b:c offset 1m, "client", "$1", "service", "(.+)")'
        " unless d or time() - e"
    ) == {"a_total", "b:c", "d", "e"}


def test_every_metric_is_one_that_a_process_tells() -> None:
    assert {family(name) for name in metrics_used()} <= METRICS.keys()


def test_every_label_is_one_of_its_metrics_with_a_value_that_it_has() -> None:
    for where, text in expressions():
        for name, selector in re.findall(r"([\w:]+)\{([^}]*)\}", text):
            known = TARGET_LABELS | METRICS.get(family(name), {})
            if ":" in name:  # A recorded one: the labels that are left stand first in its name.
                known |= dict.fromkeys(name.partition(":")[0].split("_"), ANY)
            for label, values in re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', selector):
                assert label in known, f"{where}: {name} has no label {label}"
                if known[label] and values != ".*":
                    assert set(values.split("|")) <= set(known[label]), f"{where}: {values}"


def test_every_alert_says_what_it_means_and_where_to_read_on() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert set(rule["annotations"]) == {"summary", "description", "runbook"}
            anchor = rule["annotations"]["runbook"].removeprefix("docs/operations.md#")
            assert anchor == rule["alert"].lower()


def test_every_alert_is_in_the_runbook() -> None:
    assert OPERATIONS.exists(), "docs/operations.md is not there"
    headings = re.findall(r"^#### (Usercast\w+)$", OPERATIONS.read_text(), re.MULTILINE)
    assert {rule["alert"] for rule in rules() if "alert" in rule} == set(headings)


# Grafana.


def test_dashboards_are_three_with_names_of_their_own() -> None:
    assert set(dashboards()) == {"propagation.json", "client.json", "processes.json"}
    assert len({dashboard["uid"] for dashboard in dashboards().values()}) == 3


@pytest.mark.parametrize("name", ["propagation.json", "client.json", "processes.json"])
def test_panels_do_not_overlap(name: str) -> None:
    panels = dashboards()[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = [(panel["title"], *(panel["gridPos"][key] for key in "xywh")) for panel in panels]
    for title, x, _, w, _ in places:
        assert x + w <= 24, f"{title} is wider than the page"
    for (one, x1, y1, w1, h1), (other, x2, y2, w2, h2) in combinations(places, 2):
        apart = x1 + w1 <= x2 or x2 + w2 <= x1 or y1 + h1 <= y2 or y2 + h2 <= y1
        assert apart, f"{one} lies on {other}"


@pytest.mark.parametrize("name", ["propagation.json", "client.json", "processes.json"])
def test_panels_say_what_they_show(name: str) -> None:
    source = yaml.safe_load(
        (DIRECTORY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"][0]
    for panel in dashboards()[name]["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == source["uid"]
            assert target["legendFormat"] or panel["type"] == "table", panel["title"]
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \((.*?)\)", target["expr"]))))
            kept |= set(re.findall(r"[a-z]+", target["expr"].partition(":")[0]))
            is_whole = not re.search(r"\b(sum|max|min)\b", target["expr"])
            assert labels <= kept or is_whole, f"{panel['title']}: {labels - kept} is not left"


# Elasticsearch.


def test_the_index_has_exactly_the_fields_that_are_logged_or_shipped() -> None:
    fields, shipped_fields = (
        types_of(json.loads((ELASTICSEARCH / name).read_text())["template"]["mappings"])
        for name in ("fields.json", "shipped.json")
    )
    # Of labels only the names are free: what code logs under a name that FIELDS does not have.
    assert fields == {field.name: field.type for field in FIELDS.values()} | {"labels": "object"}
    assert shipped_fields == {
        "agent.type": "keyword",
        "agent.version": "keyword",
        "host.name": "keyword",
        "stream": "keyword",
        "log.file.path": "keyword",
        "log.flags": "keyword",
        "log.offset": "long",
        "data_stream.type": "constant_keyword",
        "data_stream.dataset": "constant_keyword",
        "data_stream.namespace": "constant_keyword",
    }
    whole = index_template()["template"]["mappings"]
    assert types_of(whole) == fields | shipped_fields
    assert whole["dynamic"] == "strict"


def test_the_index_is_rolled_over_each_day_and_kept_for_thirty() -> None:
    phases = json.loads((ELASTICSEARCH / "lifecycle.json").read_text())["policy"]["phases"]
    assert phases["hot"]["actions"]["rollover"]["max_age"] == "1d"
    assert phases["delete"]["min_age"] == "30d"


def test_setup_puts_every_file_where_the_template_looks_for_it() -> None:
    with elasticsearch() as stub:
        environment = {
            "PATH": os.environ["PATH"],
            "ELASTICSEARCH_URL": stub.url,
            "ELASTICSEARCH_API_KEY": "id:key",
        }
        run(ELASTICSEARCH / "setup", env=environment)
        template = stub.put["_index_template/usercast-logs"]
        lifecycle = template["template"]["settings"]["index.lifecycle.name"]
        assert f"_ilm/policy/{lifecycle}" in stub.put
        assert stub.template_of("logs-usercast-default") == index_template()
        assert set(stub.authorizations) == {"ApiKey aWQ6a2V5"}


def test_setup_names_what_is_missing() -> None:
    ended = subprocess.run(
        [ELASTICSEARCH / "setup"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert "ELASTICSEARCH_URL" in ended.stderr


# Filebeat and Logstash.


def filebeat() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DIRECTORY / "filebeat/filebeat.yml").read_text())
    return found


def test_filebeat_reads_lines_of_json_by_filestream() -> None:
    inputs = filebeat()["filebeat.inputs"]
    assert {one["type"] for one in inputs} == {"filestream"}
    assert len({one["id"] for one in inputs}) == len(inputs)
    assert [next(iter(parser)) for parser in inputs[0]["parsers"]] == ["container", "ndjson"]
    for one in inputs:
        ndjson = one["parsers"][-1]["ndjson"]
        assert ndjson["target"] == ""
        assert ndjson["overwrite_keys"]
        assert ndjson["expand_keys"]


def test_filebeat_sends_what_the_index_takes_and_leaves_nothing_out() -> None:
    kept = filebeat()["processors"][1]["include_fields"]["fields"]
    taken = {"@timestamp", *kept}
    known = types_of(index_template()["template"]["mappings"])
    # data_stream is Logstash's.
    for name in (name for name in known if not name.startswith("data_stream.")):
        assert any(name == one or name.startswith(f"{one}.") for one in taken), name
    for one in kept:
        assert any(name == one or name.startswith(f"{one}.") for name in known), one


def test_filebeat_writes_to_the_data_stream_of_the_template() -> None:
    assert filebeat()["output.elasticsearch"]["index"] in index_template()["index_patterns"]


def test_logstash_writes_to_the_data_stream_of_the_template() -> None:
    [pipeline] = yaml.safe_load((DIRECTORY / "logstash/pipelines.yml").read_text())
    text = (DIRECTORY / "logstash" / Path(pipeline["path.config"]).name).read_text()
    ids = re.findall(r'\bid => "(.*)"', text)
    assert len(set(ids)) == len(ids) == 3
    parts = dict(re.findall(r'data_stream_(type|dataset|namespace) => "(.*)"', text))
    name = "{type}-{dataset}-{namespace}".format(**parts)
    assert name in index_template()["index_patterns"]
    constants = index_template()["template"]["mappings"]["properties"]["data_stream"]["properties"]
    assert {part: field["value"] for part, field in constants.items()} == parts


# Kibana.


def test_saved_views_ask_for_fields_that_there_are() -> None:
    lines = (DIRECTORY / "kibana/views.ndjson").read_text().splitlines()
    [view, *searches] = [json.loads(line) for line in lines]
    names = {field.name for field in FIELDS.values()}
    assert view["attributes"]["title"] in index_template()["index_patterns"]
    assert view["attributes"]["timeFieldName"] in names
    assert set(json.loads(view["attributes"]["fieldFormatMap"])) <= names
    assert len(searches) == 4
    assert len({search["id"] for search in searches}) == 4
    for search in searches:
        [reference] = search["references"]
        assert (reference["type"], reference["id"]) == (view["type"], view["id"])
        source = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        assert source["indexRefName"] == reference["name"]
        asked = re.findall(r"([\w.@]+)\s*[:<>]", source["query"]["query"])
        assert asked
        sorted_by = [name for name, _ in search["attributes"]["sort"]]
        assert {*asked, *sorted_by, *search["attributes"]["columns"]} <= names


# The stand-ins for Elasticsearch and Filebeat.

LINE = {
    "@timestamp": "2026-11-26T06:09:40.123456Z",
    "log": {"level": "info", "logger": "usercast_client.inbox.poller"},
    "message": "applied",
    "service": {"name": "billing"},
    "ecs.version": "1.6.0",
}


def refused(field: dict[str, Any]) -> str:
    """With this field in it, how a document is refused; nothing if it is not."""
    try:
        check(LINE | field, index_template()["template"]["mappings"])
    except Refused as refusal:
        return refusal.kind
    return ""


@pytest.mark.parametrize(
    "field",
    [
        {},
        {"trace": {"id": ["a", "b"]}},
        {"trace.id": "a"},
        {"trace": {"id": None}},
        {"usercast": {"changes": 2**63 - 1}},
        {"usercast.changes": [1, 2, [3]]},
        {"usercast": [{"changes": 1}, {"stale": 0}]},
        {"usercast": {"for_seconds": 1}},
        {"usercast": {"wrong": 5}},
        {"labels": {"anything": "it is text"}},
        {"labels.anything": "it is text"},
        {"@timestamp": "2026-11-26T06:09:40+01:00"},
        {"data_stream": {"type": "logs"}},
    ],
)
def test_the_stub_takes_what_has_its_type(field: dict[str, Any]) -> None:
    assert refused(field) == ""


@pytest.mark.parametrize(
    "field",
    [
        {"surprise": 1},
        {"surprise": None},
        {"usercast": {"surprise": 1}},
        {"usercast.surprise": 1},
        {"log": {"file": {"surprise": 1}}},
    ],
)
def test_the_stub_refuses_a_field_that_it_does_not_know(field: dict[str, Any]) -> None:
    assert refused(field) == "strict_dynamic_mapping_exception"


@pytest.mark.parametrize(
    "field",
    [
        {"usercast": {"changes": "2"}},
        {"usercast": {"changes": 2.5}},
        {"usercast": {"changes": True}},
        {"usercast": {"changes": 2**63}},
        {"usercast": {"changes": [1, "2"]}},
        {"usercast": {"changes": {"a": 1}}},
        {"usercast": {"for_seconds": "1.5"}},
        {"usercast": {"for_seconds": float("inf")}},
        {"usercast": "text"},
        {"usercast": [{"changes": 1}, "text"]},
        {"trace": {"id": {"a": "b"}}},
        {"trace.id.more": "a"},
        {"message": {"text": "a"}},
        {"labels": {"anything": {"deeper": "text"}}},
        {"@timestamp": "yesterday"},
        {"@timestamp": None},
        {"@timestamp": ["2026-11-26", "2026-11-27"]},
        {"data_stream": {"type": "metrics"}},
    ],
)
def test_the_stub_refuses_what_has_another_type(field: dict[str, Any]) -> None:
    assert refused(field) == "document_parsing_exception"


def test_the_stub_answers_for_each_document() -> None:
    lines = [
        *({"create": {}}, LINE),
        *({"create": {}}, LINE | {"surprise": 1}),
        *({"index": {}}, LINE),
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    with elasticsearch() as stub, httpx.Client(base_url=stub.url, trust_env=False) as http:
        nowhere = http.post("/logs-usercast-default/_bulk", content=body).json()
        stub.install(index_template())
        answer = http.post("/logs-usercast-default/_bulk", content=body).json()
        assert stub.documents == [LINE]
    assert {item["create"]["status"] for item in nowhere["items"]} == {400}
    assert answer["errors"]
    assert [item["create"]["status"] for item in answer["items"]] == [201, 400, 400]


def test_lines_are_shipped_as_filebeat_would(tmp_path: Path) -> None:
    log = tmp_path / "poller.log"
    lines = ["Fatal Python error: Segmentation fault", json.dumps(LINE), '{"level": "theirs"}']
    log.write_text("\n".join(lines) + "\n")
    [one] = shipped(log)
    assert one.line == 2
    assert one.document == {
        "@timestamp": "2026-11-26T06:09:40.123456Z",
        "agent": {"type": "filebeat", "version": "9.0.0"},
        "ecs": {"version": "1.6.0"},
        "host": {"name": "node-1"},
        "log": {
            "level": "info",
            "logger": "usercast_client.inbox.poller",
            "file": {"path": str(log)},
            "offset": len(lines[0]) + 1,
        },
        "message": "applied",
        "service": {"name": "billing"},
    }


def test_refused_lines_are_told_with_their_place(tmp_path: Path) -> None:
    log = tmp_path / "poller.log"
    wrong = LINE | {"usercast": {"changes": "two"}}
    log.write_text("".join(json.dumps(line) + "\n" for line in (LINE, wrong, LINE)))
    [refusal] = ship([log], index_template())
    assert (refusal.path, refusal.line) == (log, 2)
    assert refusal.kind == "document_parsing_exception"
    assert "usercast.changes" in refusal.reason


def test_a_file_without_a_line_to_ship_proves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("not a line of ours\n")
    with pytest.raises(ValueError, match=r"web\.log"):
        ship([log], index_template())
