"""What a client tells of itself: the trace of a change up to the push, outcomes, lags, gauges."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from botocore.exceptions import EndpointConnectionError
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from uuid_utils.compat import uuid7

from usercast import tracing
from usercast.contract import Lane, UserChange, encode_batch, encode_change
from usercast.lifecycle import Stop
from usercast.testing import deletion, upsert
from usercast_client import metrics
from usercast_client.inbox import poller
from usercast_client.inbox.hold import Hold
from usercast_client.inbox.models import LaneProbe
from usercast_client.live import fanout
from usercast_client.live.access import View
from usercast_client.live.broadcast import push_of
from usercast_client.replica.apply import Outcome, apply
from usercast_client.replica.models import Check, Kept, User
from usercast_client.report.gauges import gauges

pytestmark = pytest.mark.django_db
ANN, BOB = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")


@pytest.fixture(autouse=True)
def _no_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have left some."""
    monkeypatch.setattr(metrics, "DEAD_SINCE", {})


class Pushes:
    """A broadcaster that remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []

    def push(self, told: Any, *, of: Any) -> None:
        if told.entries:
            self.given.append(push_of(told) | {"of": tracing.representatives(of)})


def made_by(traceparent: str, change: UserChange) -> UserChange:
    return msgspec.structs.replace(change, traceparent=traceparent)


def message(*changes: UserChange, traceparent: str | None = None, body: str = "") -> Any:
    """As SQS gives it."""
    body = body or encode_batch([encode_change(one) for one in changes], compress=False).body
    attributes = {"traceparent": {"DataType": "String", "StringValue": traceparent}}
    return {
        "MessageId": "m-1",
        "ReceiptHandle": "r-1",
        "Body": body,
        "MessageAttributes": attributes if traceparent else {},
    }


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pushes]]:
    """Have the poller handle messages of no queue; returns what it pushed."""
    monkeypatch.setattr(poller, "delete", lambda *_: None)
    monkeypatch.setattr(poller, "give_back", lambda *_, **__: None)
    hold = Hold()

    def do(*messages: Any, lane: Lane = Lane.LIVE) -> Pushes:
        pushes = Pushes()
        shared = poller.Lanes(Stop(), hold=hold, broadcaster=pushes)  # type: ignore[arg-type]
        poller.handle(messages, lane=lane, queue_url="none", shared=shared)
        return pushes

    yield do
    hold.close()


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """The fields of the log lines of an event."""
    return [r.msg for r in caplog.records if isinstance(r.msg, dict) and r.msg["event"] == event]


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


# The trace


def test_message_is_logged_once_applied_with_the_traces_of_its_changes(
    handle: Callable[..., Pushes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    changes = [made_by(ANN, upsert(username="ann")), made_by(BOB, upsert(username="bob"))]
    pushes = handle(message(*changes, upsert(username="cem"), traceparent=ANN))
    [line] = told(caplog, "applied")
    assert line["trace"] == ["a" * 32, "b" * 32]
    assert (line["changes"], line["lane"], line["message_id"]) == (3, "live", "m-1")
    [push] = pushes.given
    assert push["of"] == [ANN, BOB]


def test_refused_change_is_logged_with_its_trace_and_its_message_is_not_applied(
    handle: Callable[..., Pushes],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)

    def refuse(_changes: object) -> None:
        raise ValueError("Ann")

    monkeypatch.setattr(poller, "apply", refuse)
    before = value("usercast_changes_applied_total", outcome="rejected")
    handle(message(made_by(ANN, upsert(username="ann"))))
    [line] = told(caplog, "change_refused")
    assert (line["trace"], line["reason"]) == (["a" * 32], "ValueError")
    assert not told(caplog, "applied")
    assert value("usercast_changes_applied_total", outcome="rejected") == before + 1


def test_unreadable_message_is_logged_with_its_trace(
    handle: Callable[..., Pushes], caplog: pytest.LogCaptureFixture
) -> None:
    before = value("usercast_changes_applied_total", outcome="rejected")
    handle(message(traceparent=ANN, body="no JSON"))
    [line] = told(caplog, "change_rejected")
    assert line["trace"] == "a" * 32
    assert value("usercast_changes_applied_total", outcome="rejected") == before + 1


def test_applied_is_logged_though_its_message_cannot_be_deleted(
    handle: Callable[..., Pushes],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is committed: whoever looks for the change must not look for it in the queue."""
    caplog.set_level(logging.INFO)

    def away(*_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://nowhere")

    monkeypatch.setattr(poller, "delete", away)
    with pytest.raises(EndpointConnectionError):
        handle(message(made_by(ANN, upsert(username="ann"))))
    [line] = told(caplog, "applied")
    assert line["trace"] == ["a" * 32]


@pytest.mark.parametrize("traceparent", ["nonsense", "é" * 400, "00-" + "0" * 52])
def test_what_is_no_trace_is_no_reason_to_refuse(
    handle: Callable[..., Pushes], traceparent: str
) -> None:
    handle(message(made_by(traceparent, upsert(username="ann")), traceparent=traceparent))
    assert User.objects.filter(username="ann").exists()


class Page:
    """A socket that looks at the dashboard."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.grant = type("Grant", (), {"view": View.DASHBOARD})()

    def offer(self, frame: str) -> None:
        self.frames.append(frame)


async def offered(push: dict[str, Any], pages: list[Page]) -> None:
    fan_out = fanout.FanOut(set(pages))  # type: ignore[arg-type]
    fan_out.push(push)
    await fan_out._tell()


@pytest.mark.django_db(transaction=True)
def test_push_is_logged_and_timed_where_somebody_looks(
    handle: Callable[..., Pushes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    long_ago = datetime.now(UTC) - timedelta(seconds=40)
    changes = [made_by(ANN, upsert(username=name, changed_at=long_ago)) for name in ("ann", "bob")]
    [push] = handle(message(*changes)).given
    before = value("usercast_pushed_lag_seconds_count"), value("usercast_pushed_lag_seconds_sum")
    asyncio.run(offered(push, []))
    assert not told(caplog, "pushed"), "nobody looks"
    asyncio.run(offered(push, [Page(), Page()]))
    [line] = told(caplog, "pushed")
    assert (line["sockets"], line["changes"], line["trace"]) == (2, 2, ["a" * 32])
    assert value("usercast_pushed_lag_seconds_count") == before[0] + 2
    assert 80 <= value("usercast_pushed_lag_seconds_sum") - before[1] < 90


@pytest.mark.django_db(transaction=True)
def test_change_is_one_trace_from_its_message_to_the_push(
    handle: Callable[..., Pushes], monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("usercast"))
    [push] = handle(message(made_by(ANN, upsert(username="ann")), traceparent=ANN)).given
    asyncio.run(offered(push, [Page()]))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"receive", "apply", "push"}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {"a" * 32}
    assert f"{spans['receive'].parent.span_id:016x}" == "a" * 16
    assert spans["apply"].parent.span_id == spans["receive"].context.span_id
    assert trace.get_current_span().get_span_context().is_valid is False


# Outcomes and lags


def test_each_change_has_one_outcome() -> None:
    ann, bob, cem = (uuid7() for _ in range(3))
    assert apply([upsert(ann, 3, username="ann")]).outcomes == {
        Outcome.INSERTED: 1,
        Outcome.STALE: 0,
    }
    User.objects.create_user("local")
    outcomes = apply(
        [
            upsert(ann, 4, username="ann", first_name="A"),
            upsert(ann, 2, username="ann"),
            upsert(bob, 1, username="bob"),
            upsert(cem, 1, username="local"),
            deletion(uuid7(), 9),
        ]
    ).outcomes
    assert +outcomes == {
        Outcome.UPDATED: 1,
        Outcome.STALE: 1,
        Outcome.INSERTED: 1,
        Outcome.CONFLICT: 1,
        Outcome.DELETED: 1,
    }
    assert +apply([upsert(ann, 4, username="ann")]).outcomes == {Outcome.DUPLICATE: 1}
    assert +apply([upsert(ann, 1, username="ann")]).outcomes == {Outcome.STALE: 1}
    assert +apply([deletion(ann, 5)]).outcomes == {Outcome.DELETED: 1}
    assert +apply([upsert(ann, 4, username="ann")]).outcomes == {Outcome.STALE: 1}
    assert +apply([deletion(ann, 5)]).outcomes == {Outcome.DUPLICATE: 1}
    assert not Kept.objects.exists()


def test_local_account_under_a_users_id_is_a_conflict() -> None:
    local = User.objects.create_user("local")
    assert +apply([upsert(local.pk, 1, username="ann")]).outcomes == {Outcome.CONFLICT: 1}


def test_lag_is_counted_by_lane(handle: Callable[..., Pushes]) -> None:
    count = "usercast_applied_lag_seconds_count"
    before = {lane: value(count, lane=lane.value) for lane in Lane}
    inserted = value("usercast_changes_applied_total", outcome="inserted")
    handle(message(upsert(username="ann"), upsert(username="bob")), lane=Lane.BULK)
    assert value(count, lane="bulk") == before[Lane.BULK] + 2
    assert value(count, lane="live") == before[Lane.LIVE]
    assert value("usercast_changes_applied_total", outcome="inserted") == inserted + 2


# Gauges and the page


def test_gauges_tell_of_lanes_and_of_the_last_comparison() -> None:
    now = timezone.now()
    assert [sample for family in gauges() for sample in family.samples] == []
    LaneProbe.objects.create(lane="live", sent_at=now - timedelta(seconds=7), received_at=now)
    Check.objects.create(
        at=now - timedelta(seconds=9), took_ms=5, next_at=now, users=3, drift=2, behind=1
    )
    found = {
        (sample.name, sample.labels.get("queue")): sample.value
        for family in gauges()
        for sample in family.samples
    }
    assert 7 <= found["usercast_queue_oldest_seconds", "live"] < 9
    assert ("usercast_queue_oldest_seconds", "bulk") not in found
    assert found["usercast_drift_users", None] == 2
    assert 9 <= found["usercast_compared_age_seconds", None] < 11


def test_dead_letters_grow_older_until_they_are_gone() -> None:
    def age() -> float | None:
        return {
            sample.labels.get("queue"): sample.value
            for family in gauges()
            for sample in family.samples
        }.get("dead")

    metrics.note_queue("dead", 0, is_dead=True)
    assert age() is None
    metrics.note_queue("dead", 3, is_dead=True)
    first = age()
    metrics.note_queue("dead", 4, is_dead=True)
    second = age()
    assert first is not None
    assert second is not None
    assert 0 < first < second
    metrics.note_queue("dead", 0, is_dead=True)
    assert age() is None


def test_fetch_that_brings_something_has_healed_a_gap(client: Client) -> None:
    client.force_login(User.objects.create_superuser("staff", password="correct horse battery"))
    apply([upsert(username="ann")])
    before = value("usercast_feed_gaps_healed_total")
    assert client.get("/api/v1/live/changes/?since=1").status_code == 200
    assert value("usercast_feed_gaps_healed_total") == before, "there was nothing to heal"
    assert len(client.get("/api/v1/live/changes/?since=0").json()["changes"]) == 1
    assert value("usercast_feed_gaps_healed_total") == before + 1


def test_metrics_are_for_who_has_the_token(client: Client, settings: LazySettings) -> None:
    settings.METRICS_TOKEN = "secret"
    assert client.get("/metrics").status_code == 404
    answer = client.get("/metrics", headers={"Authorization": "Bearer secret"})
    assert "usercast_sockets_open" in answer.content.decode()


async def test_request_is_logged_under_asgi_too(
    async_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await async_client.get("/login/?next=/ann", headers={"traceparent": ANN})
    [line] = told(caplog, "request")
    assert (line["route"], line["status"], line["trace"]) == ("login/", 200, "a" * 32)
