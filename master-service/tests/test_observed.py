"""What the master tells of itself: the log of a request, the trace of a change, the metrics."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from calling import caller
from django.conf import LazySettings
from django.core.cache import caches
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from usercast import metrics, tracing
from usercast.contract import CONTRACT_VERSION
from usercast_master.accounts.models import User
from usercast_master.api.models import Scope
from usercast_master.clients import gauges as clients_gauges
from usercast_master.clients.models import Client as Registered
from usercast_master.outbox import gauges as outbox_gauges
from usercast_master.outbox import publisher
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db
ANN = f"00-{'a' * 32}-{'b' * 16}-01"


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The fields of the log lines of an event."""
    return [
        record.msg
        for record in caplog.records
        if isinstance(record.msg, dict) and record.msg["event"] == event
    ]


def api_of(scope: Scope) -> APIClient:
    """The API for a technical account."""
    account = User.objects.create_superuser("caller", password="correct horse battery")
    return caller(account, scope)


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_request_is_logged_by_its_route_and_by_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    user = User.objects.create(username="ann")
    api = api_of(Scope.READ)
    answer = api.get(
        f"/api/v1/users/{user.pk}/?search=ann@example.org", headers={"X-Request-ID": "from-a-proxy"}
    )
    [line] = told(caplog, "request")
    assert (line["method"], line["status"], line["request_id"]) == ("GET", 200, "from-a-proxy")
    assert line["route"] == r"api/v1/users/(?P<pk>[^/.]+)/$"
    assert line["user_id"] == str(User.objects.get(username="caller").pk)
    assert line["duration_ns"] > 0
    assert answer.headers["X-Request-ID"] == "from-a-proxy"


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "a b c d e f", "<script>alert(1)"])
def test_request_without_a_usable_id_is_given_one(client: Client, given: str) -> None:
    answer = client.get("/admin/login/", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] != given
    assert len(answer.headers["X-Request-ID"]) == 32


def test_the_log_asks_no_database_who_it_is(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client.force_login(User.objects.create_superuser("admin", password="correct horse battery"))
    with django_assert_num_queries(0):
        client.get("/nowhere/")


def test_failure_is_logged_with_its_place_and_no_words_of_the_caller(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "Ann Example, ann@example.org"

    def fail(*_args: object) -> None:
        raise ValueError(words)

    api = api_of(Scope.READ)
    api.raise_request_exception = False
    monkeypatch.setattr("usercast_master.api.views.UserViewSet.list", fail)
    assert api.get("/api/v1/users/?search=Ann").status_code == 500
    [failure] = told(caplog, "request_failed")
    assert failure["error_type"] == "builtins.ValueError"
    assert "in fail" in failure["exception"]
    [request] = told(caplog, "request")
    assert (request["status"], request["level"]) == (500, "error")
    assert failure["trace"] == request["trace"]
    assert failure["request_id"] == request["request_id"]
    shown = json.dumps([failure | {"exception": ""}, request], default=str)
    assert "Ann" not in shown
    assert (
        "ann@example.org" not in shown + failure["exception"].replace('"Ann Example, ', "")[-200:]
    )


def test_change_carries_the_trace_of_its_request_to_the_message(
    deliveries: Callable[[], list], caplog: pytest.LogCaptureFixture
) -> None:
    answer = api_of(Scope.WRITE).post(
        "/api/v1/users/", {"username": "ann"}, headers={"traceparent": ANN}
    )
    assert answer.status_code == 201
    assert OutboxEntry.objects.get(user_id=answer.json()["id"]).traceparent == ANN
    assert told(caplog, "request")[0]["trace"] == "a" * 32
    publisher.publish_pending()
    [(attributes, [change])] = deliveries()
    assert attributes["traceparent"] == change.traceparent == ANN
    [published] = told(caplog, "published")
    assert published["trace"] == ["a" * 32]


def test_bulk_write_is_one_trace_and_several_changes_are_several(
    deliveries: Callable[[], list], caplog: pytest.LogCaptureFixture
) -> None:
    people = [User.objects.create(username=f"user{number}") for number in range(3)]
    publisher.publish_pending()
    deliveries()
    caplog.clear()
    with tracing.span("work", of=[ANN]):
        User.objects.filter(pk__in=[one.pk for one in people]).update(first_name="Ann")
    publisher.publish_pending()
    [(attributes, changes)] = deliveries()
    assert {change.traceparent for change in changes} == {attributes["traceparent"]} == {ANN}
    for one in people:
        one.last_name = "Example"
        one.save()
    publisher.publish_pending()
    [(attributes, changes)] = deliveries()
    traces = {change.traceparent for change in changes}
    assert len(traces) == 3
    assert attributes["traceparent"] not in traces, "a trace of its own"
    assert len(told(caplog, "published")[-1]["trace"]) == 3


def test_republished_state_keeps_its_trace(deliveries: Callable[[], list]) -> None:
    with tracing.span("work", of=[ANN]):
        User.objects.create(username="ann")
    publisher.publish_pending()
    publisher.publish_pending()
    [(_, [change])] = deliveries()
    assert change.traceparent == ANN


# Metrics


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("given", ["", "Bearer wrong", "secret", "Basic secret"])
def test_metrics_are_for_who_has_the_token(
    client: Client, settings: LazySettings, given: str
) -> None:
    settings.METRICS_TOKEN = "secret"
    assert client.get("/metrics", headers={"Authorization": given}).status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_prometheus_comes_by_plain_http_and_by_address(
    client: Client, settings: LazySettings
) -> None:
    settings.METRICS_TOKEN = "secret"
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["desk.example.org"]
    headers = {"Authorization": "Bearer secret", "Host": "10.0.0.7:8000"}
    assert client.get("/metrics", headers=headers).status_code == 200


def test_without_a_token_there_are_no_metrics(client: Client, settings: LazySettings) -> None:
    settings.METRICS_TOKEN = None
    for given in ("Bearer ", "Bearer None", ""):
        assert client.get("/metrics", headers={"Authorization": given}).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_changes_are_counted_when_they_are_committed_and_when_they_are_out(
    client: Client, settings: LazySettings, deliveries: Callable[[], list]
) -> None:
    settings.METRICS_TOKEN = "secret"

    def now() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        answer = client.get("/metrics", headers={"Authorization": "Bearer secret"})
        return samples(answer.content.decode())

    before = now()
    people = User.objects.bulk_create([User(username=f"user{number}") for number in range(3)])
    people[0].is_active = False
    people[0].save()
    publisher.publish_pending()
    after = now()

    def more(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    assert more("usercast_changes_captured_total", priority="bulk") == 3
    assert more("usercast_changes_captured_total", priority="urgent") == 1
    assert more("usercast_changes_published_total", priority="bulk") == 2
    assert more("usercast_changes_published_total", priority="urgent") == 1
    assert more("usercast_message_changes_sum") == 3
    assert more("usercast_publish_seconds_count") >= 1
    assert more("django_db_execute_total", alias="default", vendor="postgresql") > 0
    assert any(
        name == "usercast_process_info" and ("contract", CONTRACT_VERSION) in labels
        for name, labels in after
    )


def test_throttling_shows_in_the_cache_metrics() -> None:
    assert type(caches["throttle"]).__module__.startswith("django_prometheus")


def test_gauges_tell_what_the_outbox_owes() -> None:
    User.objects.create(username="ann")
    User.objects.bulk_create([User(username=f"user{number}") for number in range(3)])
    OutboxEntry.objects.filter(user_id=User.objects.get(username="ann").pk).update(
        parked_reason="too large"
    )
    found = gauges_of(outbox_gauges.gauges)
    assert found["usercast_outbox_entries", (("priority", "bulk"),)] == 3
    assert found["usercast_outbox_entries", (("priority", "single"),)] == 0
    assert found["usercast_outbox_oldest_seconds", (("priority", "bulk"),)] > 0
    assert found["usercast_outbox_oldest_seconds", (("priority", "urgent"),)] == 0
    assert found["usercast_outbox_parked", ()] == 1


def gauges_of(source: Callable[[], Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of one source."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in source()
        for sample in family.samples
    }


def test_gauges_tell_how_old_each_client_is() -> None:
    now = timezone.now()
    lane = {"sent_at": (now - timedelta(seconds=40)).isoformat(), "took_ms": 3}
    fresh = {"sent_at": now.isoformat(), "took_ms": 3}
    report = {
        "live": lane,
        "bulk": fresh,
        "dead_letters": 2,
        "check": {"at": now.isoformat(), "took_ms": 5, "drift": 7, "behind": 0},
    }
    Registered.objects.create(
        name="billing",
        registered_at=now - timedelta(days=1),
        reported_at=now - timedelta(seconds=90),
        report=report,
    )
    Registered.objects.create(name="new", registered_at=now - timedelta(seconds=10))
    Registered.objects.create(name="only-its-queues")
    found = gauges_of(clients_gauges.gauges)
    billing, new = (("client", "billing"),), (("client", "new"),)
    assert 90 <= found["usercast_client_report_age_seconds", billing] < 95
    assert 40 <= found["usercast_client_lane_age_seconds", billing] < 45
    assert found["usercast_client_drift_users", billing] == 7
    assert found["usercast_client_dead_letters", billing] == 2
    assert 10 <= found["usercast_client_report_age_seconds", new] < 15
    assert ("usercast_client_lane_age_seconds", new) not in found, "not known is not told"
    assert not any("only-its-queues" in str(key) for key in found)
    assert found["usercast_dismissals_overdue", ()] == 0


@pytest.mark.django_db(transaction=True)
def test_source_that_fails_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise ValueError("Ann")

    assert list(metrics.Gauges(broken).collect()) == []
    [line] = told(caplog, "metrics_missing")
    assert line["reason"] == "ValueError"
